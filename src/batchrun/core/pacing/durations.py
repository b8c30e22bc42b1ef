"""How long jobs still take: the survival curve, carried on beyond what is known, for forecasts.

Polls beyond the longest duration known must not be late, so there the curve takes a job of age x to run for another x.
A forecast from that would be far too long: of 500 jobs it expects one to take 15 times the longest duration known. Here
the curve goes on as steeply as it arrives, S(x) ∝ x^-a: of 500 jobs the longest then takes some 1.6 times that, for
log-normal and for exponential durations alike.
"""

from __future__ import annotations

from math import log, sqrt

from batchrun.core.pacing.curve import Curve
from batchrun.core.pacing.life_table import EDGES, WIDTHS

_OVER = 16.0
"""The steepness is measured from the age on at which so many times more jobs run than at the end of what is known."""
_LEAST, _MOST = 2.5, 20.0  # steepness: at the least, mean and deviation exist
_NOBODY = 1e-12


class Durations:
    """The durations of a class of jobs; ages and durations are in seconds."""

    __slots__ = ("_curve", "_known_age", "_known_running", "_rest", "_steepness", "deviation", "mean")

    def __init__(self, curve: Curve) -> None:
        self._curve = curve
        age = self._known_age = curve.known_age
        running = self._known_running = max(_NOBODY, 1 - curve.known_share)
        more = min(_OVER * running, (1 + running) / 2)
        ratio = age / max(_NOBODY, curve.age_at(more))
        steepness = log(more / running) / log(ratio) if ratio > 1 else _MOST
        steepness = self._steepness = min(max(steepness, _LEAST), _MOST)
        self._rest = running * age / (steepness - 1)
        self.mean: float = age - curve.ended_by(age)[1] + self._rest
        squares = running * age * age / (steepness - 2)
        for edge, width in zip(EDGES, WIDTHS, strict=False):
            if edge >= age:
                break
            squares += width * (edge + width / 2) * curve.running_at(edge + width / 2)
        self.deviation: float = sqrt(max(0.0, 2 * squares - self.mean**2))

    def running_at(self, age: float) -> float:
        """The share of jobs that run at least so long."""
        if age <= self._known_age:
            return self._curve.running_at(age) if age > 0 else 1.0
        return float(self._known_running * (self._known_age / age) ** self._steepness)

    def age_at(self, running: float) -> float:
        """The age at which this share of jobs still runs."""
        if running >= self._known_running:
            return self._curve.age_at(running)
        return float(self._known_age * (self._known_running / running) ** (1 / self._steepness))

    def beyond(self, age: float) -> float:
        """The mean time that a job spends beyond this age, those included that do not reach it."""
        if age <= self._known_age:
            return max(0.0, self.mean - age + self._curve.ended_by(age)[1])
        return self.running_at(age) * age / (self._steepness - 1)
