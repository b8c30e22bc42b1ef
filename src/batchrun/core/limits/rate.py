"""An exact rate: a weighted virtual-schedule limiter (GCRA) with debt and refund.

Each request of weight w moves a theoretical arrival time (TAT) on by w / pace. A request may go once now has come within
TOLERANCE of it. The tolerance lets a loop that woke some milliseconds late catch up; the pace is lowered by the same
share, so that no window of one second ever holds more than rate + 1 requests, and 1 / (1 + TOLERANCE) = 96% of the rate
can be used.

A request may go as soon as it is *its turn*, whatever its weight, and is charged in full afterwards (debt): a large row
waits no longer than a small one, and the next ones pay for it. What turned out to be cheaper than estimated is given
back.

Declined: a token bucket filled each minute. Services enforce a minute's limit over one to ten seconds and refuse its
burst.
"""

from __future__ import annotations

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
