"""What a run begins with: what an earlier one left, as the events that tell the engine."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from batchrun.core.jobs.messages import Recovered, RowsTakenUp
from batchrun.core.settings.settings import Settings
from batchrun.edge.source import Checked
from batchrun.runner.loop.cancel_requests import CancelRequestReader
from batchrun.runner.opening.open import OpenBatch
from batchrun.runner.opening.read import no_collections

_ROWS_AT_ONCE = 1_000
"""Rows that are taken up before anything else gets its turn: some ten milliseconds."""


def recovered(batch: OpenBatch, hearing: CancelRequestReader, *, output_end: int) -> Recovered:
    """The counts, and what other processes wished meanwhile."""
    state = batch.state
    return Recovered(
        finished=batch.finished,
        accepted=state.accepted,
        retries=state.retries,
        gen=state.gen,
        heard_to=state.heard_to,
        cancel_all=state.cancel_all,
        wished=hearing.wanted,
        doubted=batch.doubted,
        files=batch.files,
        output_end=output_end,
    )


def taken_up(
    batch: OpenBatch, source: Checked | None, hearing: CancelRequestReader, settings: Settings, *, only_wished: bool
) -> Iterator[RowsTakenUp]:
    """The rows that are taken up, in parts, read as they are asked for. Raises InputChanged.

    With `only_wished` those rows alone that are to end; without an input and without new attempts (``--retries 0``) also
    those that wait for one.
    """
    rows = batch.open_rows(
        source,
        hearing.concerns if only_wished else None,
        last_attempts=not (only_wished or settings.retries),
    )
    more = True
    with no_collections():
        while more:
            part = list(islice(rows, _ROWS_AT_ONCE))
            more = len(part) == _ROWS_AT_ONCE
            yield RowsTakenUp(part, more)
