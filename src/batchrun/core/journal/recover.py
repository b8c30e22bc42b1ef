"""What two files left by a run amount to: which rows are finished, and where every other one stands.

One home for each fact: the journal says what is in flight, the output what is finished. A `done` marker is
an index into the output and never believed unseen: it counts where the bytes it points at have its CRC.
What no marker covers is scanned, and the first line there that is no record starts the torn part, unless a record
stands behind it that a marker knows by its bytes: then somebody changed the file, and it is damage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from zlib import crc32

import orjson

from batchrun.core.journal.fold import JournaledRow, JournalState, Marker
from batchrun.core.taxonomy.rules import interned_state


class Readable(Protocol):
    """The output's bytes: a `bytes`, or a file that reads as one. It is read from its beginning to its end."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...
    def find(self, sub: bytes, start: int, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Recovery:
    """The state of a batch on the disk."""

    finished: dict[str, str]  # the state of each finished row
    open_journaled: dict[str, JournaledRow]
    open_jobs: int  # how many of these the service knows by an id
    gone: int  # records that the journal knows and the output no longer holds
    output_good_to: int  # what follows is torn, to be cut
    output_corrupt_at: int | None  # a line that is no record, before records that are known to be on the disk


def recover(fold: JournalState, output: Readable) -> Recovery:
    """Join the fold of the journal with the bytes of the output."""
    gen = fold.gen
    finished: dict[str, str] = {}
    position, corrupt = 0, None
    journaled_rows = fold.journaled_rows
    marked = [key for key, journaled in journaled_rows.items() if journaled.recorded_at is not None]
    marked.sort(key=lambda key: journaled_rows[key].recorded_at or b"")  # as the records stand in the file
    for key in marked:
        marker = journaled_rows[key].marker
        if marker is None or not _fits(marker, gen, output):
            continue
        start = marker[1]
        if start > position:
            scanned_to = _scan(output, position, start, finished)
            if scanned_to != start and corrupt is None:
                corrupt = scanned_to
        finished[key] = marker[4]
        position = max(position, start + marker[2])
    good_to = _scan(output, position, len(output), finished)
    while good_to < len(output) and (known_to := _known_behind(output, good_to, journaled_rows, finished)) > good_to:
        corrupt = good_to if corrupt is None else corrupt
        good_to = _scan(output, known_to, len(output), finished)
    open_journaled: dict[str, JournaledRow] = {}
    open_jobs = 0
    for key, journaled in journaled_rows.items():
        if journaled.job_id is not None:
            if key not in finished:
                open_journaled[key] = journaled
                open_jobs += 1
        elif not journaled.is_void and key not in finished:
            open_journaled[key] = journaled
    gone = sum(key not in finished for key in marked)
    return Recovery(finished, open_journaled, open_jobs, gone, good_to, corrupt)


def _known_behind(
    output: Readable, start: int, journaled_rows: dict[str, JournaledRow], finished: dict[str, str]
) -> int:
    """Where the last record ends that stands behind the bad line at `start` and is known to have been on the disk.

    A marker knows it by its bytes, wherever they stand by now: whoever changes a line by hand moves all that follow.
    Such a record, and what stands before it, is no torn tail. Collects their keys; `start` where there is none.
    """
    found: list[tuple[str, str]] = []
    known, known_to, position = 0, start, start
    while (end := output.find(b"\n", position) + 1) > 0:
        line = output[position:end]
        record = read_record(line)
        if record is not None:
            found.append(record)
            journaled = journaled_rows.get(record[0])
            marker = None if journaled is None else journaled.marker
            if marker is not None and (len(line), crc32(line)) == marker[2:4]:
                known, known_to = len(found), end
        position = end
    finished.update(found[:known])
    return known_to


def _fits(marker: Marker, gen: int, output: Readable) -> bool:
    of_gen, offset, length, crc, _ = marker
    line = output[offset : offset + length]
    return of_gen == gen and len(line) == length and line[-1:] == b"\n" and crc32(line) == crc


def _scan(output: Readable, start: int, end: int, finished: dict[str, str]) -> int:
    """Collect the keys of the records from `start` on; returns where they end."""
    position = start
    while position < end:
        line_end = output.find(b"\n", position) + 1
        if line_end == 0 or line_end > end:
            return position
        record = read_record(output[position:line_end])
        if record is None:
            return position
        finished[record[0]] = record[1]
        position = line_end
    return position


def read_record(line: bytes) -> tuple[str, str] | None:
    """Key and state of a record; None for what is none."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(record, dict):
        return None
    key, state = record.get("custom_id"), record.get("state")
    return (key, interned_state(state)) if isinstance(key, str) and isinstance(state, str) else None
