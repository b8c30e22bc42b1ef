"""What is installed is what is tried here: the wheel holds all of it, and runs away from the checkout."""

import re
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from batchrun.version import DISTRIBUTION, __version__

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command, cwd, **environment):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without the network: the build backend is one of the test dependencies."""
    pytest.importorskip("hatchling", reason="pip install hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    code, _, problem = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    assert code == 0, problem
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(files.read(name))


def test_it_is_called_as_the_messages_say(wheel, metadata):
    assert metadata["Name"] == PROJECT["name"] == DISTRIBUTION
    assert metadata["Version"] == __version__
    assert wheel.name == f"{DISTRIBUTION.replace('-', '_')}-{__version__}-py3-none-any.whl"


def test_every_file_of_the_package_is_in_it(wheel):
    """Modules, `py.typed`, and whatever the program reads at run time."""
    expected = {
        path.relative_to(SOURCE).as_posix()
        for path in (SOURCE / "batchrun").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"batchrun/py.typed", "batchrun/help/resume.md"} <= expected
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
        held = {name for name in names if ".dist-info/" not in name}
        assert held == expected
        (points,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
        assert "batchrun = batchrun.cli:main" in files.read(points).decode()
        (licence,) = (name for name in names if name.endswith(".dist-info/licenses/LICENSE"))
        assert files.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_its_metadata_names_extras_and_licence(metadata):
    assert set(metadata.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    assert {"openai", "otel", "zst"} <= set(metadata.get_all("Provides-Extra"))
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]


def test_it_runs_away_from_the_checkout(wheel, tmp_path):
    target = tmp_path / "installed"
    code, _, problem = run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel,
        cwd=tmp_path,
    )  # fmt: skip
    assert code == 0, problem
    assert (target / "bin" / "batchrun").exists()

    def batchrun(*arguments):
        return run(sys.executable, "-m", "batchrun", *arguments, cwd=tmp_path, PYTHONPATH=str(target))

    where = run(sys.executable, "-c", "import batchrun; print(batchrun.__file__)", cwd=tmp_path, PYTHONPATH=str(target))
    assert where[1].strip() == str(target / "batchrun" / "__init__.py")
    assert batchrun("--version") == (0, f"batchrun {__version__}\n", "")
    assert batchrun("help", "resume")[1].startswith("# Interrupt and resume\n")
    code, _, shown = batchrun(ROOT / "samples" / "quickstart.jsonl", "-o", "out.jsonl", "--demo")
    assert code == 1, shown  # some of its rows fail by design
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 20


def test_nothing_says_to_install_the_package_of_another_author():
    """`pip install 'batchrun[zst]'` would install another project, which has a `batchrun` command too."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    wrong = re.compile(r"batchrun\[[a-z]|(install|add)\s+['\"]?batchrun(?![-\w])")
    named = re.compile(rf"install\s+['\"]?{DISTRIBUTION}\[(\w+)\]")
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix not in {".py", ".md", ".ipynb", ".toml", ".yml"} or path == Path(__file__) or not path.exists():
            continue
        text = path.read_text()
        assert not wrong.search(text), f"{name}: {wrong.search(text)[0]!r}"
        assert set(named.findall(text)) <= set(PROJECT["optional-dependencies"]), name
