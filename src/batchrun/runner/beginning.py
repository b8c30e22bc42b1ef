"""What a run begins with: what an earlier one left, as the event that tells the engine."""

from __future__ import annotations

from batchrun.core.messages import Recovered
from batchrun.core.settings import Settings
from batchrun.edge.source import Checked
from batchrun.runner.startup import Batch
from batchrun.runner.wishes import Hearing


def recovered(
    batch: Batch, source: Checked | None, hearing: Hearing, settings: Settings, *, only_wished: bool, output_end: int
) -> Recovered:
    """The rows that are taken up, the counts, and what other processes wished meanwhile.

    With `only_wished` those rows alone that are to end; without an input and without new attempts (``--retries 0``) also
    those that wait for one.
    """
    state = batch.state
    return Recovered(
        open_rows=batch.open_rows(
            source,
            hearing.concerns if only_wished else None,
            last_attempts=not (only_wished or settings.retries),
        ),
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
