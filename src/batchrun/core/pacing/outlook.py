"""How long a batch still takes, as a range: from how long its jobs take and how old those in flight are.

Two parts. Rows that wait are submitted as places become free, or as a rate allows: the last of them after the time
`start`. Then the last job ends: the chance that all have ended by t is the product of the chances of each.

* With all places in use, as much work is done per second as there are places: `start` is the work that those in flight
  and those that wait still are, without what is left of the last to be submitted, divided by the places.
* Otherwise what limits is a rate: that at which rows were submitted recently.

The range goes from the 5% to the 95% quantile. What is uncertain: when the last job ends; how long so many jobs take
together (their deviation, and that of the mean that was learned); that the service stays as fast as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log, sqrt

from batchrun.core.pacing.durations import Durations, StillRunning
from batchrun.core.pacing.life_table import MEMORY

KNOWN_SHARE = 0.8
"""The durations are known up to the age at which this share of jobs has ended; before, they may be of two kinds yet."""
UNUSUAL = 10
"""A job runs unusually long where, of as many jobs as were seen, so many times over, one is expected to."""
_LOW, _HIGH = 0.05, 0.95
_NORMAL = 1.645  # standard deviations to those quantiles
_STEADY = 0.04
"""How far the speed of a service, or of a rate, is known at best."""
_FULL = 0.95
"""All places are in use where this share of them is: there is always one between two jobs."""
_STARTS = 20
_NONE_RUNS = 0.02  # jobs: those that began before so few of them run are over
_STEPS = 14
_TAIL = 1.2
"""The longest durations are hardly known: by so much is the range wider that follows from them."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """So many jobs of about this `age` in flight; `seen` is the age at which they were last seen to run, 0 where unknown."""

    jobs: float
    age: float
    seen: float
    durations: Durations


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known at the time `at`: of how long jobs take, learned from `ends` of them, and of those in flight.

    `lag` is the mean time from a job's end to its record, `post` that of a POST, both in seconds.
    """

    at: float
    durations: Durations
    ends: int
    lag: float
    post: float
    in_flight: Sequence[InFlight]

    def left(
        self, now: float, rows: float, *, places: int, posting: int = 0, rate: float = 0.0
    ) -> tuple[float, float] | None:
        """Seconds to the last record, at least and at most; None where nothing moves.

        `rows` wait, of `places` for jobs; `posting` are being submitted; `rate` rows were submitted per second.
        """
        jobs = [*self.in_flight]
        if posting:
            jobs.append(InFlight(posting, self.at - now - self.post, 0.0, self.durations))
        count = sum(one.jobs for one in jobs)
        if not count and rows <= 0:
            return None
        forecast = _Forecast(self, jobs, now - self.at)
        start, deviation = 0.0, 0.0
        if rows > 0:
            found = forecast.start(rows, count, places, rate)
            if found is None:
                return None
            start, deviation = found
        middle = forecast.quantile(0.5, rows, start)
        low = _TAIL * (middle - forecast.quantile(_LOW, rows, start))
        high = _TAIL * (forecast.quantile(_HIGH, rows, start) - middle)
        spread = _NORMAL * deviation
        return max(0.0, middle - sqrt(low * low + spread * spread)), middle + sqrt(high * high + spread * spread)


class _Forecast:
    def __init__(self, outlook: Outlook, jobs: Sequence[InFlight], elapsed: float) -> None:
        self._durations, self._ends = outlook.durations, outlook.ends
        self._cycle = outlook.durations.mean + outlook.lag + outlook.post
        self._lag, self._post = outlook.lag, outlook.post
        self._last_lag = outlook.lag / 2  # at the end of a batch polls come sooner
        self._jobs = [(one.jobs, one.age + elapsed, StillRunning(one.durations, one.seen)) for one in jobs if one.jobs]

    def start(self, rows: float, count: float, places: int, rate: float) -> tuple[float, float] | None:
        """Seconds until the last of `rows` is submitted, and their standard deviation."""
        cycle, deviation = self._cycle, self._durations.deviation
        mean_error = deviation / self._durations.mean / sqrt(max(1, min(self._ends, MEMORY)))
        if count < _FULL * places:
            rate = min(rate, places / cycle)
            if rate <= 0:
                return None
            seconds = rows / rate
            return seconds, seconds * _STEADY
        work = sum(
            jobs * (running.beyond(max(0.0, age)) - min(0.0, age) + self._lag) for jobs, age, running in self._jobs
        )
        last = (cycle * cycle + deviation * deviation) / (2 * cycle)  # what is left of each, at any time
        seconds = max(0.0, (work + rows * cycle) / count - last)
        if rows < count:
            seconds = min(seconds, self._time_of(rows))
        return seconds, sqrt(rows * (deviation / count) ** 2 + seconds * seconds * (mean_error**2 + _STEADY**2))

    def quantile(self, chance: float, rows: float, start: float) -> float:
        """Seconds by which the last job has ended with this chance."""
        wanted = log(chance)
        low, high = start, start + self._cycle
        while self._all_ended(high, rows, start) < wanted:
            low, high = high, start + 2 * (high - start)
        for _ in range(_STEPS):
            middle = (low + high) / 2
            if self._all_ended(middle, rows, start) < wanted:
                low = middle
            else:
                high = middle
        return high

    def _all_ended(self, seconds: float, rows: float, start: float) -> float:
        """The logarithm of the chance that all jobs have ended in so many seconds."""
        chance = 0.0
        for jobs, age, running in self._jobs:
            runs = running.running_at(age + seconds - self._last_lag)
            if runs >= 1.0:
                return -inf
            chance += jobs * log(1 - runs)
        if rows > 0:
            durations = self._durations
            rate = rows / start if start > 0 else inf
            longest = min(start, durations.age_at(min(0.5, _NONE_RUNS / rows)))
            weight = (rows if start <= longest or rate == inf else rate * longest) / _STARTS
            for step in range(_STARTS):
                runs = durations.running_at(
                    seconds - start + longest * (step + 0.5) / _STARTS - self._last_lag - self._post
                )
                if runs >= 1.0:
                    return -inf
                chance += weight * log(1 - runs)
        return chance

    def _time_of(self, ends: float) -> float:
        """Seconds in which so many of the jobs in flight have ended, about."""
        low, high = 0.0, self._cycle
        while self._ended(high) < ends and high < 1e9:
            low, high = high, 2 * high
        for _ in range(_STEPS):
            middle = (low + high) / 2
            if self._ended(middle) < ends:
                low = middle
            else:
                high = middle
        return high

    def _ended(self, seconds: float) -> float:
        return sum(jobs * (1 - running.running_at(age + seconds - self._lag)) for jobs, age, running in self._jobs)
