"""What two files left by a run amount to: which rows are finished, and where every other one stands.

One home for each fact: the journal says what is in flight, the output what is finished. A `done` marker is
an index into the output and never believed unseen: it counts where the bytes it points at have its CRC.
What no marker covers is scanned, and the first line there that is no record starts the torn part, unless a record
stands behind it that a marker knows by its bytes: then somebody changed the file, and it is damage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
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
    open_journaled: dict[str, JournaledRow]  # the dict of the fold itself where all of it is open
    open_jobs: int  # how many of these the service knows by an id
    gone: int  # records that the journal knows and the output no longer holds
    output_good_to: int  # what follows is torn, to be cut
    output_corrupt_at: int | None  # a line that is no record, before records that are known to be on the disk
    retried: Sequence[str]  # rows of which an attempt ended before the last one
    records_alone: Mapping[str, str]  # job ids of finished rows that the journal does not know to have been sent

    def ended_ids(self, fold: JournalState) -> Iterator[tuple[str, str]]:
        """The ids of all jobs that are over, each with the key of its row: of finished rows, and of earlier attempts."""
        journaled_rows = fold.journaled_rows
        for key in self.finished:
            if (journaled := journaled_rows.get(key)) is not None and journaled.job_id is not None:
                yield key, journaled.job_id
        for key in self.retried:
            yield from ((key, end.job_id) for end in journaled_rows[key].ended if end.job_id is not None)
        yield from self.records_alone.items()


def recover(fold: JournalState, output: Readable) -> Recovery:
    """Join the fold of the journal with the bytes of the output."""
    gen = fold.gen
    finished: dict[str, str] = {}
    job_ids: dict[str, str] = {}
    position, corrupt = 0, None
    journaled_rows = fold.journaled_rows
    marked: list[str] = []
    retried: list[str] = []
    without_id: list[str] = []
    for key, journaled in journaled_rows.items():  # the one pass over all of them where nothing is finished
        if journaled.recorded_at is not None:
            marked.append(key)
        if journaled.ended:
            retried.append(key)
        if journaled.job_id is None:
            without_id.append(key)
    marked.sort(key=lambda key: journaled_rows[key].recorded_at or b"")  # as the records stand in the file
    for key in marked:
        marker = journaled_rows[key].marker
        if marker is None or not _fits(marker, gen, output):
            continue
        start = marker[1]
        if start > position:
            scanned_to = _scan(output, position, start, finished, job_ids)
            if scanned_to != start and corrupt is None:
                corrupt = scanned_to
        finished[key] = marker[4]
        position = max(position, start + marker[2])
    good_to = _scan(output, position, len(output), finished, job_ids)
    while good_to < len(output) and (known_to := _known_behind(output, good_to, journaled_rows, finished)) > good_to:
        corrupt = good_to if corrupt is None else corrupt
        good_to = _scan(output, known_to, len(output), finished, job_ids)
    open_journaled = journaled_rows
    if finished or any(journaled_rows[key].is_void for key in without_id):
        void = {key for key in without_id if journaled_rows[key].is_void}
        open_journaled = {
            key: journaled for key, journaled in journaled_rows.items() if key not in finished and key not in void
        }
    open_jobs = len(open_journaled) - sum(key in open_journaled for key in without_id)
    gone = sum(key not in finished for key in marked)
    records_alone = {
        key: job_id
        for key, job_id in job_ids.items()
        if key not in journaled_rows or not journaled_rows[key].row_sha256
    }
    return Recovery(finished, open_journaled, open_jobs, gone, good_to, corrupt, retried, records_alone)


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


def _scan(output: Readable, start: int, end: int, finished: dict[str, str], job_ids: dict[str, str]) -> int:
    """Collect the keys and job ids of the records from `start` on; returns where they end."""
    position = start
    while position < end:
        line_end = output.find(b"\n", position) + 1
        if line_end == 0 or line_end > end:
            return position
        record = _parsed(output[position:line_end])
        if record is None:
            return position
        key = record["custom_id"]
        finished[key] = interned_state(record["state"])
        if isinstance(job_id := record.get("job_id"), str):
            job_ids[key] = job_id
        position = line_end
    return position


def read_record(line: bytes) -> tuple[str, str] | None:
    """Key and state of a record; None for what is none."""
    record = _parsed(line)
    return None if record is None else (record["custom_id"], interned_state(record["state"]))


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(record, dict):
        return None
    return record if isinstance(record.get("custom_id"), str) and isinstance(record.get("state"), str) else None
