"""The rows of a run: those that an earlier run left open, and those that the engine asks for of the input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

from batchrun.core.jobs.ended_ids import EndedIds
from batchrun.core.jobs.job import Row
from batchrun.core.jobs.messages import Recovered, RowsTakenUp
from batchrun.core.settings.settings import Settings
from batchrun.edge.cancel_file import CancelRequestReader
from batchrun.edge.source import Checked, Growing
from batchrun.runner.opening.open import OpenBatch
from batchrun.runner.opening.read import no_collections, recent_durations

_ROWS_AT_ONCE = 1_000
"""Rows that are taken up before anything else gets its turn: some ten milliseconds."""


def recovered(
    batch: OpenBatch,
    source: Checked | None,
    requests: CancelRequestReader,
    *,
    output_end: int,
    only_cancels: bool,
    repeats_ids: bool,
) -> Recovered:
    """The counts, and the cancel requests of other processes. Raises InputChanged."""
    state = batch.state
    with no_collections():
        ended_ids = _ended_ids(batch, source if repeats_ids else None)
    left_open: Counter[str] = Counter()
    if only_cancels and repeats_ids:
        left_open.update(
            journaled.job_id
            for key, journaled in batch.recovery.open_journaled.items()
            if journaled.job_id is not None and not requests.concerns(key, journaled)
        )
    return Recovered(
        finished=batch.finished,
        accepted=state.accepted,
        retries=state.retries,
        gen=state.gen,
        requests_read_to=state.heard_to,
        cancel_all=state.cancel_all,
        to_cancel=requests.wanted,
        new_key=batch.doubted,
        files=batch.files,
        output_end=output_end,
        ended_ids=ended_ids,
        left_open=left_open,
        durations=recent_durations(batch.names.output),
    )


def _ended_ids(batch: OpenBatch, source: Checked | None) -> EndedIds:
    """The ids of the jobs that are over. With a `source`, which a service that repeats ids needs, also their bodies."""
    ids = batch.recovery.ended_ids(batch.state)
    if source is None:
        return EndedIds(job_id for _, job_id in ids)
    rows = batch.differences.input_rows
    changed = {key for key, _ in rows.changed}
    ordinals = {key: ordinal for key, ordinal in rows if key not in changed}
    known = list(ids)
    bodies = (_body_hash(source, ordinals[key]) if key in ordinals else 0 for key, _ in known)
    return EndedIds((job_id for _, job_id in known), bodies)


def _body_hash(source: Checked, ordinal: int) -> int:
    return 0 if source.is_bad(ordinal) else source.body(ordinal).hash()


def with_body_hash(source: Checked | None, row: Row) -> Row:
    """The row with a hash of what is sent for it, where the input has that."""
    ordinal = source.ordinal_of(row.key) if source is not None and row.about.sendable else None
    if source is None or ordinal is None or row.problem is not None:
        return row
    return row._replace(about=replace(row.about, body_hash=_body_hash(source, ordinal)))


def taken_up(
    batch: OpenBatch,
    source: Checked | None,
    requests: CancelRequestReader,
    settings: Settings,
    *,
    only_cancels: bool,
    repeats_ids: bool,
) -> Iterator[RowsTakenUp]:
    """The rows that are taken up, in parts, read as they are asked for. Raises InputChanged.

    With `only_cancels` those rows alone that are to end; without an input and without retries (``--retries 0``) also
    those that wait for one.
    """
    rows = batch.open_rows(
        source,
        requests.concerns if only_cancels else None,
        last_attempts=not (only_cancels or settings.retries),
    )
    more = True
    with no_collections():
        while more:
            part = list(islice(rows, _ROWS_AT_ONCE))
            more = len(part) == _ROWS_AT_ONCE
            if repeats_ids:
                part = [(with_body_hash(source, row), journaled) for row, journaled in part]
            yield RowsTakenUp(part, more)


class Rows:
    """Reads those rows of a checked input once, in order, that `unread` names from an ordinal on.

    Without a `source` there are none. `tokens`: as `Checked.rows`; `repeats_ids`: each with a hash of its body.
    """

    def __init__(
        self,
        source: Checked | None,
        unread: Callable[[Checked, int], Iterator[int]],
        *,
        tokens: bool,
        repeats_ids: bool = False,
    ) -> None:
        self._source = source
        self._unread = unread
        self._tokens = tokens
        self._repeats_ids = repeats_ids
        self._rows: Iterator[Row] | None = None
        self._read = 0
        self.owed = 0  # rows that were asked for and are not there

    @property
    def may_grow(self) -> bool:
        """Whether rows may come that are not there yet."""
        return isinstance(self._source, Growing) and not self._source.ended

    def ask(self, rows: int) -> None:
        """Ask for so many rows more."""
        self.owed += rows

    def at_hand(self) -> Iterator[Row]:
        """The rows that were asked for and are there. Raises InputChanged."""
        source = self._source
        while source is not None and self.owed and self._read < len(source):
            if self._rows is None:
                self._rows = source.rows_at(self._ordinals(source), tokens=self._tokens)
            for row in islice(self._rows, self.owed):
                self.owed -= 1
                yield with_body_hash(source, row) if self._repeats_ids else row
            if self.owed:
                self._rows = None  # it ends where the input ended when it was begun

    def _ordinals(self, source: Checked) -> Iterator[int]:
        end = len(source)
        for ordinal in self._unread(source, self._read):
            self._read = ordinal + 1
            yield ordinal
        self._read = max(self._read, end)

    def are_to_come(self, key: str) -> bool:
        """Whether the input holds a row with this key that was not read yet."""
        ordinal = None if self._source is None else self._source.ordinal_of(key)
        return ordinal is not None and ordinal >= self._read
