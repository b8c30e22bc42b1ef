"""When a submit may go.

`Gate` joins limits, pauses and halts:

- **slots**: at most `submits` requests whose outcome is not yet safe on the disk (the W of the promise
  "one crash leaves at most W rows unconfirmed"), and at most `concurrency` jobs in flight, never more
  than can all be polled in time
- **rates**: requests and tokens a minute, spread over short windows (`Rate`)
- **slow start**: the first submit goes alone; each acceptance opens the window by one, up to `submits`
- **pauses**: a refusal that asks to wait stops all submits, as does a job that failed for a rate or an overload and
  asks to wait; all of them within one pause are one incident
- **outage**: after five ambiguous outcomes in a row submits stop but for one probe at a time
- **halts**: nothing is submitted any more, for one reason

It knows no rows and no jobs. Other parts read its fields and set none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from batchrun.core.responses.retry_after import floor_with_jitter, full_jitter
from batchrun.core.responses.shape import UnknownShape
from batchrun.core.responses.verdict import Refused
from batchrun.core.settings.settings import Settings
from batchrun.core.taxonomy.rules import HaltReason

# --- An exact rate: a weighted virtual-schedule limiter (GCRA) with debt and refund ---
#
# Each request of weight w moves a theoretical arrival time (TAT) on by w / pace. A request may go once now
# has come within TOLERANCE of it. The tolerance lets a loop that woke some milliseconds late catch up; the
# pace is lowered by the same share, so that no window of one second ever holds more than rate + 1 requests,
# and 1 / (1 + TOLERANCE) = 96% of the rate can be used.
#
# A request may go as soon as it is *its turn*, whatever its weight, and is charged in full afterwards
# (debt): a large row waits no longer than a small one, and the next ones pay for it. What turned out to be
# cheaper than estimated is given back.
#
# Declined: a token bucket filled each minute. Services enforce a minute's limit over one to ten seconds and
# refuse its burst.


TOLERANCE = 0.04


class Rate:
    """At most `per_second` units per second, spread evenly; None is no limit."""

    __slots__ = ("_pace", "_tat", "per_second")

    def __init__(self, per_second: float | None) -> None:
        self._tat = float("-inf")
        self.pace(per_second)

    def pace(self, per_second: float | None) -> None:
        """Let so many units go per second from now on."""
        self.per_second = per_second
        self._pace = per_second / (1 + TOLERANCE) if per_second else 0.0

    def ready_at(self) -> float:
        """From when on the next request may go; minus infinity where nothing limits it."""
        return self._tat - TOLERANCE

    def take(self, now: float, weight: float = 1.0) -> None:
        """Charge a request that goes now."""
        if self._pace:
            self._tat = max(self._tat, now) + weight / self._pace

    def settle(self, now: float, estimated: float, actual: float) -> None:
        """Charge what a request cost beyond its estimate, or give back what it did not use."""
        if self._pace and estimated != actual:
            self._tat = max(self._tat, now) + (actual - estimated) / self._pace


# --- Limits that several batches of one process share: a rate of submits, and a number of jobs in flight ---
#
# The rate is one `Rate` that all of them charge. Places are given first come first served: a batch that finds none
# waits in line and is called when one is free, because the batch whose job has just ended would otherwise take its
# place again at once, and the others would wait for its end. A batch that is called and no longer needs the place
# passes the turn on.


class Shared:
    """What batches share. A member is any object; it joins with what is to be called when it is its turn."""

    def __init__(self, *, rpm: float | None = None, concurrency: int | None = None) -> None:
        self.requests = Rate(rpm / 60 if rpm else None)
        self.concurrency = concurrency
        self._jobs: dict[object, int] = {}
        self._call: dict[object, Callable[[], object]] = {}
        self._line: dict[object, None] = {}  # in order
        self._turn: object | None = None

    @property
    def jobs(self) -> int:
        """Jobs in flight, all members' together."""
        return sum(self._jobs.values())

    @property
    def members(self) -> int:
        return len(self._call)

    def join(self, member: object, call: Callable[[], object]) -> None:
        """`call` must ask `has_room` soon, not at once, and then `passed`."""
        self._call[member] = call
        self._jobs[member] = 0

    def leave(self, member: object) -> None:
        """The member is over; what it has on the service no longer counts."""
        self._call.pop(member, None)
        self._jobs.pop(member, None)
        self._line.pop(member, None)
        self.passed(member)

    def has_room(self, member: object, jobs: int) -> bool:
        """Whether `member`, with `jobs` in flight, may start another; if not it waits in line."""
        self.count(member, jobs)
        if self.concurrency is None:
            return True
        if self.jobs < self.concurrency and (self._turn is member or (self._turn is None and not self._line)):
            return True
        self._line.setdefault(member)
        self.passed(member)
        return False

    def took(self, member: object, now: float) -> None:
        """`member` has started another; a turn is good for one."""
        self.requests.take(now)
        if member in self._jobs:
            self._jobs[member] += 1
        self.passed(member)

    def withdrew(self, now: float) -> None:
        """A request that was charged is not sent after all."""
        self.requests.settle(now, 1, 0)

    def count(self, member: object, jobs: int) -> None:
        """`member` has so many jobs in flight now."""
        fewer = jobs < self._jobs.get(member, 0)
        if member in self._jobs:
            self._jobs[member] = jobs
        if fewer:
            self._call_next()

    def passed(self, member: object) -> None:
        """`member` has used its turn, or does not want it."""
        if self._turn is member:
            self._turn = None
        self._call_next()

    def _call_next(self) -> None:
        if self._turn is None and self._line and (self.concurrency is None or self.jobs < self.concurrency):
            self._turn = next(iter(self._line))
            del self._line[self._turn]
            self._call[self._turn]()


AMBIGUOUS_IN_A_ROW = 5
FIRST_PROBE, LONGEST_PROBE_GAP, PROBES = 5.0, 60.0, 30
REFUSED_AT_FIRST = 20
ACCEPTS_NOTHING_FOR = 3600.0
"""A service that accepts nothing for this long, in seconds, halts the run."""


@dataclass(frozen=True, slots=True)
class HaltState:
    """A halt, as the user is told."""

    reason: HaltReason
    message: str
    shape: UnknownShape | None = None  # the response that was the reason


class Window:
    """How many submits may be in flight: slow start, then a careful climb.

    As in TCP: below the threshold each acceptance opens the window by one (doubling it every round trip),
    above it by 1 / size.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.threshold = float(limit)
        self.size = 1.0

    def accepted(self) -> None:
        step = 1.0 if self.size < self.threshold else 1.0 / self.size
        self.size = min(float(self.limit), self.size + step)

    def start_again(self, *, lower: bool = False) -> None:
        """Back to one. With `lower`, the climb is slow from half of what was open."""
        if lower:
            self.threshold = max(1.0, self.size / 2)
        self.size = 1.0


class Gate:
    """Whether and when the next submit may go. `chance` gives random numbers in [0, 1); `shared` are limits of several batches."""

    def __init__(
        self, settings: Settings, now: float, chance: Callable[[], float], shared: Shared | None = None
    ) -> None:
        self._settings = settings
        self.shared = Shared() if shared is None else shared
        self._chance = chance
        self.places = float(settings.max_jobs)
        self.requests = Rate(settings.rpm / 60 if settings.rpm else None)
        self.tokens = Rate(settings.tpm / 60 if settings.tpm else None)
        self.window = Window(settings.submits)
        self.in_flight = 0  # submits without a response
        self.exposed = 0  # submits whose outcome is not yet safe on the disk; never fewer than in flight
        self.paused_until = float("-inf")
        self.halted: HaltState | None = None
        self.closed = False  # by a stop: like a halt, but asked for
        self.doubted = False  # the API key may be another project's: it has yet to find a job of this batch
        self.known = False  # an acceptance was seen
        self.proven = False  # the same, in this run or an earlier one: the service's responses are read rightly
        self.trouble: str | None = None  # why submits wait, until one is accepted
        self._incidents = 0
        self._failed_incidents = 0  # in a row, without a job that succeeded between them
        self._ambiguous = 0
        self._stragglers = 0  # submits in flight that were sent before the outage; their outcomes say nothing new
        self._probe_gap = 0.0
        self._probes = 0
        self._refused_at_first: dict[str, int] = {}
        self._last_acceptance = now

    @property
    def outage(self) -> bool:
        return self._ambiguous >= AMBIGUOUS_IN_A_ROW

    def opens_at(self, open_jobs: int) -> float | None:
        """From when on a submit may go; None where only an event can change that.

        `open_jobs` counts the jobs on the service, submits included.
        """
        if self.halted is not None or self.closed or self.doubted:
            return None
        allowed = 1 if self.outage else int(self.window.size)
        if self.in_flight >= allowed or self.exposed >= self._settings.submits:
            return None
        if open_jobs >= self.places:
            return None
        if not self.shared.has_room(self, open_jobs):
            return None
        return max(self.paused_until, self.requests.ready_at(), self.tokens.ready_at(), self.shared.requests.ready_at())

    # --- submits ---

    def took(self, now: float, tokens: int) -> None:
        """A submit goes: its intent is being written."""
        self.in_flight += 1
        self.exposed += 1
        self.requests.take(now)
        self.tokens.take(now, tokens)
        self.shared.took(self, now)

    def withdrew(self, now: float, tokens: int) -> None:
        """A submit that was taken does not go after all; it stays exposed until that is on the disk."""
        self.in_flight -= 1
        self._is_straggler()
        self.requests.settle(now, 1, 0)
        self.tokens.settle(now, tokens, 0)
        self.shared.withdrew(now)

    def safe(self) -> None:
        """The outcome of a submit is on the disk."""
        self.exposed -= 1

    def accepted(self, now: float) -> None:
        self.in_flight -= 1
        self.known = self.proven = True
        self._refused_at_first.clear()
        self._last_acceptance = now
        if self._is_straggler():
            return
        if self.outage:
            self.window.start_again()
        self.window.accepted()
        self.trouble = None
        self._incidents = self._ambiguous = self._probes = 0
        self._probe_gap = 0.0

    def refused(self, now: float, refused: Refused, tokens: int) -> None:
        """Nothing was created. Pauses, counts, and may halt the run."""
        self.in_flight -= 1
        self._is_straggler()
        self.tokens.settle(now, tokens, 0)
        problem = refused.problem
        if refused.rule.halts:
            reason = HaltReason(refused.rule.billing_reason or HaltReason.AUTH.value)
            self.halt(reason, f"{problem.code or reason}: {problem.message}")
        elif refused.again:
            self.trouble = problem.message
            self._pause(now, refused)
            if now - self._last_acceptance >= ACCEPTS_NOTHING_FOR:
                self.halt(HaltReason.NO_ACCEPTANCE, f"no row was accepted for an hour: {problem.message}")
        elif not self.known and not self._settings.keep_going:
            self._refused_at_first_with(problem.code or f"HTTP {problem.http_status}", problem.message)

    def lost(self, now: float, message: str) -> None:
        """The outcome of a submit is unknown."""
        self.in_flight -= 1
        self._ambiguous += 1
        self.trouble = message
        if not self.outage:
            return
        if self._ambiguous == AMBIGUOUS_IN_A_ROW:
            self._stragglers = self.in_flight
        else:
            self._is_straggler()
        if self._probe_gap == 0.0 or now >= self.paused_until:
            if self._probe_gap:
                self._probes += 1
            if self._probes >= PROBES:
                self.halt(HaltReason.OUTAGE, f"{PROBES} probes in a row got no response: {message}")
            self._probe_gap = min(self._probe_gap * 2 or FIRST_PROBE, LONGEST_PROBE_GAP)
            self.paused_until = now + self._probe_gap

    def tokens_used(self, now: float, estimated: int, actual: int) -> None:
        """A job used `actual` tokens, not the `estimated` ones."""
        self.tokens.settle(now, estimated, actual)

    def job_failed_for_load(self, now: float, asked: float, message: str, *, lower: bool) -> None:
        """A job was accepted and failed for a rate or an overload; the service asks to wait `asked` seconds.

        All submits wait, as after a refusal. Our own delay grows with each such incident, whatever is accepted between
        them, until a job succeeds: a service that asks for a millisecond each time is not asked all the time.
        """
        self.trouble = message
        delay = floor_with_jitter(asked, self._chance())
        if now >= self.paused_until:
            self._failed_incidents += 1
            delay = max(delay, full_jitter(self._failed_incidents, 0.5 + self._chance() / 2))
            self.window.start_again(lower=lower)
        self.paused_until = max(self.paused_until, now + delay)

    def job_succeeded(self) -> None:
        self._failed_incidents = 0

    def slow_down(self) -> None:
        """The service asked for fewer requests: start slowly again, and climb slowly."""
        self.window.start_again(lower=True)

    # --- the run ---

    def halt(self, reason: HaltReason, message: str, shape: UnknownShape | None = None) -> None:
        """Submit nothing any more. The first reason stands."""
        if self.halted is None:
            self.halted = HaltState(reason, message, shape)

    def accepted_before(self) -> None:
        """An earlier run of the batch saw an acceptance."""
        self.proven = True

    def close(self) -> None:
        """Submit nothing any more, as asked."""
        self.closed = True

    def doubt_key(self) -> None:
        """Submit nothing until the API key has found a job of this batch."""
        self.doubted = True

    def trust_key(self) -> None:
        self.doubted = False

    def lift_places(self) -> None:
        """Submit without regard to --concurrency, as no poll will ever free a place."""
        self.places = float("inf")

    def count(self, open_jobs: int) -> None:
        """Tell the batches that share limits how many jobs this one has in flight."""
        self.shared.count(self, open_jobs)

    # --- pauses and refusals ---

    def _is_straggler(self) -> bool:
        """Whether the submit that just ended was sent before the outage: no probe goes before all of them ended."""
        if self._stragglers:
            self._stragglers -= 1
            return True
        return False

    def _pause(self, now: float, refused: Refused) -> None:
        if refused.retry_after is not None:
            until = now + floor_with_jitter(refused.retry_after, self._chance())
            new_incident = now >= self.paused_until
        elif now >= self.paused_until:
            until, new_incident = now + full_jitter(self._incidents + 1, 0.5 + self._chance() / 2), True
        else:
            return
        if new_incident:
            self._incidents += 1
            self.window.start_again(lower=refused.problem.code == "slow_down")
        self.paused_until = max(self.paused_until, until)

    def _refused_at_first_with(self, code: str, message: str) -> None:
        count = self._refused_at_first.get(code, 0) + 1
        self._refused_at_first[code] = count
        if count >= REFUSED_AT_FIRST:
            self.halt(HaltReason.ALL_REFUSED, f"every row so far was refused ({code}): {message}")
