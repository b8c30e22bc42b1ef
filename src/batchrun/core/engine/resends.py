"""Rows whose response was lost, at a service that keeps an idempotency key of each POST: they are sent again with it.

The profile of such a service names a header, and for how long it keeps a key (services/idempotency.py). The same key is
the same request: where the first POST created a job the service answers with that one, else it creates it now. So a lost
response costs nothing twice, and the row need not end as unconfirmed:

1. **Only with the same key**: that of its intent, which is on the disk and stays open. No other entry is written.
2. **Only within the time**, counted from the intent, less a margin for clocks and for the POST itself. A crash changes
   nothing of this: the next run finds the open intent, with its time. Where that seems to be in the future, a clock was
   set back, and its age is unknown. After that time the row ends as unconfirmed.
3. **A refusal shows nothing of the first POST.** One that asks to wait is waited for; a final one ends the row as
   unconfirmed, with what the service said.
4. A response that was read and cannot be used is not lost: sent again it would be the same.

At most `--submits` rows wait here before new ones go on, so that a crash leaves no more intents open than twice that.
A row ends as unconfirmed after `MOST` times too: it may be the row that breaks the service.
"""

from __future__ import annotations

from dataclasses import dataclass

from batchrun.core.jobs.job import NEVER, Job, Timers, WaitsFor
from batchrun.core.jobs.jobs import Jobs
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.responses.error import Problem
from batchrun.core.responses.retry_after import floor_with_jitter

MARGIN, MARGIN_SHARE = 120.0, 0.05
"""Seconds, and the share of the time, by which a key is sent again for less long than the service keeps it."""
MOST = 20
LONGEST_DELAY = 60.0
"""Seconds: these are a quarter of an hour in all."""


@dataclass(frozen=True, slots=True)
class _Lost:
    until: float  # on the engine's clock
    times: int  # so often it was sent again
    problem: Problem | None  # with the last of them


class Resends:
    """The rows that are to be sent again; `keeps` is how long the service keeps a key, 0 where it keeps none."""

    def __init__(self, jobs: Jobs, keeps: float) -> None:
        self._jobs = jobs
        self._within = keeps - max(MARGIN, MARGIN_SHARE * keeps) if keeps else 0.0
        self._lost: dict[Job, _Lost] = {}
        self._timers = Timers(WaitsFor.SENT_AGAIN)
        self._ready: dict[Job, None] = {}  # their delay is over; in order

    def __len__(self) -> int:
        return len(self._lost)

    def __contains__(self, job: Job) -> bool:
        return job in self._lost

    def in_time(self, since: float) -> bool:
        """Whether the service still keeps the key of an intent written at `since`, a time of day."""
        return 0.0 <= self._jobs.wall - since < self._within

    def lost(self, job: Job, since: float, problem: Problem | None, asked: float = 0.0) -> bool:
        """The response to the row was lost, whose intent is of the time of day `since`: whether it is sent again.

        It is the response to the last POST of several perhaps; the service asks to wait `asked` seconds.
        """
        now, known = self._jobs.now, self._lost.pop(job, None)
        if known is None:
            if not (job.about.sendable and self.in_time(since)):
                return False
            known = _Lost(since - self._jobs.epoch + self._within, 0, problem)
        elif known.times >= MOST:
            return False
        delay = floor_with_jitter(max(asked, min(LONGEST_DELAY, 2.0**known.times)), self._jobs.chance())
        if now + delay >= known.until:
            return False
        self._lost[job] = _Lost(known.until, known.times + 1, problem or known.problem)
        self._timers.put(job, now + delay)
        return True

    def forget(self, job: Job) -> Problem | None:
        """The row is answered, or over; returns why it was not before."""
        self._ready.pop(job, None)
        known = self._lost.pop(job, None)
        return None if known is None else known.problem

    def ready(self) -> list[Job]:
        """The rows that may go now, as far as their delay is concerned, in order."""
        while (job := self._timers.take(self._jobs.now)) is not None:
            if job.phase is Phase.UNANSWERED:
                self._ready[job] = None
        return list(self._ready)

    def sent(self, job: Job) -> None:
        """It goes."""
        del self._ready[job]

    def is_late(self, job: Job) -> bool:
        """Whether its time is over."""
        return self._jobs.now >= self._lost[job].until

    def next_due(self) -> float:
        """When a delay is over next, or the time of a row that may go and cannot."""
        return min(self._timers.next_due(), min((self._lost[job].until for job in self._ready), default=NEVER))
