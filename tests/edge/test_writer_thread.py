"""The thread beside the loop: reports come home to the loop, once, soon, and whatever the loop is busy with."""

import asyncio
import errno
import statistics
import threading
import time
from dataclasses import replace

import pytest

from batchrun.edge.append_file import REAL_DISK, AppendFailed, AppendFile, AppendFileClosed, WriterThread, open_append

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Beside:
    """A tape with its scribe beside a running loop, and what was reported there."""

    def __init__(self, path, disk=REAL_DISK):
        self.loop = asyncio.get_running_loop()
        self.synced = []
        self.failed = []
        self.threads = set()
        self.reported = asyncio.Event()
        self.tape = AppendFile(open_append(str(path), disk), synced=self._synced, failed=self._failed)
        self.scribe = WriterThread(self.tape, self.loop)

    def _synced(self, upto):
        self.threads.add(threading.get_ident())
        self.synced.append(upto)
        self.reported.set()

    def _failed(self, error):
        self.threads.add(threading.get_ident())
        self.failed.append(error)
        self.reported.set()

    async def until(self, condition):
        while not condition():
            self.reported.clear()
            await asyncio.wait_for(self.reported.wait(), 50)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out"


async def test_lines_reach_the_disk_and_their_reports_the_loop(path):
    beside = Beside(path)
    lines = [b"line %d\n" % i for i in range(1000)]
    for i, line in enumerate(lines):
        beside.tape.append(line)
        if i % 10 == 0:
            await asyncio.sleep(0)
    await beside.until(lambda: beside.tape.synced_to == beside.tape.end)
    assert path.read_bytes() == b"".join(lines)
    assert beside.synced == sorted(set(beside.synced))
    assert beside.threads == {threading.get_ident()}
    beside.scribe.close()
    assert not beside.scribe._thread.is_alive()
    with pytest.raises(AppendFileClosed):
        beside.tape.append(b"more\n")


async def test_one_round_of_the_loop_is_one_group(path):
    beside = Beside(path)
    for _ in range(3):
        beside.tape.append(b"one\n")
    await beside.until(lambda: beside.synced)
    assert beside.synced == [12]
    beside.scribe.close()


async def test_what_was_appended_before_the_scribe_came_is_written(path):
    tape = AppendFile(open_append(str(path)), synced=lambda _: None, failed=lambda _: None)
    tape.append_lazily(b"one\n")
    scribe = WriterThread(tape, asyncio.get_running_loop())
    scribe.close()
    assert path.read_bytes() == b"one\n"


async def test_the_loop_goes_on_while_a_sync_hangs_and_leaving_does_not_wait_for_it(path):
    hanging, let_go = threading.Event(), threading.Event()

    def hang(descriptor):
        hanging.set()
        let_go.wait(10)

    beside = Beside(path, replace(REAL_DISK, sync=hang))
    beside.tape.append(b"one\n")
    await asyncio.to_thread(hanging.wait, 10)
    beside.tape.append(b"two\n")
    for _ in range(20):
        await asyncio.sleep(0.001)
    beside.scribe.abandon()
    beside.scribe.abandon()
    beside.scribe.close()
    descriptor = beside.tape._file.descriptor
    assert REAL_DISK.status(descriptor).st_size == 4, "its file stays open while it is written"
    let_go.set()
    beside.scribe._thread.join(10)
    with pytest.raises(OSError, match="Bad file descriptor"):
        REAL_DISK.status(descriptor)
    await asyncio.sleep(0)
    assert (beside.synced, beside.failed, path.read_bytes()) == ([], [], b"one\n")


async def test_closing_waits_for_what_is_under_way_and_for_the_rest(path):
    begun = threading.Event()

    def slowly(descriptor):
        begun.set()
        time.sleep(0.02)
        REAL_DISK.sync(descriptor)

    beside = Beside(path, replace(REAL_DISK, sync=slowly))
    beside.tape.append(b"one\n")
    await asyncio.to_thread(begun.wait, 50)
    beside.tape.append(b"two\n")
    beside.tape.append_lazily(b"three\n")
    beside.scribe.close()
    assert (beside.synced, path.read_bytes()) == ([4, 14], b"one\ntwo\nthree\n")


async def test_closing_syncs_lazy_lines_that_nothing_else_would_have(path):
    beside = Beside(path)
    beside.tape.append_lazily(b"done\n")
    await asyncio.sleep(0.005)
    assert beside.synced == []
    beside.scribe.close()
    assert beside.synced == [5]


async def test_o08_an_error_in_the_thread_is_reported_once_in_the_loop(path):
    def fail(descriptor):
        raise OSError(errno.EIO, "gone")

    beside = Beside(path, replace(REAL_DISK, sync=fail))
    beside.tape.append(b"one\n")
    await beside.until(lambda: beside.failed)
    with pytest.raises(AppendFailed):
        beside.tape.append(b"two\n")
    beside.scribe.close()
    assert (len(beside.failed), beside.threads) == (1, {threading.get_ident()})


def test_a_loop_that_was_closed_too_early_does_not_end_the_thread_in_an_error(path):
    let_go = threading.Event()
    loop = asyncio.new_event_loop()
    disk = replace(REAL_DISK, sync=lambda _: let_go.wait(10))
    tape = AppendFile(open_append(str(path), disk), synced=lambda _: None, failed=lambda _: None)
    scribe = WriterThread(tape, loop)
    tape.append(b"one\n")
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    let_go.set()
    scribe._errands.put(None)
    scribe._thread.join(10)
    assert not scribe._thread.is_alive()
    tape.abandon()
    tape._file.close()


def waits_beside_a_busy_loop(path, callbacks):
    """Rounds of a loop that is never at rest from an append to its report, for 25 of them, or as many as came."""
    loop = asyncio.new_event_loop()
    disk = replace(REAL_DISK, sync=lambda _: time.sleep(0.0002))
    waits = []
    begun = rounds = 0

    def append():
        nonlocal begun
        begun = rounds
        tape.append(b"one\n")

    def synced(_):
        waits.append((rounds - begun) / callbacks)
        if len(waits) == 25:
            loop.stop()
        else:
            loop.call_soon(append)

    def burn():
        nonlocal rounds
        rounds += 1
        until = time.perf_counter() + 50e-6
        while time.perf_counter() < until:
            pass
        loop.call_soon(burn)

    tape = AppendFile(open_append(str(path), disk), synced=synced, failed=lambda _: loop.stop())
    scribe = WriterThread(tape, loop)
    for _ in range(callbacks):
        loop.call_soon(burn)
    loop.call_soon(append)
    loop.call_later(10, loop.stop)
    loop.run_forever()
    scribe.close()
    loop.close()
    return waits


@pytest.mark.parametrize("callbacks", [20, 100], ids=["rounds of 1 ms", "rounds of 5 ms"])
def test_a_loop_without_an_idle_moment_lets_the_thread_through(path, callbacks):
    """Counted in rounds of the loop, and up to four times: other processes may keep the thread from both processors.

    A thread that is left to the interpreter's own fairness waits for thousands of the short rounds.
    """
    for _ in range(4):
        waits = waits_beside_a_busy_loop(path, callbacks)
        # one round to begin, one to be told, and one to spare
        if len(waits) == 25 and statistics.median(waits) <= 3 and statistics.mean(waits) < 10:
            break
    else:
        pytest.fail(f"rounds: {waits}")
