"""The rows of a run: those that an earlier run left open, and those that the engine asks for of the input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from batchrun.core.jobs.job import Row
from batchrun.core.jobs.messages import Recovered, RowsTakenUp
from batchrun.core.settings.settings import Settings
from batchrun.edge.cancel_file import CancelRequestReader
from batchrun.edge.source import Checked, Growing
from batchrun.runner.opening.open import OpenBatch
from batchrun.runner.opening.read import no_collections

_ROWS_AT_ONCE = 1_000
"""Rows that are taken up before anything else gets its turn: some ten milliseconds."""


def recovered(batch: OpenBatch, requests: CancelRequestReader, *, output_end: int) -> Recovered:
    """The counts, and the cancel requests of other processes."""
    state = batch.state
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
    )


def taken_up(
    batch: OpenBatch, source: Checked | None, requests: CancelRequestReader, settings: Settings, *, only_cancels: bool
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
            yield RowsTakenUp(part, more)


class Rows:
    """Reads those rows of a checked input once, in order, that `unread` names from an ordinal on.

    Without a `source` there are none. `tokens`: as `Checked.rows`.
    """

    def __init__(
        self, source: Checked | None, unread: Callable[[Checked, int], Iterator[int]], *, tokens: bool
    ) -> None:
        self._source = source
        self._unread = unread
        self._tokens = tokens
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
                yield row
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
