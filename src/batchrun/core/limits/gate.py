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

The rates are in `rate`, what batches share in `shared`, the window in `window`.

It knows no rows and no jobs. Other parts read its fields and set none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from batchrun.core.limits.rate import Rate
from batchrun.core.limits.shared import Shared
from batchrun.core.limits.window import Window
from batchrun.core.responses.retry_after import floor_with_jitter, full_jitter
from batchrun.core.responses.shape import UnknownShape
from batchrun.core.responses.verdict import Refused
from batchrun.core.settings.settings import Settings
from batchrun.core.taxonomy.rules import HaltReason

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
