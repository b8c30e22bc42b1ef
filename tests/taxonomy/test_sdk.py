"""Jobs polled with the openai SDK itself, installed here and in the versions of other people."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import openai
import pytest

from tests.e2e.stage import CLEAN, PATIENT, ROOT, serving

PROGRAM = Path(__file__).with_name("polled_by_sdk.py")
TIMES = "[times]\nduration = '100ms'\n"

# The first with `background`, the last of each major version.
VERSIONS = ("openai==1.80.0", "openai<2", "openai<3", "openai<4")


def run(python, url):
    environment = {**CLEAN, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [str(python), str(PROGRAM), url], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@PATIENT
def test_a_job_that_failed_is_caught_as_the_sdks_own_exception(tmp_path):
    with serving(tmp_path, TIMES) as service:
        assert run(sys.executable, service.url) == openai.__version__


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_same_with_other_versions_of_the_sdk(version, tmp_path, long):
    if not long:
        pytest.skip("installs the SDK in a fresh environment; --long")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", version, "orjson"]
    subprocess.run(command, check=True, capture_output=True)
    with serving(tmp_path, TIMES) as service:
        found = run(python, service.url)
    print(f"{version}: openai {found}")
    least, _, most = version.partition("<")
    assert found == least.partition("==")[2] if "==" in least else int(found.split(".")[0]) == int(most) - 1
