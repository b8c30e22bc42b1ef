"""A service that accepts jobs and fails them: its rows wait, and few of them are sent to see whether it works again.

Only failures of the service's own are counted (OWN_FAULT), not what it says of a row, of the rate or of its load; and of
each row only the first, since a row that fails by itself fails again. Where half of the last WINDOW jobs of an endpoint and
model failed so, the breaker is open:

- One job at a time is sent, first after FIRST_GAP seconds, then after gaps that double to LONGEST_GAP while it fails.
  Each job that succeeds lets one more be in flight, and the next one follows without a gap.
- Where CLOSES of the last JUDGED jobs succeeded, the breaker is closed: all may go.
- Jobs that were in flight when it opened fail, too. They are retried when their turn comes, and no budget is charged for it.

Times are those of the engine.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from batchrun.core.taxonomy.rules import State
from batchrun.core.text.readable import duration, visible

OWN_FAULT = frozenset({State.INTERNAL_ERROR, State.SERVICE_UNAVAILABLE, State.ABORTED})
NOT_COUNTED = frozenset({State.RATE_LIMITED, State.OVERLOADED, State.CANCELLED})
"""The rate of submits is adapted to the first two; a job that somebody cancelled says nothing."""
WINDOW, OPENS = 50, 25
FIRST_GAP, LONGEST_GAP = 5.0, 60.0
JUDGED, CLOSES = 10, 8


@dataclass(frozen=True, slots=True)
class Failing:
    """A model whose jobs fail by the service's own fault, so that its rows wait."""

    model: str | None
    why: str
    lasts: float  # seconds since the breaker opened
    next_in: float | None  # seconds until another job is sent; None where one is in flight

    def __str__(self) -> str:
        """``jobs of gpt-5 fail for 4 min (server_error): one at a time, the next in 20 s``."""
        return f"{_jobs_of(self.model)} fail for {duration(self.lasts)} ({self.why}): {self.next}"

    @property
    def next(self) -> str:
        """What happens next."""
        return "one at a time" if self.next_in is None else f"one at a time, the next in {duration(self.next_in)}"


def _jobs_of(model: str | None) -> str:
    return f"jobs of {visible(model, 40)}" if model else "jobs"


class Breaker:
    """Of the rows of one endpoint and model."""

    def __init__(self, model: str | None) -> None:
        self._model = model
        self.since: float | None = None  # when it opened
        self._ends: deque[bool] = deque(maxlen=WINDOW)  # of the last jobs: whether they failed so
        self._why = ""
        self._allowed = 1.0
        self._gap = FIRST_GAP
        self._next_at = 0.0
        self._sent = 0  # jobs in flight that were sent since it opened

    @property
    def is_open(self) -> bool:
        return self.since is not None

    def opens_at(self) -> float:
        """From when on the next row may go; infinity where only the end of a job can change that."""
        if self.since is None:
            return float("-inf")
        return float("inf") if self._sent >= int(self._allowed) else self._next_at

    def sent(self) -> bool:
        """A row goes; returns whether it goes to see whether the service works again."""
        if self.since is not None:
            self._sent += 1
        return self.since is not None

    def gone(self) -> None:
        """One that was sent since it opened is in flight no longer."""
        self._sent = max(0, self._sent - 1)

    def ended(self, now: float, state: State, why: str, *, first: bool, probe: bool) -> str | None:
        """A job ended; `first`: its row never failed before; `probe`: it was sent since this opened.

        Returns what a person is to be told.
        """
        if state in NOT_COUNTED:
            return None
        failed = state in OWN_FAULT
        if self.since is None:
            if failed and not first:
                return None
            self._ends.append(failed)
            if failed:
                self._why = why
            return self._open(now) if failed and sum(self._ends) >= OPENS else None
        if failed:
            self._why = why
        if probe or first:
            self._ends.append(failed)
        if not failed:
            self._allowed += 1.0
            self._gap, self._next_at = FIRST_GAP, min(self._next_at, now)
            return self._close(now) if self._works() else None
        if probe:
            self._allowed = max(1.0, self._allowed / 2)
            self._next_at = now + self._gap
            self._gap = min(2 * self._gap, LONGEST_GAP)
        return None

    def failing(self, now: float) -> Failing | None:
        """What there is to tell while it is open."""
        if self.since is None:
            return None
        is_due = self._sent < int(self._allowed)
        return Failing(self._model, self._why, now - self.since, max(0.0, self._next_at - now) if is_due else None)

    def _works(self) -> bool:
        """Whether most of the last jobs that ended since it opened succeeded."""
        last = list(self._ends)[-JUDGED:]
        return len(last) == JUDGED and last.count(False) >= CLOSES

    def _open(self, now: float) -> str:
        failed, of = sum(self._ends), len(self._ends)
        self._ends.clear()
        self.since, self._sent, self._allowed = now, 0, 1.0
        self._gap, self._next_at = 2 * FIRST_GAP, now + FIRST_GAP
        text = f"{failed} of the last {of} {_jobs_of(self._model)} failed by the service's own fault ({self._why})"
        return f"{text}: its rows wait, and one at a time is sent, the next in {duration(FIRST_GAP)}"

    def _close(self, now: float) -> str:
        assert self.since is not None
        lasted = duration(now - self.since)
        self.since = None
        self._ends.clear()
        return f"{_jobs_of(self._model)} succeed again, after {lasted}: all rows go"
