"""Real disks that fail below a real process: full, over the file size limit, syncs that fail."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}


def write(path, groups=1, lines=10, prefix=()):
    command = [*prefix, sys.executable, str(Path(__file__).with_name("tape_process.py")), path, groups, lines]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=ENVIRONMENT, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a tmpfs of 64 KiB."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("mounting a tmpfs needs root on Linux")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_o07_a_full_disk_ends_the_run_and_the_next_one_goes_on(small_disk):
    path = small_disk / "out.jsonl"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(30_000))
    told = write(path, groups=1000, lines=40)
    good = 4000 * len(told["synced"])
    assert told["synced"] == list(range(4000, good + 1, 4000))
    ((step, offset, number, text),) = told["failed"]
    assert (step, offset, number) == ("write", good, errno.ENOSPC)
    assert "No space left" in text
    assert told["after"] == "AppendFailed"
    assert path.read_bytes() == (b"x" * 99 + b"\n") * (good // 100), "what was synced stands, and nothing torn"
    ballast.unlink()
    told = write(path, groups=2, lines=40)
    assert (told["synced"], told["failed"]) == ([good + 4000, good + 8000], [])


def test_o07_a_disk_that_is_full_from_the_start_takes_nothing(small_disk):
    (small_disk / "ballast").write_bytes(b"x" * 61_440)
    told = write(small_disk / "out.jsonl", lines=100)
    assert (told["synced"], told["failed"][0][:3]) == ([], ["write", 0, errno.ENOSPC])
    assert (small_disk / "out.jsonl").read_bytes() == b""


def test_o07_the_file_size_limit_ends_the_run_as_a_full_disk_does(tmp_path):
    path = tmp_path / "out.jsonl"
    limited = ["sh", "-c", 'ulimit -f 16; exec "$@"', "sh"]
    told = write(path, groups=1000, lines=10, prefix=limited)
    good = 1000 * len(told["synced"])
    assert told["failed"][0][:3] == ["write", good, errno.EFBIG]
    assert path.stat().st_size == good > 0
    assert write(path)["synced"] == [good + 1000]


def test_o08_a_failed_fdatasync_is_not_tried_again(tmp_path):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed (Debian package strace)")
    path, trace = tmp_path / "out.jsonl", tmp_path / "trace"
    traced = [strace, "-f", "-qq", "-o", str(trace), "-e", "trace=fdatasync,fsync,ftruncate"]
    probe = subprocess.run([*traced, "true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"strace cannot trace here: {probe.stderr.strip()}")
    told = write(path, groups=5, prefix=[*traced, "-e", "inject=fdatasync:error=EIO:when=3"])
    assert told["synced"] == [1000, 2000]
    assert [failure[:3] for failure in told["failed"]] == [["sync", 2000, errno.EIO]]
    assert told["after"] == "AppendFailed"
    calls = [line.split(None, 1)[1].split("(")[0] for line in trace.read_text().splitlines() if "(" in line]
    assert calls == ["fsync", "fdatasync", "fdatasync", "fdatasync", "ftruncate"]
    assert path.stat().st_size == 2000
    assert write(path)["synced"] == [3000]


def test_o09_no_descriptor_left_refuses_the_file_and_leaves_an_open_one_alone(tmp_path):
    code = (
        "import sys\n"
        "from batchrun.edge.append_file import *\n"
        "import resource\n"
        "tape = AppendFile(open_append(sys.argv[1]), synced=print, failed=print)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (tape._file.descriptor + 1, tape._file.descriptor + 1))\n"
        "try:\n    open_append(sys.argv[1] + '2')\n"
        "except FileRefused as error:\n    print(error)\n"
        "tape.append(b'line\\n')\n"
        "tape.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    refusal, synced = done.stdout.splitlines()
    assert "too many files open" in refusal
    assert "ulimit -n" in refusal
    assert (synced, (tmp_path / "out").read_bytes()) == ("5", b"line\n")
