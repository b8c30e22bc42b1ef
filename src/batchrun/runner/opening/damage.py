"""What is damaged in the files of a batch: where, how much of it is lost, and what it may have said.

Every line has its own checksum or is its own JSON, so that damage is a matter of lines: bad ones, ones that are out of
their order, ones that are missing. How many bytes are missing is known: between two marks that say where they were
written, the lines that are there must fill the difference.

A lost *intent* may leave no trace, and its row may have been sent. Rows are sent in the order of the input. So where
the lost bytes could have held its intent, a row without record, job or an answer to wait for may have been sent if it
stands before the last row that is known, or is one of the next behind that, as many as have room in those bytes.
Intents that were lost of rows that have other entries are counted out of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, takewhile
from typing import Any, NamedTuple

from batchrun.core.journal.disorder import put_in_order
from batchrun.core.journal.entries import (
    AttemptEnded,
    Cleared,
    Intent,
    Submitted,
    SyncedMark,
    Unconfirmed,
    mark,
    read_line,
)  # fmt: skip
from batchrun.core.journal.fold import JournaledRow, JournalState
from batchrun.core.journal.recover import CHANGED, OTHER_JOB, Doubt, Recovery, read_record
from batchrun.core.text.readable import Option, Part, many, visible
from batchrun.edge.append_file import FileNames
from batchrun.edge.source.checked import Checked
from batchrun.runner.opening.read import fold_file, lines_of, recovered, refuse

_HASH = 32  # characters; the intent of a later attempt may have none
_SHORTEST_INTENT = len(Intent("", 1, "", 0.0).to_line())
_SHORTEST_END = len(AttemptEnded("", 1, None, "failed", None, "billed", 0.0, 0.0).to_line())
_SHORTEST_ENTRY = len(mark(0))
_DIGITS = 16  # by which a time of day may be longer than "0.0"
_SENT = frozenset({Submitted.tag, Unconfirmed.tag, Cleared.tag, AttemptEnded.tag})


class Suspect(NamedTuple):
    """A row whose intent may be among what was lost."""

    key: str
    attempt: int
    size: int  # of that line, at the least
    polled: bool  # it has a job, which is polled: only a retry may have been sent


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with the files, and what is left of them."""

    state: JournalState  # of the lines that are good
    recovery: Recovery
    place: str = ""  # where the journal is damaged, in words; empty where it is not
    missing: int = 0  # bytes of the journal's good lines that are lost
    reordered: dict[str, JournaledRow] = field(default_factory=dict)  # rows whose entries are not in their order
    records: list[tuple[int, int]] = field(default_factory=list)  # lines of the output that are no records
    doubts: list[Doubt] = field(default_factory=list)  # and those that are, and were not written so

    @property
    def journal(self) -> list[tuple[int, int]]:
        """Offset and length of the journal's lines that are left out."""
        return self.state.damaged

    @property
    def removed(self) -> list[tuple[int, int]]:
        """Those of the output."""
        return sorted([*self.records, *((one.start, one.length) for one in self.doubts if one.found != CHANGED)])

    @property
    def may_hide_intents(self) -> bool:
        return self.missing >= _SHORTEST_INTENT

    def _may_hide(self, size: int, more: int) -> bool:
        """Whether an intent of this size, or of up to so much `more`, and other lines make up what is missing."""
        rest = self.missing - size
        return 0 <= rest <= more or rest >= _SHORTEST_ENTRY

    def suspects(self, source: Checked) -> Iterator[Suspect]:
        """The rows whose intent may be among what was lost."""
        if not self.may_hide_intents:
            return
        journaled_rows, finished, room = self.state.journaled_rows, self.recovery.finished, self.missing
        known = source.find_all((key, "") for key in journaled_rows.keys() | finished.keys())
        last = max(known.ordinals, default=-1)
        for ordinal, row in enumerate(source.rows()):
            if row.problem is not None or row.key in finished:
                continue
            journaled = journaled_rows.get(row.key)
            first, later = _size_of_intent(row.key), _size_of_intent(row.key, "")
            if ordinal > last:
                room -= first
                if room < 0:
                    return
            if journaled is None:
                if self._may_hide(first, _DIGITS):
                    yield Suspect(row.key, 1, first, polled=False)
            elif not self._may_hide(later, _DIGITS + _HASH):
                continue
            elif journaled.is_void or journaled.waits:
                yield Suspect(row.key, journaled.attempt, later, polled=False)
            elif journaled.job_id is not None and not journaled.unconfirmed and self.missing >= later + _SHORTEST_END:
                yield Suspect(row.key, journaled.attempt, later, polled=True)

    def of_another_job(self) -> Iterator[tuple[str, int]]:
        """Open rows with a record of a job that the journal does not know, and their attempts: a newer one, perhaps."""
        for key in dict.fromkeys(one.key for one in self.doubts if one.found == OTHER_JOB):
            journaled = self.recovery.open_journaled.get(key) or self.state.journaled_rows.get(key)
            if journaled is not None and key not in self.recovery.finished and not journaled.unconfirmed:
                yield key, journaled.attempt


def survey(names: FileNames, state: JournalState, recovery: Recovery) -> Damage | None:
    """What is damaged in the files of a batch; None where every line can be believed or is to be judged by the input."""
    if not state.corrupt:
        if recovery.output_corrupt_at is None:
            return None
        return Damage(state, recovery, records=list(_bad_records(names, recovery.output_good_to)))
    place = _place(state)
    state = fold_file(names.journal, max(state.synced_to, 1))
    reordered = _reordered(names, state)
    state.journaled_rows.update(reordered)
    recovery = recovered(names, state)
    bad = [] if recovery.output_corrupt_at is None else list(_bad_records(names, recovery.output_good_to))
    return Damage(state, recovery, place, _missing(names, state), reordered, bad)


def refuse_damage(names: FileNames, damage: Damage, source: Checked | None) -> None:
    """Raise FileRefused: where it is, what `--repair` would do, what it would cost."""
    if not damage.place:
        size = sum(length for _, length in damage.records)
        found = f"it is damaged at byte {damage.records[0][0]:,} ({size:,} bytes in all), in a part that was safely on the disk"
        refuse(
            str(names.output),
            found,
            (Option("repair"), " leaves the damaged lines out; their jobs are polled by their ids"),
        )
    then: tuple[Part, ...] = (
        Option("repair"),
        " leaves the damaged lines out, keeps all others, and asks the service for what is missing",
    )
    suspects = [] if source is None else [one for one in damage.suspects(source) if not one.polled]
    if suspects:
        fitting = takewhile(lambda size: size <= damage.missing, accumulate(sorted(one.size for one in suspects)))
        most = sum(1 for _ in fitting)
        risk = (
            f"; at most {many(most, 'row')} may have been sent without a trace, among {len(suspects):,} that have neither record nor "
            "job: these end as unconfirmed, unless "
        )
        then += (risk, Option("resubmit_unconfirmed"), " sends them, perhaps again")
    refuse(names.journal, damage.place, then)


def refuse_doubts(names: FileNames, doubts: list[Doubt]) -> None:
    """Raise FileRefused: which line, and what `--repair` would do."""
    refuse(
        str(names.output),
        f"it {edited(doubts)}",
        (
            Option("repair"),
            f" keeps changed records, moves other such lines to {names.output}.torn, and polls jobs for what is missing",
        ),
    )


def edited(doubts: list[Doubt]) -> str:
    """What is odd about an output, in words."""
    first = doubts[0]
    more = f", and {len(doubts) - 1:,} more like it" if len(doubts) > 1 else ""
    return f"was edited: the line at byte {first.start:,}, of row {visible(first.key, 60)}, is {first.found}{more}"


def _place(state: JournalState) -> str:
    """Where the journal is damaged first."""
    gap, astray = state.gap, state.astray
    if gap is not None and gap.start <= state.good_to:
        what = (
            f"{gap.missing:,} bytes are missing"
            if gap.missing > 0
            else f"{-gap.missing:,} bytes more than were written"
        )
        return f"it is damaged between byte {gap.start:,} and byte {gap.end:,}: {what}, in a part that was safely on the disk"
    if astray:
        return f"it is damaged at byte {state.good_to:,}: the line there cannot follow on the earlier ones of row {visible(astray[0], 60)}"
    return f"it is damaged at byte {state.good_to:,}, in a part that was safely on the disk"


def _reordered(names: FileNames, state: JournalState) -> dict[str, JournaledRow]:
    """The rows whose entries are not in their order, or of which one stands there twice, read in whatever order they stand."""
    if not state.astray and state.gap is None:
        return {}
    keys = {*state.astray, *_rows_of_doubled(names, state)}
    entries: dict[str, list[tuple[str, dict[str, Any]]]] = {key: [] for key in keys}
    for line in _lines_to(names, state.good_to):
        entry = read_line(line)
        if entry is not None and (found := entries.get(row_of(entry))) is not None:
            found.append(entry)
    return {key: put_in_order(found) for key, found in entries.items()}


def _rows_of_doubled(names: FileNames, state: JournalState) -> Iterator[str]:
    """The rows of lines that stand there twice: no line is written twice, as each has its time."""
    seen: set[bytes] = set()
    for line in _lines_to(names, state.good_to):
        if line in seen and (entry := read_line(line)) is not None and (key := row_of(entry)):
            yield key
        seen.add(line)


def _missing(names: FileNames, state: JournalState) -> int:
    """Bytes of lines that were between two marks and are not there, but for intents that are known to be among them.

    Each line counts once. A doubled one belongs where it fills what is missing; a moved one is taken for a lost one. Of a
    doubled mark the copy counts by which less is missing: the other has the lines on the wrong side of it.
    """
    found = (_mark_of(read_line(line)) for line in _lines_to(names, state.good_to))
    marks = [to for to in found if to is not None]
    chosen = ({place: marks[place] for place in _rising(marks, latest=latest)} for latest in (False, True))
    return min(_missing_between(names, state, some) for some in chosen)


def _missing_between(names: FileNames, state: JournalState, marks: dict[int, int]) -> int:
    """What is missing, where of all the marks in the file, counted from 0, only these `marks` count."""
    number = -1
    lacking = [0]  # bytes, between a mark and the next; of those behind the last one nothing is known
    since = 0
    home: dict[int, int] = {}  # of lines, by their hash: behind which mark
    doubled: list[tuple[int, int, int]] = []  # length, and the two places
    intents: set[str] = set()
    without: set[str] = (
        set()
    )  # rows whose first entry is no intent; before the first mark it may have been lost earlier
    for line in _lines_to(names, state.good_to):
        entry = read_line(line)
        if entry is None:
            continue
        if _mark_of(entry) is not None:
            number += 1
            if (to := marks.get(number)) is not None:
                lacking[-1] += to - since
                lacking.append(-len(line))
                since = to
            continue
        place = len(lacking) - 1
        known = hash(line)
        if known in home:
            doubled.append((len(line), home[known], place))
        else:
            home[known] = place
            lacking[place] -= len(line)
        key = row_of(entry)
        if entry[0] == Intent.tag:
            intents.add(key)
        elif since and entry[0] in _SENT and key not in intents:
            without.add(key)
    for length, one, other in doubled:
        if lacking[one] < 0 < lacking[other]:
            lacking[one] += length
            lacking[other] -= length
    missing = sum(max(0, size) for size in lacking[:-1])
    return max(0, missing - sum(_size_of_intent(key) for key in without - intents))


def _mark_of(entry: tuple[str, dict[str, Any]] | None) -> int | None:
    """The offset that a mark says it has; None for what is none."""
    to = entry[1].get("to") if entry is not None and entry[0] == SyncedMark.tag else None
    return to if type(to) is int else None


def _rising(numbers: list[int], *, latest: bool) -> list[int]:
    """The places of the longest rising part of `numbers`: of marks, those in their order, without doubled and moved ones.

    Of equal numbers the `latest` or the first that fits.
    """
    ends: list[int] = []  # of the best parts of each length: the place of the last number
    before: list[int] = []  # of each number: the place of the one before it in its best part
    for place, number in enumerate(numbers):
        length = bisect_left(ends, number, key=numbers.__getitem__)
        before.append(ends[length - 1] if length else -1)
        if latest or length == len(ends) or numbers[ends[length]] != number:
            ends[length : length + 1] = [place]
    part = []
    place = ends[-1] if ends else -1
    while place >= 0:
        part.append(place)
        place = before[place]
    return part[::-1]


def row_of(entry: tuple[str, dict[str, Any]]) -> str:
    """The key of an entry's row; empty where it is about none."""
    key = entry[1].get("key")
    return key if isinstance(key, str) else ""


def _size_of_intent(key: str, row_sha256: str = "0" * _HASH) -> int:
    """Of its line, at the least."""
    return len(Intent(key, 1, row_sha256, 0.0).to_line())


def _lines_to(names: FileNames, end: int) -> Iterator[bytes]:
    offset = 0
    for line in lines_of(names.journal):
        if offset >= end:
            return
        yield line
        offset += len(line)


def records_of(names: FileNames, end: int) -> Iterator[tuple[int, bytes, bool]]:
    """The lines of the output up to `end`: offset, line, and whether it is a record."""
    offset = 0
    for line in lines_of(names.output):
        if offset >= end:
            return
        yield offset, line, line.endswith(b"\n") and read_record(line) is not None
        offset += len(line)


def _bad_records(names: FileNames, end: int) -> Iterator[tuple[int, int]]:
    return ((offset, len(line)) for offset, line, good in records_of(names, end) if not good)
