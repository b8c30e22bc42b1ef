"""The lowest versions that pyproject.toml allows are what somebody has: `--long` installs them, and tests with them."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
USED = [*PROJECT["dependencies"], *EXTRAS["openai"], *EXTRAS["otel"], *EXTRAS["zst"]]
"""What the program itself imports."""
OLDEST_PYTHON = "python" + re.search(r"\d+\.\d+", PROJECT["requires-python"])[0]
TOOLS = {"hypothesis", "jsonschema", "pytest", "pytest-timeout", "pytest-xdist", "trustme"}
TESTS = [
    *(f"tests/{folder}" for folder in ("core", "services", "api")),
    *(
        f"tests/edge/test_{name}.py"
        for name in ("transports", "own_transport", "httpx_transport", "httpx_adapter", "fault_proxy")
    ),
    *(f"tests/edge/test_{name}.py" for name in ("hostile_words", "source", "progress")),
    "tests/test_errors.py",
    "tests/e2e/test_mixed_batch.py",
    "tests/e2e/test_signals.py",
]
NEWEST_SDK = "words_of_the_installed_sdk or of_the_sdk_has_a_rule"
"""These compare our tables with all that the newest openai package knows."""

OPTIONS = [
    "-p", "no:anyio",  # a plugin that this suite does not use, and whose older versions warn under a new pytest
    "-W", "ignore::ResourceWarning",  # anyio before 4.16 leaves a connection that was given up to the garbage collector
]  # fmt: skip


def lowest(requirement):
    """`requirement` ("name>=1.2; marker") at its lower bound: "name==1.2; marker"."""
    found = re.fullmatch(r"([\w.-]+)>=([\d.]+)(\s*;.*)?", requirement)
    assert found, f"{requirement!r} has no lower bound of the form name>=version"
    name, version, marker = found.groups()
    return f"{name}=={version}{marker or ''}"


def requirements():
    pinned = [lowest(requirement) for requirement in USED]
    (api,) = (one for one in pinned if one.startswith("opentelemetry-api=="))
    tools = [one for one in EXTRAS["test"] if re.match(r"[\w.-]+", one)[0] in TOOLS]
    (users,) = (lowest(one) for one in EXTRAS["test"] if one.startswith("httpx2"))  # a newer one wants a newer anyio
    return [*pinned, api.replace("-api", "-sdk"), users, *tools]


def test_every_dependency_has_a_lower_bound():
    assert [lowest(requirement) for requirement in USED]
    assert len(requirements()) == len(USED) + 2 + len(TOOLS)


@pytest.mark.timeout(1200)  # by --long: downloads, then some minutes of tests
def test_the_lowest_allowed_versions_work(tmp_path, long):
    if not long:
        pytest.skip("installs the lowest allowed versions and tests with them: --long")
    python = shutil.which(OLDEST_PYTHON)
    if python is None:
        pytest.skip(f"no {OLDEST_PYTHON} here")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON", "VIRTUAL"))}

    def run(*command):
        done = subprocess.run(
            command, cwd=ROOT, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        print(done.stdout, file=sys.stderr)
        return done.returncode, done.stdout[-5_000:]

    own = tmp_path / "lowest"
    for command in (
        [python, "-m", "venv", str(own)],
        [str(own / "bin" / "pip"), "install", "--quiet", *requirements()],
        [str(own / "bin" / "pip"), "check"],
        [str(own / "bin" / "python"), "-m", "pytest", "-q", "-n", "2", *OPTIONS, "-k", f"not ({NEWEST_SDK})", *TESTS],
    ):
        code, told = run(*command)
        assert code == 0, told
