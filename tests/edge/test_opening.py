"""What may be written, and with which modes; whatever else stands at a path is refused and left alone."""

import errno
import os
import socket
import stat
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from batchrun.edge.append_file import (
    REAL_DISK,
    FileNames,
    FileRefused,
    open_append,
    open_to_read,
    read_chunks,
)
from batchrun.edge.append_file.opening import open_existing


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.jsonl"


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_ours_alone_whatever_the_umask(path):
    before = os.umask(0o777)
    try:
        file = open_append(str(path))
    finally:
        os.umask(before)
    assert (file.created, file.size, mode_of(path)) == (True, 0, 0o600)
    assert os.get_inheritable(file.descriptor) is False
    file.close()


@pytest.mark.parametrize("mode", [0o644, 0o666, 0o640, 0o700])
def test_o05_an_existing_file_is_made_private(path, mode):
    path.write_bytes(b"one\n")
    path.chmod(mode)
    file = open_append(str(path))
    assert (file.created, file.size, mode_of(path), path.read_bytes()) == (False, 4, 0o600, b"one\n")
    file.close()


def test_o05_where_the_file_system_insists_on_its_mode_it_is_refused(path):
    path.touch(0o644)
    with pytest.raises(FileRefused, match="expected mode 0600, its file system insists on 0644"):
        open_append(str(path), replace(REAL_DISK, fchmod=lambda *_: None))
    assert_nothing_is_open(path)


def make_socket(path):
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # the path of a socket has at most 107 bytes
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(f"{short}/s")
        Path(short, "s").rename(path)


SPECIAL = {
    "a symbolic link": lambda path: path.symlink_to(path.with_name("target")),
    "a folder": Path.mkdir,
    "a FIFO": os.mkfifo,
    "a socket": make_socket,
}


@pytest.mark.parametrize("opening", [open_append, open_existing, open_to_read])
@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.journal"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_o04_what_is_no_regular_file_is_refused_and_left_alone(tmp_path, kind, name, opening):
    target, path = tmp_path / "target", tmp_path / name
    target.write_bytes(b"precious\n")
    target.chmod(0o644)
    SPECIAL[kind](path)
    before = path.lstat()
    with pytest.raises(FileRefused, match=f"expected a regular file, found {kind}; give a (regular )?file") as caught:
        opening(str(path))
    assert caught.value.path == str(path)
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert (target.read_bytes(), mode_of(target)) == (b"precious\n", 0o644)


@pytest.mark.parametrize("path", ["/dev/null", "/dev/tty"])
def test_o04_a_device_is_refused(path):
    with pytest.raises(FileRefused, match="found a device"):
        open_append(path)


def test_o04_a_link_that_is_put_there_after_the_check_is_refused(tmp_path, path):
    (tmp_path / "target").touch(0o644)

    def race(name, flags, mode):
        path.symlink_to(tmp_path / "target")
        return os.open(name, flags, mode)

    with pytest.raises(FileRefused, match="symbolic link"):
        open_append(str(path), replace(REAL_DISK, open=race))
    assert mode_of(tmp_path / "target") == 0o644


def test_o04_a_fifo_that_is_put_there_after_the_check_is_refused(path):
    path.touch()

    def race(name, flags, mode):
        path.unlink()
        os.mkfifo(path)
        return os.open(name, flags, mode)

    with pytest.raises(FileRefused, match="a FIFO"):
        open_append(str(path), replace(REAL_DISK, open=race))
    assert_nothing_is_open(path)


def test_o06_a_missing_folder_is_named(tmp_path):
    for path in (tmp_path / "none" / "out", tmp_path / "file" / "out"):
        (tmp_path / "file").touch()
        with pytest.raises(FileRefused, match="folder") as caught:
            open_append(str(path))
        assert str(path) in str(caught.value)


@pytest.fixture
def nobody():
    """Not root, who may write everywhere; a folder of his own that his tests can make unwritable."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o777)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65_534)
    yield folder
    if root:
        os.seteuid(0)
    folder.chmod(0o700)
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_o06_a_folder_that_may_not_be_written_is_refused(nobody):
    folder = nobody / "folder"
    folder.mkdir(0o500)
    with pytest.raises(FileRefused, match=r"no permission .*; choose a folder of your own"):
        open_append(str(folder / "out"))
    folder.chmod(0o700)


def test_o05_a_file_of_someone_else_that_cannot_be_made_private_is_refused(nobody):
    if os.getuid() != 0:
        pytest.skip("making a file of someone else needs root")
    path = nobody / "theirs"
    os.seteuid(0)
    path.touch()
    path.chmod(0o666)
    os.seteuid(65_534)
    with pytest.raises(FileRefused, match="to make it private"):
        open_append(str(path))
    assert_nothing_is_open(path)


@pytest.mark.parametrize(
    ("name", "found"),
    [("x" * 300, "its name is too long"), ("a\0b", "embedded null"), ("\udc80" * 3, None)],
    ids=["too long", "NUL", "not UTF-8"],
)
def test_odd_names_are_used_or_refused(tmp_path, name, found):
    path = f"{tmp_path}/{name}"
    if found is None:
        open_append(path).close()
        return
    for opening in (open_append, open_existing, open_to_read):
        with pytest.raises(FileRefused, match=found):
            opening(path)


@pytest.mark.parametrize("step", ["sync_folder", "fstat", "fchmod"])
def test_whatever_fails_on_the_way_nothing_stays_open(path, step):
    path.touch(0o644)
    if step == "sync_folder":
        path.unlink()

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(FileRefused, match="Input/output error"):
        open_append(str(path), replace(REAL_DISK, **{step: fail}))
    assert_nothing_is_open(path)


def assert_nothing_is_open(path):
    if Path("/proc/self/fd").exists():
        links = (name for name in Path("/proc/self/fd").iterdir() if name.is_symlink())
        assert path not in {name.readlink() for name in links}


def test_files_that_may_be_missing(path):
    assert open_existing(str(path)) is None
    assert open_to_read(str(path)) is None
    path.write_bytes(bytes(range(256)) * 5000)
    path.chmod(0o644)
    file = open_to_read(str(path))
    assert mode_of(path) == 0o644, "reading changes nothing"
    assert b"".join(read_chunks(file)) == path.read_bytes()
    assert b"".join(read_chunks(file, 1000, 1_200_000)) == path.read_bytes()[1000:1_200_000]
    file.close()


def test_the_names_stand_beside_the_output_wherever_the_process_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = FileNames.of("out.jsonl")
    monkeypatch.chdir("/")
    assert names.output == f"{tmp_path}/out.jsonl"
    assert names.lock == f"{tmp_path}/out.jsonl.lock"
    only = FileNames.of(None, "/x/run.journal")
    assert (only.output, only.journal, only.requests) == (None, "/x/run.journal", "/x/run.journal.requests")
    assert FileNames.of("/x/out", "/y/kept").lock == "/x/out.lock"
    with pytest.raises(ValueError, match="give journal="):
        FileNames.of(None)


def test_a_file_of_another_user_is_refused_to_who_only_reads(tmp_path):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "out.journal"
    path.touch()
    with pytest.raises(FileRefused, match="no permission to read it; run this as the user whose batch it is"):
        open_to_read(str(path), replace(REAL_DISK, open=denied))
