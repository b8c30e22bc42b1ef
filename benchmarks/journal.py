"""What it costs to be sure: `python benchmarks/journal.py [FOLDER]`.

* µs per entry of an append file when 1, 32, 256 and 4,096 writers wait, each for its own entry before it writes the
  next, against a write and a sync an entry, and against SQLite in WAL mode with the same groups
* how long after its append an entry is reported to an event loop that has no idle moment, against a thread
  that takes from a queue and answers by call_soon_threadsafe; `loop_share` is what is left for the loop's
  own work, `groups` how many came through
* how long a run takes to know what an earlier one left (fold of the journal, recovery with the output), and
  the peak of its memory, in a process of its own: a batch of which all rows are finished, and one of which
  no record is left (every marker is tried in vain)

FOLDER is where the files are written (default: next to this file's folder, for /tmp is often memory).
"""

import asyncio
import os
import queue
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import orjson

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from batchrun.core.journal.entries import Done, Header, Intent, Started, Submitted  # noqa: E402 - runs from a checkout as well
from batchrun.core.journal.entries import mark as journal_mark  # noqa: E402 - as above
from batchrun.edge.append_file import AppendFile, WriterThread, open_append  # noqa: E402 - as above
from benchmarks.results import record  # noqa: E402

SECONDS = 1.5
BUSY_SECONDS = 4.0
ROWS = 1_000_000
GROUP = 100  # rows whose entries share a sync
WAITING = (1, 32, 256, 4096)
ENTRY = b'0123abcd {"e":"intent","key":"row-%08d","attempt":1,"at":1800000000.123,"row_sha256":"' + b"f" * 64 + b'"}\n'


def mark(to: int) -> bytes:
    return b'0123abcd {"e":"synced","to":%d}\n' % to


def open_file(path: Path, synced: Callable[[int], object]) -> AppendFile:
    def failed(error: Exception) -> None:
        raise error

    return AppendFile(open_append(str(path)), synced=synced, failed=failed, mark=mark)


def through_append_file(folder: Path, waiting: int) -> float:
    """µs per entry: `waiting` writers in an event loop, each appends again as soon as it was reported safe."""
    loop = asyncio.new_event_loop()
    begun, count = time.perf_counter(), 0

    def synced(_upto: int) -> None:
        nonlocal count
        count += waiting
        if time.perf_counter() - begun > SECONDS:
            loop.stop()
        else:
            append_all()

    file = open_file(folder / f"tape{waiting}", synced)

    def append_all() -> None:
        for i in range(waiting):
            file.append(ENTRY % i)

    writer = WriterThread(file, loop)
    loop.call_soon(append_all)
    loop.run_forever()
    seconds = time.perf_counter() - begun
    writer.close()
    loop.close()
    return seconds / count * 1e6


def ungrouped(folder: Path) -> float:
    """µs per entry: one write and one sync each."""
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
    """µs per entry: SQLite in WAL mode, synchronous=FULL, `waiting` rows a transaction."""
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
    """The obvious way, for comparison: see the essay in batchrun.edge.append_file.writer_thread."""

    def __init__(self, file: AppendFile, loop: asyncio.AbstractEventLoop) -> None:
        self._groups: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._file, self._loop = file, loop
        file.wake = lambda: loop.call_soon(lambda: self._groups.put(file.gather()))
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (group := self._groups.get()) is not None:
            group.write()
            group.sync()
            self._loop.call_soon_threadsafe(self._file.settle, group)

    def close(self) -> None:
        self._groups.put(None)
        self._thread.join()


def beside_a_busy_loop(
    folder: Path, writer_of: Callable[..., WriterThread | PlainThread], callbacks: int, each: float
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
            file.append(ENTRY % i)

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

    file = open_file(folder / f"{writer_of.__name__}{callbacks}", synced)
    writer = writer_of(file, loop)
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
    writer.close()
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


def write_batch(folder: Path, rows: int) -> None:
    """The files of a batch of which every row is finished: about 700 bytes a record, 450 of journal a row."""
    at, gen, offset, place = 1_800_000_000.123, 0, 0, 0
    text = "x" * 380
    with (folder / "out.jsonl").open("wb") as output, (folder / "out.jsonl.journal").open("wb") as journal:

        def write(lines: list[bytes]) -> None:
            nonlocal place
            group = b"".join((journal_mark(place), *lines))
            place += journal.write(group)

        header = Header(1, "run", "openai", "https://api.openai.com/v1", "", "f00d", {}, "in.jsonl", at)
        place = journal.write(header.to_line())
        write([Started(7, at).to_line()])
        for first in range(0, rows, GROUP):
            keys = [f"row-{number:08d}" for number in range(first, min(first + GROUP, rows))]
            ids = [f"resp_{number:048x}" for number in range(first, first + len(keys))]
            write([Intent(key, 1, f"{crc32(key.encode()):032x}", at).to_line() for key in keys])
            write([Submitted(key, 1, job_id, at + 1).to_line() for key, job_id in zip(keys, ids, strict=True)])
            markers = []
            for key, job_id in zip(keys, ids, strict=True):
                record = {
                    "id": f"rec_{key}",
                    "custom_id": key,
                    "job_id": job_id,
                    "state": "succeeded",
                    "status": "completed",
                }
                record |= {
                    "model": "gpt-5-2025-08-07",
                    "output_text": text,
                    "usage": {"input_tokens": 12, "output_tokens": 90},
                }
                line = (
                    orjson.dumps({**record, "warnings": [], "submitted_at": at, "finished_at": at, "metadata": {}})
                    + b"\n"
                )
                markers.append(Done(key, gen, offset, len(line), crc32(line), "succeeded").to_line())
                offset += output.write(line)
            write(markers)


RECOVER = """
import sys, time
sys.path.insert(0, {src!r})
from pathlib import Path
from batchrun.edge.append_file import FileNames
from batchrun.runner.opening.read import fold_file, recovered
names = FileNames.of({output!r})
begun = time.perf_counter()
state = fold_file(names.journal)
folded = time.perf_counter()
recovery = recovered(names, state)
ended = time.perf_counter()
peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
print(folded - begun, ended - folded, peak / 1024, len(recovery.finished), len(recovery.open_journaled))
"""


def recovery_of(folder: Path) -> dict[str, float]:
    """Seconds and MB that a process of its own needs to know what stands in the files of `folder`."""
    program = RECOVER.format(src=str(ROOT / "src"), output=str(folder / "out.jsonl"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    fold, recover, peak, finished, left = map(float, done.stdout.split())
    return {
        "seconds": fold + recover,
        "fold": fold,
        "recover": recover,
        "peak": peak,
        "finished": finished,
        "open": left,
    }


def recoveries(folder: Path, rows: int) -> None:
    """Measure the recovery of a batch with all of its records, then with none of them."""
    write_batch(folder, rows)
    for left in ("all records", "no record"):
        if left == "no record":
            (folder / "out.jsonl").unlink()
        found = recovery_of(folder)
        facts = {"rows": rows, "fold": round(found["fold"], 2), "recover": round(found["recover"], 2)}
        record(f"journal recovery, {left}", found["seconds"], "s", **facts)
        record(f"journal recovery, {left}: peak", found["peak"], "MB", rows=rows)
        assert found["finished"] + found["open"] == rows


def main() -> None:
    base = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    with tempfile.TemporaryDirectory(dir=base, prefix=".journal-") as name:
        folder = Path(name)
        record("journal ungrouped", ungrouped(folder), "µs/entry")
        for waiting in WAITING:
            record(f"journal tape {waiting}", through_append_file(folder, waiting), "µs/entry", "journal ungrouped")
            record(
                f"journal sqlite wal {waiting}", through_sqlite(folder, waiting), "µs/entry", f"journal tape {waiting}"
            )
        for callbacks in (20, 100, 200):
            round_ms = callbacks * 0.05
            plain = f"journal report p99, busy loop, rounds of {round_ms:.0f} ms, plain thread"
            found = beside_a_busy_loop(folder, PlainThread, callbacks, 50e-6)
            record(plain, found.pop("p99"), "ms", **found)
            found = beside_a_busy_loop(folder, WriterThread, callbacks, 50e-6)
            record(plain.replace("plain thread", "scribe"), found.pop("p99"), "ms", plain, **found)
        recoveries(folder, ROWS)


if __name__ == "__main__":
    main()
