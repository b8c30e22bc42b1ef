"""How long the jobs of a run take and how soon their ends are seen, from its records and its journal alone.

Counted are jobs that the current or last run submitted itself: a job that an earlier run submitted may have ended long
before anybody polled it. The lag is our time from submit to record less the service's own from created to completed,
both of which are in the record: no clock is compared with another. It is unknown where a service tells no such times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from batchrun.core.pacing.curve import curve_of
from batchrun.core.pacing.durations import Durations
from batchrun.core.pacing.life_table import MEMORY, LifeTable, bin_of
from batchrun.core.pacing.outlook import KNOWN_SHARE, UNUSUAL, InFlight, Outlook
from batchrun.core.pacing.pacing import KNOWN_ENDS
from batchrun.core.responses.service_clock import service_clock
from batchrun.core.status.snapshot import MOST_UNUSUAL, STALLED_AFTER, Stalled, Unusual
from batchrun.core.text.readable import seconds_of_utc, utc

_LOOKED_AT = 5_000
"""Open jobs, about, of which the ages are looked at."""


class ToldTimes:
    """What the records of one run tell of times and polls."""

    def __init__(self) -> None:
        self._run_since = ""
        self._jobs = self._polls = 0
        self._last: deque[tuple[str, str, float | None]] = deque(maxlen=MEMORY)

    def run_since(self, at: float | None) -> None:
        """The current or last run began then: what was counted of one before it is forgotten."""
        since = "" if at is None else utc(at)
        if since != self._run_since:
            self._run_since = since
            self._jobs = self._polls = 0
            self._last.clear()

    def take(self, record: Mapping[str, Any]) -> None:
        """Count a record."""
        submitted, finished, polls = record.get("submitted_at"), record.get("finished_at"), record.get("polls")
        if not (isinstance(submitted, str) and isinstance(finished, str) and submitted >= self._run_since):
            return
        if type(polls) is not int or polls < 1 or record.get("retry_count") or record.get("state") == "cancelled":
            return
        self._jobs += 1
        self._polls += polls
        response = record.get("response")
        body = response.get("body") if isinstance(response, dict) else None
        took = service_clock(body, {}).duration() if isinstance(body, dict) else None
        self._last.append((submitted, finished, None if took is None else sum(took) / 2))

    @property
    def polls_per_job(self) -> float | None:
        """The mean; None where no record counts."""
        return self._polls / self._jobs if self._jobs else None

    def mean_lag(self) -> float | None:
        """Seconds from a job's end to its record, in the mean; None where unknown."""
        lags = [
            (end - begin) - took
            for submitted, finished, took in self._last
            if took is not None
            and (begin := seconds_of_utc(submitted)) is not None
            and (end := seconds_of_utc(finished)) is not None
        ]
        return max(0.0, sum(lags) / len(lags)) if lags else None

    def stalled(self, now: float, run_since: float, open_jobs: Sequence[tuple[str, float]]) -> Stalled | None:
        """The jobs that have not ended for long, of which the files alone know: none that has a record took half as long."""
        if now - run_since < STALLED_AFTER:  # nobody polled them before
            return None
        longest = 0.0
        for submitted, finished, _ in self._last:
            begin, end = seconds_of_utc(submitted), seconds_of_utc(finished)
            if begin is not None and end is not None:
                longest = max(longest, end - begin)
        limit = max(STALLED_AFTER, 2 * longest)
        long = [(now - submitted_at, key) for key, submitted_at in open_jobs if now - submitted_at >= limit]
        if not long:
            return None
        age, key = max(long)
        return Stalled(len(long), key, age, min(long)[0])

    def outlook(
        self, now: float, lag: float | None, open_jobs: Sequence[tuple[str, float]]
    ) -> tuple[Outlook | None, Unusual | None]:
        """What is known of the time left, and the jobs that run unusually long; `open_jobs` by key, with their submits."""
        table = LifeTable()
        step = len(open_jobs) // _LOOKED_AT + 1
        ages = [max(0.0, now - submitted_at) for _, submitted_at in islice(open_jobs, 0, None, step)]
        for submitted, finished, _ in self._last:
            begin, end = seconds_of_utc(submitted), seconds_of_utc(finished)
            if begin is not None and end is not None:
                took = max(0.0, end - begin - (lag or 0.0))
                table.add_end(0.0, took, took)
        ends = table.count
        if ends < KNOWN_ENDS:
            return None, None
        for age in ages[-MEMORY:]:
            table.add_running(0.0, age)
        table.place(None)
        curve, _ = curve_of((table,))
        if curve.known_share < KNOWN_SHARE:
            return None, None
        durations = Durations(curve, ends)
        groups: dict[int, list[float]] = {}
        for age in ages:
            groups.setdefault(bin_of(age), []).append(age)
        in_flight = []
        for some in groups.values():
            age = sum(some) / len(some)
            in_flight.append(InFlight(step * len(some), age, max(0.0, age - 2 * (lag or 0.0)), durations))
        limit = durations.age_at(1 / (UNUSUAL * ends)) + 2 * (lag or 0.0)
        long = [(now - submitted_at, key) for key, submitted_at in open_jobs if now - submitted_at > limit]
        named = Unusual(min(len(long), MOST_UNUSUAL), max(long)[1], max(long)[0]) if long else None
        return Outlook(now, durations, ends, lag or 0.0, 0.0, in_flight), named
