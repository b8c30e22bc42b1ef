"""Rows that share a limit of the service, those of one model at one endpoint, as one batch submits them.

Their rate is shared with the other batches of the process; the window and the places are the batch's own. After a refusal
for the rate one submit goes alone, and each acceptance opens the window by one, as at the start of a run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from batchrun.core.limits.adaptive import AdaptiveRate, limit_refused
from batchrun.core.limits.places import Places
from batchrun.core.limits.refused_rows import ClassCounts, RefusedRow
from batchrun.core.limits.window import Window
from batchrun.core.responses.error import Source
from batchrun.core.responses.rate_headers import RateHeaders
from batchrun.core.responses.retry_after import full_jitter
from batchrun.core.responses.verdict import Refused
from batchrun.core.taxonomy.rules import State

Resource = tuple[str, str | None]
"""The path of an endpoint, and a model."""


class Rates:
    """The learned rates of one service and API key, by resource; batches of a process share one."""

    def __init__(self) -> None:
        self._rates: dict[Resource, AdaptiveRate] = {}

    def of(self, resource: Resource, now: float, first: float) -> AdaptiveRate:
        """The rate of a resource; one that nobody has met yet begins with `first` submits per second."""
        rate = self._rates.get(resource)
        if rate is None:
            rate = self._rates[resource] = AdaptiveRate(now, first=first)
        return rate


@dataclass(frozen=True, slots=True)
class Waiting:
    """Rows of a model that wait since the service refused some; `until` is when the next of them may go."""

    rows: int
    model: str | None
    why: str
    until: float


class Lane:
    """Whether and when the next row of one resource may go; `submits` is how many POSTs may be in flight."""

    def __init__(self, resource: Resource, rate: AdaptiveRate, submits: int) -> None:
        self.resource = resource
        self.rate = rate
        self.window = Window(submits)
        self.window.open()
        self.places = Places()
        self.counts = ClassCounts()
        self.in_flight = 0
        self.last_at = float("-inf")  # when the last one went
        self._failed_incidents = 0  # in a row, without a job that succeeded between them

    def opens_at(self, jobs: int) -> float | None:
        """From when on a row may go, with so many `jobs` in flight; None where only an event can change that."""
        if self.in_flight >= int(self.window.size) or jobs + 1 > self.places.limit:
            return None
        return self.rate.ready_at(self)

    def took(self, now: float, tokens: int) -> None:
        self.in_flight += 1
        self.last_at = now
        self.rate.took(now, tokens, self)

    def withdrew(self, now: float, tokens: int) -> None:
        self.in_flight -= 1
        self.rate.withdrew(now, tokens)

    def accepted(self, now: float, sent_at: float, tokens: int, shown: RateHeaders | None) -> None:
        self.in_flight -= 1
        self.window.accepted()
        self.places.accepted()
        self.counts.accepted(tokens)
        self.rate.accepted(now, sent_at, tokens, shown)

    def ended(self) -> None:
        """The outcome of a submit is unknown, or the row was refused for good: it says nothing of the rate."""
        self.in_flight -= 1

    def waiting(self, now: float, queued: int, delayed: list[float]) -> Waiting | None:
        """What waits since the service refused rows: with a pause all that are `queued`, else those `delayed` until then."""
        until = self.rate.paused_until
        if until > now:
            rows = queued + len(delayed)
        else:
            rows, until = len(delayed), min(delayed, default=now)
        return Waiting(rows, self.resource[1], self.rate.paused_for, until) if rows else None

    def job_failed_for_load(self, now: float, asked: float, chance: Callable[[], float], *, lower: bool) -> None:
        """A job was accepted and failed for a rate or an overload; the service asks to wait `asked` seconds.

        All rows of the lane wait, as after a refusal. Our own delay grows with each such incident, whatever is accepted
        between them, until a job succeeds: a service that asks for a millisecond each time is not asked all the time.
        """
        if now >= self.rate.paused_until:
            self._failed_incidents += 1
            self.rate.wait(now, full_jitter(self._failed_incidents, 0.5 + chance() / 2), chance)
            self.window.start_again(lower=lower)
        self.rate.wait(now, asked, chance)

    def job_succeeded(self) -> None:
        self._failed_incidents = 0

    def slow_down(self) -> None:
        """The service asked for fewer requests: start slowly again, and climb slowly."""
        self.window.start_again(lower=True)

    def refused(
        self,
        now: float,
        sent_at: float,
        refused: Refused,
        row: RefusedRow | None,
        jobs: int,
        chance: Callable[[], float],
    ) -> RefusedRow | None:
        """The service refused a submit of `row`, and may take it later; `jobs` are in flight besides it.

        Returns what is known of the row's refusals; None where the refusal is no word of the service, but the lack of a
        connection.
        """
        self.in_flight -= 1
        if refused.problem.source is Source.CLIENT:
            return None
        rate, problem = self.rate, refused.problem
        row = self.counts.refused(row)
        if self.counts.is_alone(row):
            rate.take_back(now, row.cut)
            row.cut_for(())
            return row
        before = rate.requests.effective or 0.0
        if self.places.concerns(jobs):
            self.places.refused(jobs)
            rate.wait(now, refused.retry_after, chance)
            return row
        if problem.http_status == 429 or refused.rule.state is State.RATE_LIMITED:
            kind = limit_refused(problem.type, problem.message, refused.shown)
            is_new = rate.refused_for_rate(now, sent_at, refused.retry_after, kind, chance, refused.shown)
        else:
            is_new = rate.refused_for_overload(now, sent_at, refused.retry_after, chance)
        if is_new:
            row.cut_for(rate.last_cut)
            self.places.incident(jobs, before)
        if rate.paused_until > now:
            self.window.start_again(lower=problem.code == "slow_down")
        return row
