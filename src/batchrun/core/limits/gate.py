"""When a submit may go.

`Gate` joins limits, pauses and halts:

- **slots**: at most `submits` requests whose outcome is not yet safe on the disk (the W of the promise
  "one crash leaves at most W rows unconfirmed"), and at most `concurrency` jobs in flight, never more
  than can all be polled in time
- **rates**: requests and tokens a minute as the user limits them, spread over short windows (`Rate`), and below them
  what the service is found to bear, for each model at each endpoint (`Lane`)
- **slow start**: the first submit goes alone; each acceptance opens the window by one, up to `submits`
- **pauses**: where no connection can be made all submits wait; all such failures within one pause are one incident. A
  refusal of the service pauses its `Lane`, as does a job that failed for a rate or an overload and asks to wait
- **outage**: after five ambiguous outcomes in a row submits stop but for one probe at a time; whether the service
  answers at all is known to `Reach`, and `CatchUp` holds submits back for a while after an outage
- **halts**: nothing is submitted any more, for one reason

Read first `rate`, then `lane`.

It knows no rows and no jobs. Other parts read its fields and set none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from batchrun.core.limits.catch_up import CatchUp
from batchrun.core.limits.lane import Lane, Rates, RefusedRow, Resource, Window
from batchrun.core.limits.rate import FIRST, AdaptiveRate, Rate
from batchrun.core.limits.reach import LONGEST_TRY_GAP, Reach
from batchrun.core.responses.retry_after import RateHeaders, full_jitter
from batchrun.core.responses.shape import UnknownShape
from batchrun.core.responses.verdict import Refused
from batchrun.core.settings.settings import ADAPTIVE, Settings
from batchrun.core.taxonomy.rules import HaltReason

# --- Limits that several batches of one process share: a rate of submits, and a number of jobs in flight ---
#
# The rate is one `Rate` that all of them charge. Places are given first come first served: a batch that finds none waits in
# line and is called when one is free, because the batch whose job has just ended would otherwise take its place again at
# once, and the others would wait for its end. A batch that is called and no longer needs the place passes the turn on.


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


class Gate:
    """Whether and when the next submit may go. `chance` gives random numbers in [0, 1); `shared` are limits of several batches, `rates` what they learned of the service."""

    def __init__(
        self,
        settings: Settings,
        chance: Callable[[], float],
        shared: Shared | None = None,
        rates: Rates | None = None,
    ) -> None:
        self._settings = settings
        self._rates = Rates() if rates is None else rates
        self.lanes: dict[Resource, Lane] = {}
        self.shared = Shared() if shared is None else shared
        self._chance = chance
        self.places = float(settings.max_jobs)
        self.requests = Rate(settings.rpm / 60 if settings.rpm else None)
        self.tokens = Rate(settings.tpm / 60 if settings.tpm else None)
        self.window = Window(settings.submits)
        self.reach = Reach()
        self._catch_up = CatchUp()
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
        self._ambiguous = 0
        self._stragglers = 0  # submits in flight that were sent before the outage; their outcomes say nothing new
        self._probe_gap = 0.0
        self._probes = 0
        self._refused_at_first: dict[str, int] = {}
        self._refused_since: float | None = None  # without an acceptance since

    @property
    def outage(self) -> bool:
        return self._ambiguous >= AMBIGUOUS_IN_A_ROW

    def opens_at(self, open_jobs: int) -> float | None:
        """From when on a submit may go, as far as all lanes are concerned; None where only an event can change that.

        `open_jobs` counts the jobs on the service, submits included.
        """
        if not self._is_open() or open_jobs >= self.places:
            return None
        if not self.shared.has_room(self, open_jobs):
            return None
        return self.opens_again_at()

    def opens_again_at(self) -> float | None:
        """As `opens_at`, for a row that holds a place already."""
        if not self._is_open():
            return None
        own = max(self.paused_until, self._catch_up.ready_at(), self.requests.ready_at(), self.tokens.ready_at())
        return max(own, self.shared.requests.ready_at())

    def _is_open(self) -> bool:
        """Whether one more submit may be in flight."""
        if self.halted is not None or self.closed or self.doubted:
            return False
        allowed = 1 if self.outage else int(self.window.size)
        return self.in_flight < allowed and self.exposed < self._settings.submits

    def lacks_place(self, now: float, open_jobs: int) -> bool:
        """Whether no submit may go for want of a place, and for nothing else."""
        if not self._is_open() or self.outage or self.paused_until > now:
            return False
        return open_jobs >= self.places or not self.shared.has_room(self, open_jobs)

    def lane(self, resource: Resource, now: float) -> Lane:
        """The lane of the rows of a resource."""
        lane = self.lanes.get(resource)
        if lane is None:
            settings, first = self._settings, self.requests.per_second or FIRST
            learns = settings.rate == ADAPTIVE
            rate = self._rates.of(resource, now, first) if learns else AdaptiveRate(now, learns=False)
            lane = self.lanes[resource] = Lane(resource, rate, settings.submits)
        return lane

    def pause(self, now: float) -> float | None:
        """Until when no row may go; None where some may."""
        until = min((lane.rate.paused_until for lane in self.lanes.values()), default=now)
        until = max(until, self.paused_until)
        return until if until > now else None

    def tokens_a_minute(self, lane: Lane) -> float | None:
        """Tokens that rows of the lane may take in a minute, where a limit is known: the user's or the service's."""
        ceiling = lane.rate.tokens.ceiling
        limits = (self._settings.tpm, None if ceiling is None else 60 * ceiling)
        return min((limit for limit in limits if limit is not None), default=None)

    # --- submits ---

    def took(self, lane: Lane, now: float, tokens: int) -> None:
        """A submit goes: its intent is being written."""
        lane.took(now, tokens)
        self.in_flight += 1
        self.exposed += 1
        self._catch_up.took(now)
        self.requests.take(now)
        self.tokens.take(now, tokens)
        self.shared.took(self, now)

    def withdrew(self, lane: Lane, now: float, tokens: int) -> None:
        """A submit that was taken does not go after all; it stays exposed until that is on the disk."""
        lane.withdrew(now, tokens)
        self.in_flight -= 1
        self._is_straggler()
        self.requests.settle(now, 1, 0)
        self.tokens.settle(now, tokens, 0)
        self.shared.withdrew(now)

    def safe(self) -> None:
        """The outcome of a submit is on the disk."""
        self.exposed -= 1

    def accepted(self, lane: Lane, now: float, sent_at: float, tokens: int, shown: RateHeaders | None = None) -> None:
        lane.accepted(now, sent_at, tokens, shown)
        self.in_flight -= 1
        self.known = self.proven = True
        self._refused_at_first.clear()
        self._refused_since = None
        if self._is_straggler():
            return
        self._answered(now)
        if self.outage:
            self.window.start_again()
        self.window.accepted()
        self.trouble = None
        self._incidents = self._ambiguous = self._probes = 0
        self._probe_gap = 0.0

    def refused(
        self,
        lane: Lane,
        now: float,
        sent_at: float,
        refused: Refused,
        tokens: int,
        jobs: int,
        row: RefusedRow | None = None,
    ) -> RefusedRow | None:
        """Nothing was created. Pauses, counts, and may halt the run.

        `jobs` of the lane are in flight besides it; `row` is what is known of earlier refusals of the row. Returned is
        what is known of them now, where the service may take the row later.
        """
        self.in_flight -= 1
        self._is_straggler()
        self.tokens.settle(now, tokens, 0)
        problem = refused.problem
        if refused.unconnected:
            self._failed(now, problem.message, unconnected=True)
        elif problem.http_status is not None:
            self._answered(now)
        if not refused.again:
            lane.ended()
        if refused.rule.halts:
            reason = HaltReason(refused.rule.billing_reason or HaltReason.AUTH.value)
            self.halt(reason, f"{problem.code or reason}: {problem.message}")
        elif refused.again:
            self.trouble = problem.message
            row = lane.refused(now, sent_at, refused, row, jobs, self._chance)
            if row is None:
                self._pause(now)
            if self._refused_since is None:
                self._refused_since = now
            elif now - self._refused_since >= ACCEPTS_NOTHING_FOR:
                self.halt(HaltReason.NO_ACCEPTANCE, f"no row was accepted for an hour: {problem.message}")
            return row
        elif not self.known and not self._settings.keep_going:
            self._refused_at_first_with(problem.code or f"HTTP {problem.http_status}", problem.message)
        return None

    def lost(self, lane: Lane, now: float, message: str, *, answered: bool = False) -> None:
        """The outcome of a submit is unknown; `answered` where the service itself responded."""
        if answered:
            self._answered(now)
        else:
            self._failed(now, message, unconnected=False)
        lane.ended()
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

    def job_failed_for_load(self, lane: Lane, now: float, asked: float, message: str, *, lower: bool) -> None:
        """A job of the lane failed for a rate or an overload; the service asks to wait `asked` seconds."""
        self.trouble = message
        lane.job_failed_for_load(now, asked, self._chance, lower=lower)

    # --- polls, as far as they show whether the service answers ---

    def poll_answered(self, now: float) -> float | None:
        """A poll, or a cancel, was answered; returns since when none was, where that was an outage."""
        since = self.reach.answered(self.reach.polls, now)
        self._after(now, since)
        if since is not None:
            self.paused_until = min(self.paused_until, now)  # for want of an answer, which there is now
        return since

    def poll_failed(self, now: float, message: str, *, unconnected: bool) -> None:
        """A poll, or a cancel, was not answered."""
        self._catch_up.failed(now)
        self.reach.failed(self.reach.polls, now, message, unconnected=unconnected)

    def suspended(self, now: float) -> None:
        """The process was suspended."""
        self.reach.suspended(now)

    def nothing_to_ask(self, *, submits: bool, polls: bool) -> None:
        """There are no `submits`, or no `polls`, that could be answered."""
        if submits:
            self.reach.idle(self.reach.submits)
        if polls:
            self.reach.idle(self.reach.polls)

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

    def _answered(self, now: float) -> None:
        self._after(now, self.reach.answered(self.reach.submits, now))

    def _after(self, now: float, since: float | None) -> None:
        """A request was answered; `since` is when an outage began that is over."""
        if since is not None or not self.reach.is_silent:
            self._catch_up.answered(now, outage=since is not None)

    def _failed(self, now: float, message: str, *, unconnected: bool) -> None:
        self._catch_up.failed(now)
        self.reach.failed(self.reach.submits, now, message, unconnected=unconnected)

    def _pause(self, now: float) -> None:
        """No connection: all submits wait."""
        if now < self.paused_until:
            return
        self._incidents += 1
        longest = LONGEST_PROBE_GAP if self.reach.connected else LONGEST_TRY_GAP
        self.paused_until = now + full_jitter(self._incidents, 0.5 + self._chance() / 2, cap=longest)
        self.window.start_again()

    def _refused_at_first_with(self, code: str, message: str) -> None:
        count = self._refused_at_first.get(code, 0) + 1
        self._refused_at_first[code] = count
        if count >= REFUSED_AT_FIRST:
            self.halt(HaltReason.ALL_REFUSED, f"every row so far was refused ({code}): {message}")
