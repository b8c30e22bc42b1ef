"""The rate of submits: an exact one, and the one that a service bears, which is learned."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import sqrt
from typing import Literal

from batchrun.core.responses.retry_after import LimitShown, RateHeaders, floor_with_jitter, full_jitter

# --- An exact rate: a weighted virtual-schedule limiter (GCRA) with debt and refund ---
#
# Each request of weight w moves a theoretical arrival time (TAT) on by w / pace. A request may go once now has come within
# TOLERANCE of it. The tolerance lets a loop that woke some milliseconds late catch up; the pace is lowered by the same
# share, so that no window of one second ever holds more than rate + 1 requests, and 1 / (1 + TOLERANCE) = 96% of the rate
# can be used.
#
# A request may go as soon as it is *its turn*, whatever its weight, and is charged in full afterwards (debt): a large row
# waits no longer than a small one, and the next ones pay for it. What turned out to be cheaper than estimated is given
# back.
#
# Declined: a token bucket filled each minute. Services enforce a minute's limit over one to ten seconds and refuse its
# burst.


TOLERANCE = 0.04


class Rate:
    """At most `per_second` units per second, spread evenly; None is no limit."""

    __slots__ = ("_credit", "_pace", "_tat", "per_second")

    def __init__(self, per_second: float | None) -> None:
        self.per_second = per_second
        self._pace = per_second / (1 + TOLERANCE) if per_second else 0.0
        self._tat = float("-inf")
        self._credit = 0.0

    def change(self, per_second: float | None, *, credit: float = 0.0) -> None:
        """From now on so many; what was not used in the last `credit` seconds may still be."""
        self.per_second = per_second
        self._pace = per_second / (1 + TOLERANCE) if per_second else 0.0
        self._credit = credit

    def ready_at(self) -> float:
        """From when on the next request may go; minus infinity where nothing limits it."""
        return self._tat - TOLERANCE

    def take(self, now: float, weight: float = 1.0) -> None:
        """Charge a request that goes now."""
        if self._pace:
            self._tat = max(self._tat, now - self._credit) + weight / self._pace

    def settle(self, now: float, estimated: float, actual: float) -> None:
        """Charge what a request cost beyond its estimate, or give back what it did not use."""
        if self._pace and estimated != actual:
            self._tat = max(self._tat, now) + (actual - estimated) / self._pace


# --- The rate that a service bears, learned: submits and tokens per second of one limited resource ---
#
# Until the first cut the rate doubles in every second in which it is used. A refusal for the rate cuts it to CUT of what it
# was, once per *incident*: what was sent before the cut says nothing new, and there is no second cut before something that
# was sent since was accepted. Meanwhile a delay grows to LONGEST_DELAY, so that a service that refuses everything is asked
# rarely, and does not leave a rate of nothing behind. After a cut, COOLDOWN seconds later, the rate grows by GROWTH in
# every STEP seconds in which at least USED of it was used.
#
# Two things make a refusal say something of all rows: a 429 does at once; an overload (503, 529) does where more than
# OVERLOADED of the last LAST submits were refused. Else one of twenty submits refused at random would leave one percent of
# the throughput.
#
# `x-ratelimit-limit-*` is a ceiling. Where it was used up for a minute without a refusal the rate may grow beyond it, once:
# a refusal then shows that the header is true, and twice a minute's worth that were accepted beyond it show that it is not.
#
# Times are those of the engine's clock. Several batches of a process may share one: each says when what it was sent.


LimitKind = Literal["requests", "tokens"]

RATE_LIMIT, OVERLOAD = "rate limit", "overload"
FIRST = 200.0
"""Submits per second at first: fewer than the slow start lets go, and more than most services bear."""
LEAST_FIRST = 100.0
"""The first cut leaves at least CUT of this: a row that is refused for its own sake is mistaken for a limit."""
LEAST, LEAST_TOKENS = 1 / 30, 10.0
MOST = 1e6
DOUBLING = 1.0
CUT = 0.8
GROWTH, STEP, USED = 1.05, 5.0, 0.8
COOLDOWN = 15.0
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
LEAST_STEP = 10
"""Submits of a step at least: a service of three a minute is not asked for more after every one."""
HARDLY_ANY = 5
"""Where no more than so many were accepted between two cuts, the rate is cut to the mean of what it was and what went."""
OVERLOADED, LAST = 0.2, 50
AFTER_YOU = 0.005
"""Seconds by which a batch lets another go first, where it had the last turn itself."""
BELIEVED_FOR = 60.0
"""A ceiling that was used up for so long, in seconds, without a refusal is tried once."""


class LearnedRate:
    """Units per second of requests, or of tokens; `first` is None where nothing limits them before the first cut."""

    def __init__(self, now: float, first: float | None, least: float, least_first: float) -> None:
        self.per_second = first
        self.is_found = False  # the first cut was made
        self._least, self._least_first = least, least_first
        self.exact = Rate(None)
        self._ceiling: float | None = None
        self._beyond = 1.0  # how far the ceiling may be passed, to try it
        self._ceiling_is_true = self._ceiling_is_false = False
        self._full_since = now  # the ceiling is used up, and nothing was refused
        self._accepted, self._accepted_since = 0.0, now  # as long as the ceiling is the same
        self._began, self._ends, self._used, self._takes = now, now + DOUBLING, 0.0, 0  # the present step
        self._cuts, self._before_cuts = 0, first
        self._accepted_of_cut, self._weight_of_cut, self._cut_at = 0, 0.0, now  # since the last cut
        self._before = (0.0, 0.0)  # use and length of the step before it
        self._grows_from = now
        self._apply()

    @property
    def effective(self) -> float | None:
        """Units per second that may go; None for no limit."""
        ceiling = self.ceiling
        if ceiling is None or (self.per_second is not None and self.per_second < ceiling * self._beyond):
            return self.per_second
        return ceiling * self._beyond

    @property
    def ceiling(self) -> float | None:
        """What the service's headers allow, where they are believed."""
        return None if self._ceiling_is_false else self._ceiling

    def fullness(self, now: float) -> float:
        """The share of the rate that was used of late."""
        effective = self.effective
        return 0.0 if effective is None else self._use(now) / effective

    def take(self, now: float, weight: float) -> None:
        """Charge what goes now."""
        if now >= self._ends and (self._takes >= LEAST_STEP or not self.is_found):
            self._end_step(now)
        self._used += weight
        self._takes += 1
        self.exact.take(now, weight)

    def give_back(self, now: float, weight: float) -> None:
        """What was charged does not go, or costs less."""
        self._used = max(0.0, self._used - weight)
        self.exact.settle(now, weight, 0.0)

    def accepted(self, now: float, weight: float) -> None:
        """The service took this much; beyond what the ceiling can allow it was no ceiling."""
        self._accepted += weight
        self._accepted_of_cut += 1
        self._weight_of_cut += weight
        if self._ceiling is None or self._ceiling_is_false:
            return
        minutes = (now - self._accepted_since) / 60
        if self._accepted > self._ceiling * 60 * (2 + minutes) * 1.05:
            self._ceiling_is_false = True
            self._apply()

    def show(self, now: float, limit: float) -> None:
        """The service says that `limit` units a minute are allowed."""
        if limit / 60 == self._ceiling or self._ceiling_is_false:
            return
        if self._ceiling is not None:
            self._accepted, self._accepted_since = 0.0, now
        self._ceiling, self._ceiling_is_true, self._beyond, self._full_since = limit / 60, False, 1.0, now
        self._apply()

    def cut(self, now: float) -> None:
        """Less from now on: this was too much."""
        effective = self.effective
        if not self.is_found:
            used = max(self._use(now), self._least_first)
            effective = used if effective is None else min(effective, used)
        assert effective is not None
        if self._beyond > 1.0:
            self._ceiling_is_true, self._beyond = True, 1.0
        after = CUT * effective
        if self._cuts and self._accepted_of_cut <= HARDLY_ANY:
            went = self._weight_of_cut / max(1e-3, now - self._cut_at)
            after = min(after, sqrt(effective * went))
        if self._cuts == 0:
            self._before_cuts = self.per_second
        self._cuts += 1
        self._accepted_of_cut, self._weight_of_cut, self._cut_at = 0, 0.0, now
        self.is_found = True
        self.per_second = max(self._least, after)
        self._grows_from = now + COOLDOWN
        self._full_since = now
        self._begin_step(now)
        self._apply()

    def take_back(self, now: float) -> None:
        """A cut was for a row that is refused for its own sake."""
        self._cuts -= 1
        if self._cuts == 0:
            self.is_found, self.per_second = False, self._before_cuts
        elif self.per_second is not None:
            self.per_second = min(MOST, self.per_second / CUT)
        self._grows_from = now
        self._begin_step(now)
        self._apply()

    def _use(self, now: float) -> float:
        used, lasted = self._before
        return (used + self._used) / max(0.5, lasted + now - self._began)

    def _end_step(self, now: float) -> None:
        effective, lasted = self.effective, now - self._began
        is_used = effective is not None and self._used >= USED * effective * lasted
        if not is_used:
            self._full_since = now
        elif self.per_second is not None and now >= self._grows_from:
            self._grow(now)
        self._begin_step(now)
        self._apply()

    def _grow(self, now: float) -> None:
        assert self.per_second is not None
        ceiling = self.ceiling
        grown = min(MOST, self.per_second * (GROWTH if self.is_found else 2.0))
        if ceiling is not None and grown > ceiling * self._beyond:
            grown = max(self.per_second, ceiling * self._beyond)
            if not self._ceiling_is_true and now - self._full_since >= BELIEVED_FOR:
                self._beyond *= GROWTH
                grown = max(grown, ceiling * self._beyond)
        self.per_second = grown

    def _begin_step(self, now: float) -> None:
        limited_by_ceiling = self.ceiling is not None
        self._before = (self._used, now - self._began)
        self._began, self._used, self._takes = now, 0.0, 0
        self._ends = now + (STEP if self.is_found or limited_by_ceiling else DOUBLING)

    def _apply(self) -> None:
        effective = self.effective
        credit = 0.0 if self.is_found or self.ceiling is not None else DOUBLING
        if effective != self.exact.per_second:
            self.exact.change(effective, credit=credit)


class AdaptiveRate:
    """What one limited resource bears: at first `first` submits per second.

    With `learns` false only its pauses count (``--rate fixed``).
    """

    def __init__(self, now: float, *, learns: bool = True, first: float = FIRST) -> None:
        self.learns = learns
        self.requests = LearnedRate(now, first if learns else None, LEAST, LEAST_FIRST)
        self.tokens = LearnedRate(now, None, LEAST_TOKENS, LEAST_TOKENS)
        self.paused_until = float("-inf")
        self.paused_for = RATE_LIMIT
        self._incident_at = float("-inf")
        self._accepted_since = False
        self._in_a_row = 0  # incidents without an acceptance between them
        self._refused: deque[bool] = deque(maxlen=LAST)
        self._has_tokens = False
        self._shown: RateHeaders | None = None  # with what was accepted last
        self._last: object = None  # the batch that had the last turn
        self._others_wait = False  # another one asked since
        self.last_cut: tuple[LimitKind, ...] = ()  # what the last incident cut

    def ready_at(self, batch: object = None) -> float:
        """From when on the next submit of `batch` may go: a moment later where it had the last, and others wait."""
        ready = max(self.paused_until, self.requests.exact.ready_at(), self.tokens.exact.ready_at())
        if batch is not self._last:
            self._others_wait = True
        elif self._others_wait:
            return ready + AFTER_YOU
        return ready

    def took(self, now: float, tokens: int, batch: object = None) -> None:
        """A submit of `batch` goes."""
        self._last, self._others_wait = batch, False
        self.requests.take(now, 1.0)
        if tokens:
            self._has_tokens = True
            self.tokens.take(now, tokens)

    def withdrew(self, now: float, tokens: int) -> None:
        """A submit that was taken does not go after all."""
        self.requests.give_back(now, 1.0)
        if tokens:
            self.tokens.give_back(now, tokens)

    def accepted(self, now: float, sent_at: float, tokens: int, shown: RateHeaders | None) -> None:
        """The service took a submit that was sent at `sent_at`."""
        if sent_at >= self._incident_at:
            self._accepted_since = True
        self._refused.append(False)
        if not self.learns:
            return
        self.requests.accepted(now, 1.0)
        if tokens:
            self.tokens.accepted(now, tokens)
        if shown is not None and shown is not self._shown:
            self._shown = shown
            self._show(now, shown)

    def refused_for_rate(
        self,
        now: float,
        sent_at: float,
        asked: float | None,
        kind: LimitKind | None,
        chance: Callable[[], float],
        shown: RateHeaders | None = None,
    ) -> bool:
        """The service refused a submit for its rate, and asks to wait `asked` seconds. Whether it is a new incident."""
        self._refused.append(True)
        if shown is not None and self.learns:
            self._show(now, shown)
        return self._incident(now, sent_at, asked, kind, chance, RATE_LIMIT)

    def refused_for_overload(
        self, now: float, sent_at: float, asked: float | None, chance: Callable[[], float]
    ) -> bool:
        """The service refused a submit because it is overloaded, which may concern that row alone."""
        self._refused.append(True)
        nothing_goes = self._in_a_row > 0 and not self._accepted_since
        if not nothing_goes and sum(self._refused) <= OVERLOADED * LAST:
            return False
        return self._incident(now, sent_at, asked, None, chance, OVERLOAD)

    def wait(self, now: float, asked: float | None, chance: Callable[[], float]) -> None:
        """Nothing goes for as long as the service asks."""
        if asked is not None:
            self.paused_until = max(self.paused_until, now + floor_with_jitter(asked, chance()))

    def _incident(
        self,
        now: float,
        sent_at: float,
        asked: float | None,
        kind: LimitKind | None,
        chance: Callable[[], float],
        why: str,
    ) -> bool:
        self.paused_for = why
        self.wait(now, asked, chance)
        if sent_at < self._incident_at:
            return False
        is_new = self._accepted_since
        self._in_a_row = 1 if is_new else self._in_a_row + 1
        if is_new:
            self._refused.clear()
            if self.learns:
                self._cut(now, kind)
        self._incident_at, self._accepted_since = now, False
        delay = full_jitter(self._in_a_row, 0.5 + chance() / 2, first=FIRST_DELAY, cap=LONGEST_DELAY)
        self.paused_until = max(self.paused_until, now + delay)
        return is_new

    def _cut(self, now: float, kind: LimitKind | None) -> None:
        if kind is not None:
            self.last_cut = (kind,)
        elif self._has_tokens and not self.tokens.is_found:
            self.last_cut = ("requests", "tokens")
        else:
            is_tokens = self.tokens.fullness(now) > self.requests.fullness(now)
            self.last_cut = ("tokens",) if is_tokens else ("requests",)
        for one in self.last_cut:
            self._of(one).cut(now)

    def take_back(self, now: float, kinds: tuple[LimitKind, ...]) -> None:
        """The last cut for these was for a row that is refused for its own sake."""
        for one in kinds:
            self._of(one).take_back(now)

    def _of(self, kind: LimitKind) -> LearnedRate:
        return self.tokens if kind == "tokens" else self.requests

    def _show(self, now: float, shown: RateHeaders) -> None:
        for rate, limit in ((self.requests, shown.requests), (self.tokens, shown.tokens)):
            if limit.limit is not None:
                rate.show(now, limit.limit)


def limit_refused(type_: str | None, message: str, shown: RateHeaders | None) -> LimitKind | None:
    """Whether requests or tokens were too many, by the type and the message of the error, else by its headers."""
    words = f"{type_ or ''} {message}".lower()
    of_tokens = "tokens per" in words or "tpm" in words or type_ == "tokens" or "token rate" in words
    of_requests = "requests per" in words or "rpm" in words or type_ == "requests" or "request rate" in words
    if of_tokens != of_requests:
        return "tokens" if of_tokens else "requests"
    if shown is not None and _is_used_up(shown.requests) != _is_used_up(shown.tokens):
        return "tokens" if _is_used_up(shown.tokens) else "requests"
    return None


def _is_used_up(shown: LimitShown) -> bool:
    return shown.remaining == 0
