"""Rate limits with exact headers.

A rate of N per minute is enforced over a short window: at most one window's worth is accepted at once, and it
is refilled at N/60 per second. A minute's worth in one burst is refused, as by Azure.

The headers are exact: `remaining` requests sent at once are accepted and the next is not; after
`retry-after-ms` the refused one is, if no other came; after `reset` the whole window's worth is there.
"""

from __future__ import annotations

import math

_SLACK = 1e-6  # seconds; a float holds the time since 1970 to a quarter of it


class Allowance:
    """What a rate still allows. A cost above one window's worth waits for a full window, and then runs up a debt."""

    def __init__(self, per_minute: float, window: float, now: float) -> None:
        self.per_minute = per_minute
        self._rate = per_minute / 60
        self.capacity = max(1.0, self._rate * window)
        self._level = self.capacity
        self._at = now

    def wait(self, cost: float, now: float) -> float:
        """Seconds until `cost` is allowed; 0 if it is now."""
        delay = (min(cost, self.capacity) - self._refill(now)) / self._rate
        return delay if delay > _SLACK else 0.0

    def take(self, cost: float) -> None:
        """Spend `cost`, which must have been allowed."""
        self._level -= cost

    def remaining(self, now: float) -> int:
        return max(0, math.floor(self._refill(now) + _SLACK * self._rate))

    def reset(self, now: float) -> float:
        """Seconds until one window's worth is there again."""
        return (self.capacity - self._refill(now)) / self._rate

    def _refill(self, now: float) -> float:
        if now > self._at:
            self._level = min(self.capacity, self._level + (now - self._at) * self._rate)
            self._at = now
        return self._level


def header_lines(kind: str, allowance: Allowance, now: float) -> str:
    """The three headers of `kind` ("requests" or "tokens")."""
    return (
        f"x-ratelimit-limit-{kind}: {allowance.per_minute:.0f}\r\n"
        f"x-ratelimit-remaining-{kind}: {allowance.remaining(now)}\r\n"
        f"x-ratelimit-reset-{kind}: {go_duration(allowance.reset(now))}\r\n"
    )


def retry_lines(delay: float) -> str:
    """The two headers that ask to wait for `delay` seconds, rounded up."""
    return f"retry-after-ms: {_millis(delay)}\r\nretry-after: {max(1, math.ceil(delay - _SLACK))}\r\n"


def go_duration(delay: float) -> str:
    """A duration as in services' headers, rounded up to milliseconds: ``6m0s``, ``1.2s``, ``12ms``."""
    millis = _millis(delay)
    if millis < 1000:
        return f"{millis}ms"
    minutes, rest = divmod(millis, 60_000)
    tail = f"{rest / 1000:g}s"
    return f"{minutes}m{tail}" if minutes else tail


def _millis(delay: float) -> int:
    return max(0, math.ceil((delay - _SLACK) * 1000))
