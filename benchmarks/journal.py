"""What it costs to be sure: `python benchmarks/journal.py [FOLDER]`.

* µs an entry of a tape when 1, 32, 256 and 4,096 writers wait, each for its own entry before it writes the
  next, against a write and a sync an entry, and against SQLite in WAL mode with the same groups
* how long after its append an entry is reported to an event loop that has no idle moment, against a thread
  that takes from a queue and answers by call_soon_threadsafe; `loop_share` is what is left for the loop's
  own work, `groups` how many came through

FOLDER is where the files are written (default: beside this file's folder, for /tmp is often memory).
"""

import asyncio
import os
import queue
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from batchrun.edge.tape import Scribe, Tape, open_append  # noqa: E402 - runs from a checkout as well
from benchmarks.results import record  # noqa: E402

SECONDS = 1.5
BUSY_SECONDS = 4.0
WAITING = (1, 32, 256, 4096)
ENTRY = b'0123abcd {"e":"intent","key":"row-%08d","attempt":1,"at":1800000000.123,"row_sha256":"' + b"f" * 64 + b'"}\n'


def mark(to: int) -> bytes:
    return b'0123abcd {"e":"synced","to":%d}\n' % to


def open_tape(path: Path, synced: Callable[[int], object]) -> Tape:
    def failed(error: Exception) -> None:
        raise error

    return Tape(open_append(str(path)), synced=synced, failed=failed, mark=mark)


def through_the_tape(folder: Path, waiting: int) -> float:
    """µs an entry: `waiting` writers in an event loop, each appends again as soon as it was reported safe."""
    loop = asyncio.new_event_loop()
    begun, count = time.perf_counter(), 0

    def synced(_upto: int) -> None:
        nonlocal count
        count += waiting
        if time.perf_counter() - begun > SECONDS:
            loop.stop()
        else:
            append_all()

    tape = open_tape(folder / f"tape{waiting}", synced)

    def append_all() -> None:
        for i in range(waiting):
            tape.append(ENTRY % i)

    scribe = Scribe(tape, loop)
    loop.call_soon(append_all)
    loop.run_forever()
    seconds = time.perf_counter() - begun
    scribe.close()
    loop.close()
    return seconds / count * 1e6


def ungrouped(folder: Path) -> float:
    """µs an entry: one write and one sync each."""
    descriptor = os.open(folder / "ungrouped", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS:
        os.write(descriptor, ENTRY % count)
        os.fdatasync(descriptor)
        count += 1
    seconds = time.perf_counter() - begun
    os.close(descriptor)
    return seconds / count * 1e6


def through_sqlite(folder: Path, waiting: int) -> float:
    """µs an entry: SQLite in WAL mode, synchronous=FULL, `waiting` rows a transaction."""
    base = sqlite3.connect(folder / f"sqlite{waiting}", isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("PRAGMA synchronous=FULL")
    base.execute("CREATE TABLE entries (entry BLOB)")
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS:
        base.execute("BEGIN")
        base.executemany("INSERT INTO entries VALUES (?)", [(ENTRY % i,) for i in range(waiting)])
        base.execute("COMMIT")
        count += waiting
    seconds = time.perf_counter() - begun
    base.close()
    return seconds / count * 1e6


class PlainThread:
    """The obvious way, for comparison: see the essay in batchrun.edge.tape.scribe."""

    def __init__(self, tape: Tape, loop: asyncio.AbstractEventLoop) -> None:
        self._groups: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._tape, self._loop = tape, loop
        tape.wake = lambda: loop.call_soon(lambda: self._groups.put(tape.gather()))
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (group := self._groups.get()) is not None:
            group.write()
            group.sync()
            self._loop.call_soon_threadsafe(self._tape.settle, group)

    def close(self) -> None:
        self._groups.put(None)
        self._thread.join()


def beside_a_busy_loop(
    folder: Path, scribe_of: Callable[..., Scribe | PlainThread], callbacks: int, each: float
) -> dict[str, float]:
    """Milliseconds from an append to its report, while `callbacks` always-ready callbacks use `each` seconds of CPU."""
    loop = asyncio.new_event_loop()
    appended = 0.0
    appended_in = rounds = 0
    delays: list[float] = []
    waited: list[float] = []  # the same, in rounds of the loop: the other work of a machine cannot lengthen it

    def append() -> None:
        nonlocal appended, appended_in
        appended, appended_in = time.perf_counter(), rounds
        for i in range(32):
            tape.append(ENTRY % i)

    def synced(_upto: int) -> None:
        delays.append(time.perf_counter() - appended)
        waited.append((rounds - appended_in) / callbacks)
        loop.call_later(0.003, append)

    def burn() -> None:
        nonlocal rounds
        rounds += 1
        until = time.perf_counter() + each
        while time.perf_counter() < until:
            pass
        loop.call_soon(burn)

    tape = open_tape(folder / f"{scribe_of.__name__}{callbacks}", synced)
    scribe = scribe_of(tape, loop)
    for _ in range(callbacks):
        loop.call_soon(burn)
    loop.call_soon(append)
    loop.call_later(BUSY_SECONDS, loop.stop)
    begun = time.perf_counter()
    loop.run_forever()
    gone = time.perf_counter() - begun
    if not delays or time.perf_counter() - appended > max(delays):
        delays.append(time.perf_counter() - appended)  # still waiting: at least that long
        waited.append((rounds - appended_in) / callbacks)
    scribe.close()
    loop.close()
    delays.sort()
    waited.sort()
    return {
        "p50": round(delays[len(delays) // 2] * 1e3, 2),
        "p99": delays[int(len(delays) * 0.99)] * 1e3,
        "p99_rounds": round(waited[int(len(waited) * 0.99)], 1),
        "groups": len(delays),
        "loop_share": round(rounds * each / gone, 3),
    }


def main() -> None:
    base = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    with tempfile.TemporaryDirectory(dir=base, prefix=".journal-") as name:
        folder = Path(name)
        record("journal ungrouped", ungrouped(folder), "µs/entry")
        for waiting in WAITING:
            record(f"journal tape {waiting}", through_the_tape(folder, waiting), "µs/entry", "journal ungrouped")
            record(
                f"journal sqlite wal {waiting}", through_sqlite(folder, waiting), "µs/entry", f"journal tape {waiting}"
            )
        for callbacks in (20, 100, 200):
            round_ms = callbacks * 0.05
            plain = f"journal report p99, busy loop, rounds of {round_ms:.0f} ms, plain thread"
            found = beside_a_busy_loop(folder, PlainThread, callbacks, 50e-6)
            record(plain, found.pop("p99"), "ms", **found)
            found = beside_a_busy_loop(folder, Scribe, callbacks, 50e-6)
            record(plain.replace("plain thread", "scribe"), found.pop("p99"), "ms", plain, **found)


if __name__ == "__main__":
    main()
