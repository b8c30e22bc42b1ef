"""What may go right after an outage.

Most jobs in flight have ended by then, so that hundreds of places are free at once. Submits and polls go at CATCH_UP times
their rate of before, for twice as long as they had gone before, HOLD at most: a service that has just come back is not met
by all that was held up. From then on the rate grows. A run that had gone for less than LEAST_WORKED seconds has no such
rate yet, and starts slowly anyway.
"""

from __future__ import annotations

from collections import deque

from batchrun.core.limits.rate import Rate

CATCH_UP = 1.25
HOLD, LEAST_WORKED = 600.0, 30.0
"""Seconds."""
RELEASE, RELEASE_STEP = 1.05, 5.0
"""Then it grows by so much in so many seconds …"""
RELEASED = 8.0
"""… until it is so many times the rate of before, and ends."""
LEAST_RATE = 2.0
STEADY_SECONDS = 60


class Steady:
    """How many went per second before the service ceased to answer."""

    def __init__(self) -> None:
        self._counts: deque[float] = deque(maxlen=STEADY_SECONDS)  # of the last seconds
        self._works: bool | None = None  # the last one was answered; None: none ever was
        self._since: float | None = None  # when the first went
        self._before: tuple[float, float] | None = None  # the rate of before, and since how long it had been
        self._held: float | None = None  # the rate of before the last outage, while that is caught up

    def add(self, ended: float, count: float, lasted: float = 1.0) -> None:
        """So many went in the second, or longer, that `ended` then."""
        if self._works is None:
            return
        if self._since is None:
            self._since = ended - lasted
        self._counts.append(count / lasted)

    def failed(self, now: float) -> None:
        """One was not answered: what goes from now on is not what went before."""
        if not self._works:
            return
        self._works = False
        if self._since is not None and now - self._since >= LEAST_WORKED:
            rate = sum(self._counts) / len(self._counts) if self._held is None else self._held
            self._before = rate, now - self._since

    def answered(self, *, outage: bool) -> tuple[float, float] | None:
        """One was answered; after an `outage`, the rate to be held now and for how long, where one is known."""
        self._works = True
        before, self._before = self._before, None
        if before is None or not outage:
            return None
        rate, lasted = before
        self._held = rate
        return max(LEAST_RATE, CATCH_UP * rate), min(2 * lasted, HOLD)

    def caught_up(self) -> None:
        self._held = None


class CatchUp:
    """Holds submits to their rate of before for a while after an outage."""

    def __init__(self) -> None:
        self._steady = Steady()
        self._second, self._count = float("-inf"), 0
        self._rate = Rate(None)
        self._ends, self._grows_at = 0.0, 0.0

    def ready_at(self) -> float:
        """From when on the next may go."""
        return self._rate.ready_at() if self._rate.per_second is not None else float("-inf")

    def took(self, now: float) -> None:
        """One goes."""
        self._count_seconds(now // 1.0)
        self._count += 1
        if self._rate.per_second is None:
            return
        if now >= self._grows_at:
            self._grow(now)
        self._rate.take(now)

    def failed(self, now: float) -> None:
        """A submit or a poll was not answered."""
        self._count_seconds(now // 1.0)
        self._steady.failed(now)

    def answered(self, now: float, *, outage: bool) -> None:
        """One was answered, after an `outage` or not."""
        found = self._steady.answered(outage=outage)
        if found is not None:
            rate, hold = found
            self._rate.change(rate)
            self._grows_at = now + hold
            self._ends = rate * RELEASED

    def _count_seconds(self, second: float) -> None:
        """The seconds before this one are over: in one some went, in those after it none did."""
        if second == self._second:
            return
        if self._count:
            self._steady.add(self._second + 1.0, self._count)
            for _ in range(min(int(second - self._second) - 1, STEADY_SECONDS)):
                self._steady.add(second, 0.0)
        self._second, self._count = second, 0

    def _grow(self, now: float) -> None:
        assert self._rate.per_second is not None
        self._grows_at = now + RELEASE_STEP
        grown = self._rate.per_second * RELEASE
        if grown >= self._ends:
            self._steady.caught_up()
        self._rate.change(grown if grown < self._ends else None)
