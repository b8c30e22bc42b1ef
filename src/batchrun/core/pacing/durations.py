"""How long jobs still take: the survival curve, carried on beyond what is known, for forecasts.

Polls beyond the longest duration known must not be late, so there the curve takes a job of age x to run for another x.
A forecast from that would be far too long: of 500 jobs it expects one to take 15 times the longest duration known. Here
a log-normal tail carries the curve on, as steeply as it arrives. That fits what durations mostly are, and is a little too
long for exponential ones. Declined: S(x) ∝ x^-a, which fits far out and gave twice the time left while only the median
was known; a Weibull tail, which is too short for log-normal ones.

A job that runs far longer than all before may be of another kind, the more likely the longer it runs: then half of such
jobs are taken to end within 1.4 times its age.
"""

from __future__ import annotations

from math import erfc, exp, log, sqrt

from batchrun.core.pacing.curve import Curve
from batchrun.core.pacing.life_table import EDGES, MEMORY, WIDTHS

_ENDS = 60
"""The tail is as steep as the last so many ends that are known."""
_OTHERS = 0.02
"""The share of the jobs beyond what is known that may be of another kind."""
_LEAST, _MOST = 0.1, 1.2  # σ of the tail
_NOBODY = 1e-12


class Durations:
    """The durations of a class of jobs; ages and durations are in seconds."""

    __slots__ = ("_curve", "_scale", "_sigma", "deviation", "known_age", "known_running", "mean")

    def __init__(self, curve: Curve, ends: int) -> None:
        """By `curve`, which was learned from so many ends."""
        self._curve = curve
        age = self.known_age = curve.known_age
        running = self.known_running = min(max(_NOBODY, 1 - curve.known_share), 1 - _NOBODY)
        more = min(running + _ENDS / max(1, min(ends, MEMORY)), (1 + 2 * running) / 3)
        earlier = max(_NOBODY, curve.age_at(more))
        sigma = log(age / earlier) / (_deviations(running) - _deviations(more))
        sigma = self._sigma = min(max(sigma, _LEAST), _MOST)
        self._scale = log(age) - sigma * _deviations(running)  # logarithm of the median, if all were like the tail
        self.mean: float = age - curve.ended_by(age)[1] + self._beyond(age)
        z = (log(age) - self._scale) / sigma
        squares = (exp(2 * self._scale + 2 * sigma * sigma) * _share_above(z - 2 * sigma) - age * age * running) / 2
        for edge, width in zip(EDGES, WIDTHS, strict=False):
            if edge >= age:
                break
            squares += width * (edge + width / 2) * curve.running_at(edge + width / 2)
        self.deviation: float = sqrt(max(0.0, 2 * squares - self.mean**2))

    def running_at(self, age: float) -> float:
        """The share of jobs that run at least so long."""
        if age <= self.known_age:
            return self._curve.running_at(age) if age > 0 else 1.0
        return _share_above((log(age) - self._scale) / self._sigma)

    def age_at(self, running: float) -> float:
        """The age at which this share of jobs still runs."""
        if running >= self.known_running:
            return self._curve.age_at(running)
        return exp(self._scale + self._sigma * _deviations(running))

    def beyond(self, age: float) -> float:
        """The mean time that a job spends beyond this age, those included that do not reach it."""
        if age <= self.known_age:
            return max(0.0, self.mean - age + self._curve.ended_by(age)[1])
        return self._beyond(age)

    def _beyond(self, age: float) -> float:
        z, sigma = (log(age) - self._scale) / self._sigma, self._sigma
        mean = exp(self._scale + sigma * sigma / 2)
        return max(0.0, mean * _share_above(z - sigma) - age * _share_above(z))


class StillRunning:
    """The durations of jobs that were seen to run at the age `seen`."""

    __slots__ = ("_durations", "_of_all", "_other", "_seen")

    def __init__(self, durations: Durations, seen: float) -> None:
        self._durations, self._seen = durations, seen
        of_all = self._of_all = durations.running_at(seen)
        known = durations.known_running
        self._other = _OTHERS / (_OTHERS + of_all / known) if seen > durations.known_age else 0.0

    def running_at(self, age: float) -> float:
        """The share of them that runs at least so long."""
        if age <= self._seen:
            return 1.0
        share, other = self._durations.running_at(age) / self._of_all, self._other
        return share + other * ((self._seen / age) ** 2 - share) if other else share

    def beyond(self, age: float) -> float:
        """The mean time that such a job spends beyond this age."""
        rest = self._durations.beyond(age) / self._of_all
        return rest + self._other * (self._seen - rest)


def _share_above(deviations: float) -> float:
    """The share of a normal distribution above so many standard deviations."""
    return max(_NOBODY * _NOBODY, erfc(deviations / sqrt(2)) / 2)


def _deviations(share: float) -> float:
    """The inverse of `_share_above`."""
    low, high = -9.0, 9.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        if _share_above(middle) > share:
            low = middle
        else:
            high = middle
    return low
