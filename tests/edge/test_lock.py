"""One run at a time: who comes second is told who was first, and a dead run locks nobody out."""

import fcntl
import itertools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from batchrun.edge import lock as lock_room
from batchrun.edge.append_file import FileNames, FileRefused, rewrite
from batchrun.edge.lock import Holder, Lock, LockHeld, Locks, holder_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "out.jsonl.lock")


@pytest.fixture
def others(path):
    """Starts processes that want the lock; all are ended with the test."""
    started = []

    def start(count=1):
        command = [sys.executable, str(Path(__file__).with_name("lock_process.py")), path]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        new = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
            for _ in range(count)
        ]
        started.extend(new)
        return [(process, json.loads(process.stdout.readline())) for process in new]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_o10_the_second_run_sees_the_first_ones_pid(path, others):
    with_us = Lock.take(path)
    ((_, message),) = others()
    assert message["pid"] == os.getpid()
    assert f"process {os.getpid()}," in message["text"]
    assert "wait for it" in message["text"]
    with_us.release()
    ((first, message),) = others()
    assert message == {"held": True}
    with pytest.raises(LockHeld) as caught:
        Lock.take(path)
    assert caught.value.pid == first.pid


def test_o10_of_many_that_race_one_gets_it(path, others):
    message = others(6)
    (holder,) = [process.pid for process, message in message if message["held"]]
    assert {message["pid"] for _, message in message if not message["held"]} == {holder}


def test_a_run_that_was_killed_excludes_no_other(path, others):
    ((process, _),) = others()
    process.kill()
    process.communicate()
    assert Path(path).read_text() == f"{process.pid}\n"
    Lock.take(path).release()


def test_the_lock_outlives_another_descriptor_of_its_file(path, others):
    held = Lock.take(path)
    os.close(os.open(path, os.O_RDWR))
    assert others()[0][1]["held"] is False
    held.release()
    held.release()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # the children touch nothing but the lock
def test_a_process_that_was_forked_meanwhile_neither_keeps_nor_drops_the_lock(path):
    held = Lock.take(path)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # holds the same open file until it is told to end
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    dropping = os.fork()
    if dropping == 0:
        held.release()
        os._exit(0)
    try:
        os.waitpid(dropping, 0)
        assert holder_of(path) == Holder(os.getpid())
        with pytest.raises(LockHeld):
            Lock.take(path)
        held.release()
        assert holder_of(path) is None
        Lock.take(path).release()
    finally:
        os.close(write)
        os.close(read)
        os.waitpid(child, 0)


def test_a_rewrite_of_the_output_leaves_the_lock_alone(tmp_path, path, others):
    names = FileNames.of(tmp_path / "out.jsonl")
    assert names.lock == path
    held = Lock.take(path)
    rewrite(names, announce=b"rewrite\n", output=[b"new\n"], journal=[b"new\n"])
    assert others()[0][1]["held"] is False
    assert not held.is_lost()
    held.release()


@pytest.mark.parametrize("how", [lambda path: path.rename(f"{path}.old"), Path.unlink], ids=["renamed", "removed"])
def test_a_lock_that_was_renamed_or_removed_is_noticed_by_its_holder(path, others, how):
    held = Lock.take(path)
    assert not held.is_lost()
    how(Path(path))
    assert held.is_lost()
    assert others()[0][1]["held"] is True, "which is why the holder must look"
    assert held.is_lost()
    held.release()


def test_a_lock_file_that_vanishes_before_it_is_locked_is_taken_again(path, monkeypatch):
    calls, real = [], fcntl.flock

    def flock(descriptor, how):
        calls.append(how)
        if len(calls) == 1:
            Path(path).unlink()
        real(descriptor, how)

    monkeypatch.setattr(lock_room.fcntl, "flock", flock)
    held = Lock.take(path)
    assert (len(calls), held.is_lost()) == (2, False)
    held.release()


def test_a_pid_that_is_not_yet_written_is_waited_for(path, monkeypatch):
    first = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(first, fcntl.LOCK_EX)
    os.write(first, b"999999999\n")  # of an earlier run, long dead
    pauses = []

    def pause(delay):
        pauses.append(delay)
        os.pwrite(first, b"%d\n" % os.getpid(), 0)
        os.ftruncate(first, len(b"%d\n" % os.getpid()))

    monkeypatch.setattr(lock_room.time, "sleep", pause)
    with pytest.raises(LockHeld) as caught:
        Lock.take(path)
    assert (caught.value.pid, len(pauses)) == (os.getpid(), 1)
    os.ftruncate(first, 0)
    monkeypatch.setattr(lock_room.time, "sleep", pauses.append)
    with pytest.raises(LockHeld, match="or a process forked from one that has ended, is using") as caught:
        Lock.take(path)
    assert caught.value.pid is None
    os.close(first)


# --- the locks of one run ---


def open_files():
    return sorted(str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink())


@pytest.mark.parametrize("gone", [0, 1])
def test_a_run_has_lost_its_locks_when_any_of_them_is_gone(tmp_path, gone):
    paths = [str(tmp_path / name) for name in ("out.lock", "journal.lock")]
    held = Locks.take(paths)
    assert not held.is_lost()
    Path(paths[gone]).unlink()
    assert held.is_lost()
    held.release()


def test_a_run_takes_all_its_locks_or_none_and_gives_all_back(tmp_path):
    first, second, third = (str(tmp_path / name) for name in ("a.lock", "b.lock", "c.lock"))
    held = Locks.take([first, second])
    with pytest.raises(LockHeld, match=r"b\.lock"):
        Locks.take([third, second])
    Lock.take(third).release()
    held.release()
    Locks.take([first, second, third]).release()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells what is open")
def test_who_is_turned_away_leaves_nothing_open(path):
    held = Lock.take(path)
    before = open_files()
    with pytest.raises(LockHeld):
        Lock.take(path)
    assert open_files() == before
    held.release()


def test_a_pid_of_which_only_a_part_is_there_is_not_reported(path, monkeypatch):
    held = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    os.write(held, str(os.getpid()).encode())  # more digits may follow
    monkeypatch.setattr(lock_room.time, "sleep", lambda _: None)
    with pytest.raises(LockHeld) as caught:
        Lock.take(path)
    assert caught.value.pid is None
    os.close(held)


def test_o04_a_lock_that_is_no_regular_file_is_refused(path):
    Path(path).mkdir()
    with pytest.raises(FileRefused, match="a folder"):
        Lock.take(path)


def test_a_file_system_without_locks_is_refused(path, monkeypatch):
    def flock(*_):
        raise OSError(lock_room.errno.ENOLCK, "no locks")

    monkeypatch.setattr(lock_room.fcntl, "flock", flock)
    with pytest.raises(FileRefused, match="has no locks"):
        Lock.take(path)


# --- who holds it, asked by another process ---


def test_who_holds_it_is_known_until_its_process_ends_however_it_ends(path, others):
    ((process, _),) = others()
    assert holder_of(path) == Holder(process.pid)
    process.kill()
    process.wait()
    assert Path(path).read_text() == f"{process.pid}\n", "a killed run leaves its number behind"
    assert holder_of(path) is None
    held = Lock.take(path)
    assert holder_of(path) == Holder(os.getpid())
    held.release()
    assert holder_of(path) is None


def test_a_number_that_is_another_process_by_now_is_no_run(path):
    Path(path).write_text(f"{os.getpid()}\n")
    assert holder_of(path) is None


def test_the_question_makes_no_file_and_follows_no_link(tmp_path, path):
    assert holder_of(path) is None
    assert list(tmp_path.iterdir()) == []
    Path(path).symlink_to("elsewhere")
    with pytest.raises(FileRefused, match="a symbolic link"):
        holder_of(path)


def test_no_question_ever_makes_a_starting_run_give_up(path):
    """With a shared lock as the question some of these would fail: the two processors meet within microseconds."""
    Lock.take(path).release()
    task, over = [], threading.Event()

    def ask():
        while not over.is_set():
            task.append(holder_of(path))

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    try:
        for taken in itertools.count():
            Lock.take(path).release()
            if taken >= 300 and None in task and any(task):
                break
    finally:
        over.set()
        for thread in asking:
            thread.join()


@pytest.mark.parametrize("platform", ["darwin", "linux"])
def test_where_the_system_has_no_such_question_the_process_is_looked_for(path, platform, monkeypatch):
    def refused(descriptor, command, argument):
        raise OSError(lock_room.errno.ENOLCK, "no such locks here")

    monkeypatch.setattr(lock_room.sys, "platform", platform)
    monkeypatch.setattr(lock_room.fcntl, "fcntl", refused)
    held = Lock.take(path)
    assert holder_of(path) == Holder(os.getpid())
    held.release()
    assert holder_of(path) is None
    Path(path).write_text("999999999\n")
    assert holder_of(path) is None


FOREIGN = {
    "a file of poetry": b"# This file is @generated by Poetry.\n",
    "words": b"mine\n",
    "numbers, and more": b"12\n13\n",
    "a number and a word": b"12 monkeys\n",
    "long": b"1" * 40,
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=[f"o24-{name}" for name in FOREIGN])
def test_o24_a_file_of_somebody_elses_is_refused_untouched(tmp_path, content):
    """`-o poetry` finds `poetry.lock`."""
    path = tmp_path / "poetry.lock"
    path.write_bytes(content)
    path.chmod(0o644)
    before = path.stat()
    with pytest.raises(FileRefused, match="another file's content; choose another output with -o"):
        Lock.take(str(path))
    after = path.stat()
    assert path.read_bytes() == content
    assert (after.st_mode, after.st_ino, after.st_mtime_ns) == (before.st_mode, before.st_ino, before.st_mtime_ns)


def test_o24_a_file_with_a_second_name_is_refused_untouched(path, tmp_path):
    other = tmp_path / "elsewhere"
    other.write_bytes(b"123\n")
    other.chmod(0o644)
    Path(path).hardlink_to(other)
    with pytest.raises(FileRefused, match="found one with 2"):
        Lock.take(path)
    assert (other.read_bytes(), other.stat().st_mode & 0o777) == (b"123\n", 0o644)


def test_o24_a_file_that_was_put_there_after_the_check_is_not_emptied(path, monkeypatch):
    real = lock_room.open_append

    def late(name, **more):
        Path(name).write_bytes(b"precious\n")
        return real(name, **more)

    monkeypatch.setattr(lock_room, "open_append", late)
    with pytest.raises(FileRefused, match="another file's content"):
        Lock.take(path)
    assert Path(path).read_bytes() == b"precious\n"


@pytest.mark.parametrize("content", [b"", b"4711\n", b"47", bytes(5)], ids=["empty", "a pid", "a torn pid", "zeroed"])
def test_what_a_run_or_a_power_cut_leaves_is_taken(path, content):
    Path(path).write_bytes(content)
    Lock.take(path).release()
