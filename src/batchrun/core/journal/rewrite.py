"""What output and journal hold after a rewriting, from what they hold before it.

The records of some rows are dropped (`--retry-failed`), everything else stays what it was:

1. The new journal folds to the same state as the old one, but for the rows that were dropped, and to the same
   counts. Its `done` markers are of the new generation and lead into the new output.
2. A dropped row that the service knows by an id comes back with that id, to be polled once more: it is paid
   for again only if the service confirms the failure or no longer has the job. One whose answer was lost comes
   back as unconfirmed; `--resubmit-unconfirmed` decides about it as ever. One that was provably not accepted,
   or cancelled before it was sent, is void: as if it had never been touched.
3. Done again after a crash, from the old journal with its announcement and an output of either generation, it
   comes out the same. So nothing is asked of the dropped records but what the announcement says of them.

All lines of a new journal are synced before it takes the place of the old one; the marks at its end say so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from zlib import crc32

import orjson

from batchrun.core.journal.entries import (
    AttemptEnded,
    Cancelling,
    Cleared,
    Done,
    Dropped,
    Entry,
    Intent,
    PollAgain,
    RequestsAccepted,
    Rewrite,
    Rewritten,
    Submitted,
    Unconfirmed,
    mark,
)  # fmt: skip
from batchrun.core.journal.fold import JournaledRow, JournalState
from batchrun.core.journal.recover import NO_PLACE, Readable
from batchrun.core.responses.outcome import Billing
from batchrun.core.taxonomy.rules import State

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Span:
    """Where the record of a row stands in the output, its state, and how the row ended.

    The two differ where a row was cancelled whose answer had been lost: it ended `unconfirmed`.
    """

    key: str
    state: str
    end_of_row: Dropped
    start: int
    end: int


def spans(output: Readable) -> Iterator[Span]:
    """Every record of an output whose torn part was cut; ValueError at a line that is none."""
    position, size = 0, len(output)
    while position < size:
        end = output.find(b"\n", position) + 1
        if end == 0:
            raise ValueError(f"expected whole lines, got a torn one at {position}; cut it first")
        record = orjson.loads(output[position:end])
        lost = "submit_unanswered" in (record.get("warnings") or ())
        row: Dropped = {
            "state": State.UNCONFIRMED.value if lost else record["state"],
            "job_id": record.get("job_id"),
            "code": (record.get("error") or {}).get("code"),
            "billing": record.get("billing") or Billing.UNKNOWN.value,
        }
        yield Span(record["custom_id"], record["state"], row, position, end)
        position = end


def announcement(
    fold: JournalState, output: Readable, states: Collection[str], keys: Collection[str] | None = None
) -> Rewrite:
    """The entry that says what is to be done: drop the records that ended in one of `states`; of `keys` only, if given.

    Nothing is to be done where its `keys` are empty.
    """
    dropped = {
        span.key: span.end_of_row
        for span in spans(output)
        if span.end_of_row["state"] in states and (keys is None or span.key in keys)
    }
    return Rewrite(fold.gen + 1, dropped)


def new_output(rewrite: Rewrite, output: Readable) -> Iterator[bytes]:
    """The output without the dropped records, in pieces."""
    start = end = 0
    for span in spans(output):
        if span.key in rewrite.keys or span.end - start > _PIECE:
            if end > start:
                yield output[start:end]
            start = span.end if span.key in rewrite.keys else span.start
        end = span.end
    if end > start:
        yield output[start:end]


def new_journal(
    fold: JournalState, rewrite: Rewrite, output: Readable, unknown: Iterable[bytes] = ()
) -> Iterator[bytes]:
    """The journal that goes with `new_output`, in lines. `output` may already be the new one.

    `unknown` are the lines of the old journal that hold entries unknown here: they are carried on as they are.
    """
    assert fold.header is not None, "a journal that is rewritten has its header"
    size = 0
    header = fold.header.to_line(fold.header_extras)
    for line in chain((header,), (entry.to_line() for entry in _entries(fold, rewrite, output)), unknown):
        size += len(line)
        yield line
    first = mark(size)
    yield first
    yield mark(size + len(first))  # a lost line feed takes the line after it along: the first mark may be that line


def _entries(fold: JournalState, rewrite: Rewrite, output: Readable) -> Iterator[Entry]:
    markers: dict[str, Done] = {}
    offset = 0
    for span in spans(output):
        if span.key not in rewrite.keys:
            line = output[span.start : span.end]
            markers[span.key] = Done(span.key, rewrite.gen, offset, len(line), crc32(line), span.state)
            offset += len(line)
    for key, journaled in fold.journaled_rows.items():
        dropped = rewrite.keys.get(key)
        if dropped is not None:
            yield from _entries_of_dropped(key, journaled, dropped)
            continue
        yield from entries_of(key, journaled)
        marker = markers.pop(key, None)
        if marker is not None:
            yield marker
        elif journaled.marker is not None:  # its record is gone: the row stays known as one that was finished
            yield Done(key, rewrite.gen, *NO_PLACE, journaled.recorded_as)
    yield from markers.values()
    if fold.heard_to:
        yield RequestsAccepted(fold.heard_to, fold.cancel_all)
    yield Rewritten(rewrite.gen, fold.accepted, fold.retries)


def entries_of(key: str, journaled: JournaledRow) -> Iterator[Entry]:
    """The entries that fold to `journaled`, but for its marker. Where the journal's fold kept no time, it is 0."""
    sent = journaled.job_id is not None or journaled.open_intent or journaled.unconfirmed
    if journaled.retry_at is not None:
        if journaled.row_sha256:
            yield Intent(key, journaled.ended[-1].attempt, journaled.row_sha256, 0.0)
        yield from journaled.ended
    else:
        yield from journaled.ended
        if sent or journaled.row_sha256:
            at = journaled.submitted_at if journaled.job_id else journaled.open_since or 0.0
            yield Intent(key, journaled.attempt, journaled.row_sha256, at)
        if journaled.job_id is not None:
            yield Submitted(key, journaled.attempt, journaled.job_id, journaled.submitted_at)
        if journaled.unconfirmed:
            yield Unconfirmed(key, journaled.attempt, 0.0)
        elif journaled.row_sha256 and not sent:
            yield Cleared(key, journaled.attempt, 0.0)
    if journaled.again is not None:
        yield PollAgain(key, journaled.attempt, journaled.again)
    if journaled.cancel is not None:
        yield Cancelling(key, journaled.attempt, journaled.cancel, 0.0)


def _entries_of_dropped(key: str, journaled: JournaledRow, row: Dropped) -> Iterator[Entry]:
    reopened = JournaledRow()
    for name in ("attempt", "row_sha256", "open_since", "job_id", "submitted_at", "ended", "retry_at", "unconfirmed"):
        setattr(reopened, name, getattr(journaled, name))
    if reopened.job_id is not None:
        reopened.again = row["state"]
    elif reopened.open_intent and row["state"] != State.UNCONFIRMED:
        # The answer to its submit was its end: the service's own word, and perhaps nothing to ask for by id.
        end = AttemptEnded(key, journaled.attempt, row["job_id"], row["state"], row["code"], row["billing"], 0.0, 0.0)
        reopened.ended, reopened.retry_at = (*journaled.ended, end), 0.0
    yield from entries_of(key, reopened)
