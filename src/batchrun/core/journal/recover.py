"""What two files left by a run amount to: which rows are finished, and where every other one stands.

One home for each fact: the journal says what is in flight, the output what is finished. A `done` marker is
an index into the output and never believed unseen: it counts where the bytes it points at have its CRC.
What no marker covers is scanned, and the first line there that is no record starts the torn part, unless a record
stands behind it that a marker knows by its bytes: then somebody changed the file, and it is damage.

Records may stand in any order, and be missing: whoever sorts the output, or takes lines out of it, does no harm. A
line that is a record and not one that a run wrote is a `Doubt`: a marked record that was changed, a further line of a
row, one of a row or a job that the journal does not know. Nothing is sent or written on its word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol
from zlib import crc32

import orjson

from batchrun.core.journal.entries import Done
from batchrun.core.journal.fold import JournaledRow, JournalState, Marker
from batchrun.core.responses.outcome import Billing
from batchrun.core.taxonomy.rules import State, interned_state

NO_PLACE: tuple[int, int, int] = (0, 0, 0)
"""Offset, length and CRC of a marker whose record is elsewhere, or gone: its row was finished, that is all."""
_STATES = frozenset(state.value for state in State)
_WITHOUT_JOB = frozenset({State.UNCONFIRMED.value, State.CANCELLED.value})


class Readable(Protocol):
    """The output's bytes: a `bytes`, or a file that reads as one. It is read from its beginning to its end."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...
    def find(self, sub: bytes, start: int, /) -> int: ...


CHANGED = "not as it was written"
SECOND = "a further line of a row that has one"
OTHER_JOB = "the record of another job than the journal's"
OTHER_ROWS_JOB = "the record of a job that is another row's"
UNKNOWN_ROW = "the record of a row that neither journal nor input has"


class Doubt(NamedTuple):
    """A line of the output that is a record, and not one that a run wrote. A row with a CHANGED one counts as finished."""

    start: int  # its offset
    length: int
    key: str
    found: str


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
    doubts: Sequence[Doubt] = ()  # as they stand in the output
    strangers: Sequence[Doubt] = ()  # records of finished rows that were sent, and that the journal does not know

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
    scan = _Scan(output, fold)
    finished = scan.finished
    position, corrupt = 0, None
    for key in marked:
        marker = journaled_rows[key].marker
        if marker is None or not _fits(marker, gen, output):
            continue
        start = marker[1]
        if start > position:
            bad = scan.through(position, start)
            corrupt = bad if corrupt is None else corrupt
        if key in finished:
            scan.doubts.append(Doubt(start, marker[2], key, SECOND))
        finished[key] = marker[4]
        position = max(position, start + marker[2])
    good_to = scan.to_first_bad(position)
    while good_to < len(output) and (known_to := _known_behind(output, good_to, fold, marked)) > good_to:
        corrupt = good_to if corrupt is None else corrupt
        scan.through(good_to, known_to)
        good_to = scan.to_first_bad(known_to)
    scan.judge_changed()
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
        for key, job_id in scan.job_ids.items()
        if key not in journaled_rows or not journaled_rows[key].row_sha256
    }
    doubts = sorted(scan.doubts)
    return Recovery(
        finished, open_journaled, open_jobs, gone, good_to, corrupt, retried, records_alone, doubts, scan.strangers
    )


def forget_places(fold: JournalState, recovery: Recovery) -> Iterator[Done]:
    """Take the markers of records that are gone: the entries that say so, to be on the disk before such a row is finished
    again. Else its new record would look like a changed one after a crash that comes before its marker."""
    if not recovery.gone:
        return
    for key, journaled in fold.journaled_rows.items():
        marker = journaled.marker
        if marker is not None and marker[2] and key not in recovery.finished:
            forgotten = (fold.gen, *NO_PLACE, marker[4])
            journaled.marker = forgotten
            yield Done(key, *forgotten)


class _Scan:
    """Reads the lines that no marker leads to. A line is known by its length and CRC, wherever it stands."""

    def __init__(self, output: Readable, fold: JournalState) -> None:
        self._output = output
        self._rows = fold.journaled_rows
        self._lines_lost = _lost_lines(fold)
        self._changed: list[tuple[Doubt, dict[str, Any]]] = []
        self.finished: dict[str, str] = {}
        self.job_ids: dict[str, str] = {}
        self.doubts: list[Doubt] = []
        self.strangers: list[Doubt] = []

    def through(self, start: int, end: int) -> int | None:
        """Take the records from `start` to `end`, past lines that are none; the offset of the first of those."""
        bad = None
        while (position := self._take(start, end)) < end:
            bad = position if bad is None else bad
            start = self._output.find(b"\n", position) + 1
            if not 0 < start < end:
                break
        return bad

    def to_first_bad(self, start: int) -> int:
        """Take the records from `start` on; returns where they end."""
        return self._take(start, len(self._output))

    def _take(self, position: int, end: int) -> int:
        output = self._output
        while position < end:
            line_end = output.find(b"\n", position) + 1
            if line_end == 0 or line_end > end:
                return position
            line = output[position:line_end]
            record = _parsed(line)
            if record is None:
                return position
            self._judge(position, line, record)
            position = line_end
        return position

    def _judge(self, start: int, line: bytes, record: dict[str, Any]) -> None:
        key = record["custom_id"]
        doubt = Doubt(start, len(line), key, SECOND)
        journaled = self._rows.get(key)
        marker = None if journaled is None else journaled.marker
        if key in self.finished:
            self.doubts.append(doubt)
            return
        if journaled is not None and marker is not None and marker[2]:
            if marker[2:4] != (len(line), crc32(line)):
                self._changed.append((doubt, record))
                return
        elif journaled is None or (marker is None and journaled.is_void and not journaled.row_sha256):
            if record.get("job_id") in self._ids:
                self.doubts.append(doubt._replace(found=OTHER_ROWS_JOB))
                return
            if not _shows_no_submit(record):
                self.strangers.append(doubt._replace(found=UNKNOWN_ROW))
        elif not _is_its_job(record, journaled):
            self._changed.append((doubt, record))
            return
        self._finish(key, record)

    def judge_changed(self) -> None:
        """What became of rows that have a line, and not the one that was written: all others are known by now."""
        for doubt, record in self._changed:
            key = doubt.key
            found = SECOND
            if key not in self.finished:
                if _is_its_job(record, self._rows[key]):
                    found = CHANGED
                elif record.get("job_id") in self._ids:
                    found = OTHER_ROWS_JOB
                else:  # perhaps the journal's lines about it are among those that are lost
                    found = CHANGED if self._lines_lost and record["state"] in _STATES else OTHER_JOB
                if found == CHANGED:
                    self._finish(key, record)
            self.doubts.append(doubt._replace(found=found))

    @cached_property
    def _ids(self) -> set[str | None]:
        """All job ids of the journal."""
        rows = self._rows.values()
        return {row.job_id for row in rows}.union(end.job_id for row in rows for end in row.ended) - {None}

    def _finish(self, key: str, record: dict[str, Any]) -> None:
        self.finished[key] = interned_state(record["state"])
        if isinstance(job_id := record.get("job_id"), str):
            self.job_ids[key] = job_id


def _shows_no_submit(record: dict[str, Any]) -> bool:
    """Whether it is the record of a row that ended before anything was sent for it: it may have no entry."""
    if record.get("job_id") is not None:
        return False
    state = record["state"]
    return state == State.CANCELLED or (state == State.REJECTED and record.get("billing") == Billing.NOT_BILLED)


def _is_its_job(record: dict[str, Any], journaled: JournaledRow) -> bool:
    """Whether a record may be that of a row of which the journal knows this: it names the job that it must name."""
    job_id, state = record.get("job_id"), record["state"]
    if state not in _STATES:
        return False
    if journaled.job_id is not None:
        # An id that is another row's job is not believed, and its row ends so.
        return job_id == journaled.job_id or (job_id is None and state in _WITHOUT_JOB)
    if journaled.open_intent or journaled.recorded_at is not None:  # the response to its submit may have been its end
        return True
    return job_id is None or any(job_id == end.job_id for end in journaled.ended)


def _known_behind(output: Readable, start: int, fold: JournalState, marked: list[str]) -> int:
    """Where the last line ends that stands behind the bad line at `start` and is known to have been on the disk.

    A marker knows a record by its bytes, wherever they stand by now: whoever changes a line by hand moves all that
    follow. Such a record, and what stands before it, is no torn tail. Nor is a whole line that begins where records
    were: a crash cannot change those. `start` where there is neither. Where the journal lost lines, every record counts:
    its marker may be among them.
    """
    lines_lost = _lost_lines(fold)
    known_to = position = start
    while (end := output.find(b"\n", position) + 1) > 0:
        line = output[position:end]
        record = read_record(line)
        if record is not None:
            journaled = fold.journaled_rows.get(record[0])
            marker = None if journaled is None else journaled.marker
            if lines_lost or (marker is not None and (len(line), crc32(line)) == marker[2:4]):
                known_to = end
        elif position < _records_end(fold, marked):
            known_to = end
        position = end
    return known_to


def _lost_lines(fold: JournalState) -> bool:
    """Whether the journal is one that somebody edited, or a disk damaged, and that no longer says all that it said."""
    return fold.gap is not None or bool(fold.damaged)


def _records_end(fold: JournalState, marked: list[str]) -> int:
    """The output was on the disk at least up to here."""
    last = fold.journaled_rows[marked[-1]].marker if marked else None
    return last[1] + last[2] if last is not None and last[0] == fold.gen else 0


def _fits(marker: Marker, gen: int, output: Readable) -> bool:
    of_gen, offset, length, crc, _ = marker
    line = output[offset : offset + length]
    return of_gen == gen and len(line) == length and line[-1:] == b"\n" and crc32(line) == crc


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
