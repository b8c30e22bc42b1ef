"""How old a job is by the service's own clock: when it was created, and when the response was sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from batchrun.core.text.readable import seconds_of_http_date

CLOCKS_AGREE = 60.0
"""Seconds by which two clocks may differ that agree: a POST takes its time, and a Date has whole seconds."""
_LATEST = 1e11  # seconds since 1970; more than that are milliseconds


class ServiceClock(NamedTuple):
    """What a response says of it, not parsed yet: nearly always nobody asks."""

    created_at: object
    date: str | None
    completed_at: object = None

    def age(self, submitted_at: float, wall: float) -> float | None:
        """Seconds since the job was created; None where the response does not say enough.

        Our own clocks are used for what it does not say: `wall` now, and `submitted_at` when the job was submitted. A
        Date alone tells only whether the clock of this run is ahead.
        """
        created = _moment(self.created_at)
        sent = None if self.date is None else seconds_of_http_date(self.date)
        if created is not None:
            return max(0.0, (wall if sent is None else sent) - created)
        if sent is not None and wall - sent > CLOCKS_AGREE:
            return max(0.0, sent - submitted_at)
        return None

    def duration(self) -> tuple[float, float] | None:
        """How long the job took, in seconds, at least and at most; None where the response does not say."""
        created, completed = _moment(self.created_at), _moment(self.completed_at)
        if created is None or completed is None or completed < created:
            return None
        return completed - created - 1.0, completed - created + 1.0  # both may be whole seconds


def service_clock(body: Mapping[str, Any], headers: Mapping[str, str]) -> ServiceClock:
    """The clock in a response whose job is `body`; `headers` has lower-case names."""
    return ServiceClock(body.get("created_at", body.get("created")), headers.get("date"), body.get("completed_at"))


def _moment(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1000 * _LATEST:
        return None
    return value / 1000 if value >= _LATEST else float(value)
