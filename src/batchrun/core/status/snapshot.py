"""How a batch stands, at one moment: what progress and summaries are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counts of one run. `states_before` counts the records of earlier runs, `states` those of this one."""

    now: float  # on the run's clock, in seconds
    states_before: Mapping[str, int]
    states: Mapping[str, int]
    codes: Mapping[tuple[str, str], int]  # (state, error code) of the records that did not succeed
    with_warnings: int  # succeeded, with something odd about the result
    waiting: int  # rows in memory that wait for their turn or their next attempt
    in_flight: int  # jobs over there, submits included
    submits_in_flight: int
    submits: int  # POSTs that were answered or lost
    accepted: int
    refusals: int
    polls: int
    new_attempts: int
    stale: int
    paused_until: float | None  # submits wait until then, because the service asked for it
    outage: bool  # submits stopped but for probes
    halted: tuple[str, str] | None  # reason and message
    watched: int  # jobs that go on over there if the run stops now
    trouble: str | None = None  # what keeps submits waiting: what the last one met, until one is accepted
    to_end: int = 0  # jobs whose cancel is journaled and that have no record yet
    unanswered: str | None = None  # what looks at jobs meet, where none was answered for a while

    @property
    def finished_before(self) -> int:
        """Rows that earlier runs finished."""
        return sum(self.states_before.values())

    @property
    def done(self) -> int:
        """Rows with a record, earlier runs' included."""
        return self.finished_before + sum(self.states.values())

    @property
    def succeeded(self) -> int:
        return self.states.get("succeeded", 0)

    @property
    def all_succeeded(self) -> bool:
        """Whether every record there is, earlier runs' included, succeeded."""
        return not (self.states.keys() | self.states_before.keys()) - {"succeeded"}
