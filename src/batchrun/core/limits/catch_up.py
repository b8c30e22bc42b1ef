"""What may go right after an outage.

Most jobs in flight have ended by then, so that hundreds of places are free at once. Submits and polls go at CATCH_UP times
their rate of before, for twice as long as they had gone before, within HOLD: a service that has just come back is not met
by all that was held up. From then on the rate grows.
"""

from __future__ import annotations

from collections import deque

from batchrun.core.limits.rate import Rate

CATCH_UP = 1.25
HOLD = (30.0, 600.0)
"""Seconds for which the rate of before holds, at least and at most."""
RELEASE, RELEASE_STEP = 1.05, 5.0
"""Then it grows by so much in so many seconds …"""
RELEASED = 8.0
"""… until it is so many times the rate of before, and ends."""
LEAST_RATE = 2.0
STEADY_SECONDS = 60


class Steady:
    """How many went per second before an outage."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, float]] = deque(maxlen=STEADY_SECONDS)  # when a second ended, and how many went
        self._since: float | None = None  # when the first went
        self.per_second: float | None = None  # of the last outage, while it is caught up

    def add(self, ended: float, count: float, lasted: float = 1.0) -> None:
        """So many went in the second, or longer, that `ended` then."""
        if self._since is None:
            self._since = ended - lasted
        self._counts.append((ended, count / lasted))

    def before(self, since: float) -> tuple[float, float] | None:
        """The rate to be held after an outage that began at `since`, and for how long; None where nothing went before."""
        counts = [rate for ended, rate in self._counts if ended <= since]
        if self._since is None or not counts:
            return None
        rate = sum(counts) / len(counts)
        if self.per_second is not None:  # another outage, while the last one was caught up
            rate = self.per_second
        self.per_second = rate
        return max(LEAST_RATE, CATCH_UP * rate), min(max(HOLD[0], 2 * (since - self._since)), HOLD[1])

    def caught_up(self) -> None:
        self.per_second = None


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
        second = now // 1.0
        if second != self._second:
            self._count_seconds(second)
        self._count += 1
        if self._rate.per_second is None:
            return
        if now >= self._grows_at:
            self._grow(now)
        self._rate.take(now)

    def begin(self, now: float, since: float) -> None:
        """An outage that began at `since` is over."""
        self._count_seconds(now // 1.0)
        found = self._steady.before(since)
        if found is None:
            return
        rate, hold = found
        self._rate.change(rate)
        self._grows_at = now + hold
        self._ends = rate * RELEASED

    def _count_seconds(self, second: float) -> None:
        """A second is over in which some went; in those until now none did."""
        if self._count:
            self._steady.add(self._second + 1.0, self._count)
            empty = min(int(second - self._second) - 1, STEADY_SECONDS)
            for n in range(empty):
                self._steady.add(second - empty + n + 1.0, 0.0)
        self._second, self._count = second, 0

    def _grow(self, now: float) -> None:
        assert self._rate.per_second is not None
        self._grows_at = now + RELEASE_STEP
        grown = self._rate.per_second * RELEASE
        if grown >= self._ends:
            self._steady.caught_up()
        self._rate.change(grown if grown < self._ends else None)
