"""A summary and a log never take the place of a file of the batch; said before anything is sent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "src")}
ROW = '{"custom_id": "a", "body": {"model": "m", "input": "[[sleep 0.1]] x"}}\n'


def batchrun(folder, *arguments, **more):
    (folder / "in").write_text(ROW)
    return subprocess.run(
        [sys.executable, "-m", "batchrun", *arguments, "--demo"], cwd=folder, env=ENVIRONMENT, capture_output=True,
        text=True, timeout=240, check=False, **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    "flags", [("--summary", "in"), ("--log-json", "in"), ("--log-json", "out.journal"), ("--journal", "out")]
)
def test_one_file_for_two_is_refused_and_nothing_is_written(tmp_path, flags):
    done = batchrun(tmp_path, "in", "-o", "out", *flags)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "expected a file of its own" in done.stderr
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("in", ROW)]


@pytest.mark.parametrize(
    ("flags", "named"), [(("-o", "nodir/x"), "nodir/x"), (("-o", "out", "--journal", "nodir/j"), "nodir/j")]
)
def test_a_missing_folder_is_reported_for_the_file_that_was_named(tmp_path, flags, named):
    done = batchrun(tmp_path, "in", *flags)
    assert done.returncode == 4
    assert f"{named}: its folder does not exist; make the folder first" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_summary_is_private_and_goes_through_no_link(tmp_path):
    done = batchrun(tmp_path, "in", "-o", "out", "--summary", "told", "--quiet")
    assert (done.returncode, (tmp_path / "told").stat().st_mode & 0o777) == (0, 0o600)
    (tmp_path / "link").symlink_to("told")
    done = batchrun(tmp_path, "in", "-o", "other", "--summary", "link")
    assert done.returncode == 4
    assert "expected a regular file, found a symbolic link" in done.stderr
    assert not (tmp_path / "other").exists()
