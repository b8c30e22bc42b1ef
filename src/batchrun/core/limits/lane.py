"""Rows that share a limit of the service, those of one model at one endpoint, as one batch submits them.

Their rate is shared with the other batches of the process; the window and the places are the batch's own. After a refusal
for the rate one submit goes alone, and each acceptance opens the window by one, as at the start of a run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from batchrun.core.limits.breaker import Breaker
from batchrun.core.limits.rate import AdaptiveRate, LimitKind, limit_refused
from batchrun.core.responses.error import Source
from batchrun.core.responses.retry_after import RateHeaders, full_jitter
from batchrun.core.responses.verdict import Refused
from batchrun.core.taxonomy.rules import State

# --- How many submits may be in flight at once: slow start, as in TCP ---


class Window:
    """How many submits may be in flight: slow start, then a careful climb.

    As in TCP: below the threshold each acceptance opens the window by one (doubling it every round trip),
    above it by 1 / size.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.threshold = float(limit)
        self.size = 1.0

    def open(self) -> None:
        """All of it at once: another window watches over the start."""
        self.size = float(self.limit)

    def accepted(self) -> None:
        step = 1.0 if self.size < self.threshold else 1.0 / self.size
        self.size = min(float(self.limit), self.size + step)

    def start_again(self, *, lower: bool = False) -> None:
        """Back to one. With `lower`, the climb is slow from half of what was open."""
        if lower:
            self.threshold = max(1.0, self.size / 2)
        self.size = 1.0


# --- How many jobs in flight a service bears, where it limits those and not a rate: learned from its refusals ---
#
# Where the last INCIDENTS incidents agree in jobs in flight and not in rate, the places become that number. Each job that
# is accepted adds PLACES_GROWTH / places, so that a limit that was raised is found. Where twice as many jobs as there are places
# were accepted since the last refusal, growth doubles with each further turn: it was no such limit.
#
# A service with a limited rate may seem to agree in jobs as well while its first burst is used up. There jobs are accepted
# between incidents although none ended; here each takes the place of one that did.


INCIDENTS = 4
AGREE = 0.2
PLACES_GROWTH = 0.5


class _Incident(NamedTuple):
    jobs: int
    rate: float
    accepted: int


class Places:
    """The places of one limited resource; `limit` is infinite until they are learned."""

    def __init__(self) -> None:
        self.limit = float("inf")
        self._incidents: deque[_Incident] = deque(maxlen=INCIDENTS)
        self._accepted = 0
        self._since_refusal = 0

    def concerns(self, jobs: int) -> bool:
        """Whether a refusal with so many `jobs` in flight is one for want of a place."""
        return jobs >= (1 - AGREE) * self.limit

    def accepted(self) -> None:
        self._accepted += 1
        if self.limit < float("inf"):
            self._since_refusal += 1
            turns = self._since_refusal / self.limit
            self.limit += PLACES_GROWTH / self.limit * 2.0 ** max(0.0, min(turns, 20.0) - 2.0)

    def refused(self, jobs: int) -> None:
        """Refused for want of a place, with so many `jobs` in flight."""
        self._since_refusal = 0
        self.limit = max(1.0, float(min(jobs, self.limit)))

    def incident(self, jobs: int, rate: float) -> None:
        """Refused with so many jobs in flight, at that rate."""
        incidents = self._incidents
        if self.limit < float("inf"):  # with far fewer jobs than places: it is something else
            self.limit = float("inf")
            incidents.clear()
        incidents.append(_Incident(jobs, rate, self._accepted))
        if len(incidents) < INCIDENTS or not _agree([one.jobs for one in incidents]):
            return
        if _agree([one.rate for one in incidents]):
            return
        first, last = incidents[0], incidents[-1]
        accepted = last.accepted - first.accepted
        ended = accepted - (last.jobs - first.jobs)
        if jobs and ended >= accepted / 2 and accepted:
            self.limit = float(jobs)
            self._since_refusal = 0


def _agree(values: list[float] | list[int]) -> bool:
    middle = sum(values) / len(values)
    return all(abs(value - middle) <= AGREE * middle for value in values)


# --- When a row that is refused again and again is at fault itself ---
#
# A row that is refused for a rate or an overload waits its own delay (1, 2, 4, 8, 16, 16 … s) behind others. It ends as
# what it was refused for only where its class of rows shows that the row is the reason: REFUSALS refusals of its own; since
# the first of them at least ACCEPTED others were accepted, one of them at least as large; and with p, the share of the
# others' submits that were refused since then, p^REFUSALS < CHANCE. At half of all submits refused at random no row ends so.
#
# The same counts show whose refusal it is when a row is refused again: where few of the others' submits were refused in the
# meantime, its refusal says nothing of the rate and nothing of other rows, and does not count for them.


REFUSALS = 8
ACCEPTED = 20
CHANCE = 1e-6
FEW = 0.1
LONGEST_DELAY = 16.0


@dataclass(slots=True)
class RefusedRow:
    """A row that was refused, and what had become of the other rows of its class by then."""

    refusals: int
    accepted_before: int
    refused_before: int
    counted: int = 1  # of its refusals, those that count for others
    cut: tuple[LimitKind, ...] = ()  # the limits that were cut for it

    @property
    def delay(self) -> float:
        """Seconds that it waits after its last refusal, at least."""
        return min(LONGEST_DELAY, 2.0 ** (self.refusals - 1))

    def refused_again(self) -> None:
        self.refusals += 1

    def counts(self) -> None:
        """Its last refusal counts for the other rows, too."""
        self.counted += 1

    def cut_for(self, kinds: tuple[LimitKind, ...]) -> None:
        """These limits were cut for its sake; none, where that was taken back."""
        self.cut = kinds


class ClassCounts:
    """What became of the submits of one class of rows."""

    def __init__(self) -> None:
        self._accepted = self._refused = 0
        # of the accepted ones: which one it was and how large, each larger than all after it
        self._largest: deque[tuple[int, int]] = deque()

    def accepted(self, tokens: int) -> None:
        self._accepted += 1
        largest = self._largest
        while largest and largest[-1][1] <= tokens:
            largest.pop()
        largest.append((self._accepted, tokens))

    def refused(self, row: RefusedRow | None) -> RefusedRow:
        """A row was refused, whose earlier refusals are `row`."""
        if row is None:
            self._refused += 1
            return RefusedRow(1, self._accepted, self._refused)
        row.refused_again()
        if not self.is_alone(row):
            self._refused += 1
            row.counts()
        return row

    def accepted_since(self, row: RefusedRow) -> int:
        """Submits that were accepted since the row's first refusal."""
        return self._accepted - row.accepted_before

    def is_alone(self, row: RefusedRow) -> bool:
        """Whether the row is refused again while few of the others' submits are."""
        return row.refusals > 1 and self.accepted_since(row) > 0 and self._share_refused(row) <= FEW

    def is_at_fault(self, row: RefusedRow, tokens: int) -> bool:
        """Whether the row, of so many `tokens`, is refused for its own sake."""
        if row.refusals < REFUSALS or self.accepted_since(row) < ACCEPTED:
            return False
        largest = next((size for which, size in self._largest if which > row.accepted_before), -1)
        return largest >= tokens and self._share_refused(row) ** REFUSALS < CHANCE

    def _share_refused(self, row: RefusedRow) -> float:
        """The share of the others' submits that were refused since the row's first refusal."""
        refused = self._refused - row.refused_before - (row.counted - 1)
        answered = refused + self.accepted_since(row)
        return refused / answered if answered else 1.0


# --- All of it for the rows of one endpoint and model ---


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
        self.breaker = Breaker(resource[1])
        self.in_flight = 0
        self.last_at = float("-inf")  # when the last one went
        self._failed_incidents = 0  # in a row, without a job that succeeded between them

    def opens_at(self, jobs: int) -> float | None:
        """From when on a row may go, with so many `jobs` in flight; None where only an event can change that."""
        if self.in_flight >= int(self.window.size) or jobs + 1 > self.places.limit:
            return None
        return max(self.rate.ready_at(self), self.breaker.opens_at())

    def lacks_place(self, now: float, jobs: int) -> bool:
        """Whether, with so many `jobs` in flight, a row may not go for want of a place, and for nothing else."""
        is_open = self.in_flight < int(self.window.size) and self.rate.paused_until <= now
        return is_open and jobs + 1 > self.places.limit

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

    def job_ended(self, now: float, state: State, why: str, *, first: bool, probe: bool) -> str | None:
        """A job ended, as `Breaker.ended` has to know; returns what a person is to be told."""
        return self.breaker.ended(now, state, why, first=first, probe=probe)

    def job_gone(self) -> None:
        """A job that was sent while others wait, to see whether the service works again, is in flight no longer."""
        self.breaker.gone()

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
