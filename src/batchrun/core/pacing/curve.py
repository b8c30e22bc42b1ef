"""The survival curve of a class of jobs, and when they are polled by it: the equal-lag rule."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import exp, log, sqrt

from batchrun.core.pacing.life_table import EDGES, LAST, WIDTHS, LifeTable, bin_of

BEYOND = 1 / 3
"""Beyond the longest duration known no gap exceeds this share of the age."""
_AT_RISK = 1.0
"""A bin is known where so many jobs were at risk in it."""
_PRECISION, _STEPS = 5e-4, 20  # of the lag, at which the search for the price ends
_NOBODY = 1e-3  # the share of jobs beyond which polls are not counted


class Curve:
    """How many jobs of each age still run; beyond what is known a job of age x is taken to run for another x."""

    __slots__ = ("_areas", "_running", "ended", "gaps", "known_age", "known_share", "mean", "polls", "price")

    def __init__(self, hazards: Sequence[float], known_to: int) -> None:
        """`hazards` by bin, known up to the bin `known_to`."""
        running, ended, areas = [1.0], [0.0], [0.0]
        alive, area = 1.0, 0.0
        for k, width in enumerate(WIDTHS):
            at_risk = width * (hazards[k] if k <= known_to else 1 / EDGES[k]) / 2
            after = alive * max(0.0, 1 - at_risk) / (1 + at_risk)  # those that end do so in the middle of the bin
            area += width * (1 - (alive + after) / 2)
            alive = after
            running.append(alive)
            ended.append(1 - alive)
            areas.append(area)
        self._running, self._areas = running, areas
        self.ended: list[float] = ended
        """The share of jobs that have ended by each edge."""
        known_age = EDGES[known_to + 1]
        self.known_age: float = known_age
        """The age up to which the curve is known."""
        self.known_share: float = ended[known_to + 1]
        self.mean: float = known_age - areas[known_to + 1] + running[known_to + 1] * known_age
        self.price = 0.0
        self.polls = 0.0
        self.gaps: list[float] = []

    def plan(self, lag: float, near: float = 0.0) -> None:
        """Choose the price of a poll at which the mean lag is `lag` seconds, and by it the gap after each edge.

        It may be expected `near` this price. The lag grows about as its square root: each step goes by that, or by the slope
        between the last two prices, within what is known to be too low and too high.
        """
        low, high = lag / 1000, lag
        price = min(max(near or lag / 3, low), high)
        power, last = 0.5, (0.0, 0.0)
        for _ in range(_STEPS):
            polls = self.expected_polls(price)
            here = log(price), log(price * polls / lag)
            if abs(here[1]) < _PRECISION or high - low < _PRECISION * low:
                break
            low, high = (low, price) if here[1] > 0 else (price, high)
            if last != (0.0, 0.0) and abs(here[0] - last[0]) > _NOBODY * _PRECISION:
                power = min(max((here[1] - last[1]) / (here[0] - last[0]), 0.1), 1.0)
            last = here
            price *= exp(-here[1] / power)
            if not low < price < high:
                price = sqrt(low * high)
        self.price, self.polls = price, polls
        self.gaps = [self.next_age(edge, price) - edge for edge in EDGES]

    def expected_polls(self, price: float) -> float:
        """Polls per job at this price."""
        age, polls, running = 0.0, 0.0, 1.0
        while running > _NOBODY and age < EDGES[-1]:
            polls += running
            age = self.next_age(age, price)
            running = self.running_at(age)
        return polls

    def running_at(self, age: float) -> float:
        """The share of jobs that run at least so long."""
        k = bin_of(age)
        running = self._running
        return running[k] + (running[k + 1] - running[k]) * min(1.0, (age - EDGES[k]) / WIDTHS[k])

    def ended_by(self, age: float) -> tuple[float, float]:
        """The share of jobs that have ended by `age`, and its integral from 0 on."""
        k = bin_of(age)
        before, beyond = self.ended[k], age - EDGES[k]
        share = before + (self.ended[k + 1] - before) * min(1.0, beyond / WIDTHS[k])
        return share, self._areas[k] + beyond * (before + share) / 2

    def unnoticed(self, low: float, high: float, bins: tuple[int, int]) -> float:
        """How long before the age `high` a job ended that ended between the ages `low` and `high`: what is expected.

        `bins` are those of the two ages.
        """
        first, last = bins
        if first == last:
            return (high - low) / 2
        ended, areas = self.ended, self._areas
        begin, beyond, share = ended[first], low - EDGES[first], ended[last]
        done = begin + (ended[first + 1] - begin) * beyond / WIDTHS[first]
        after = high - EDGES[last]
        then = share + (ended[last + 1] - share) * min(1.0, after / WIDTHS[last])
        if then - done < _NOBODY * _NOBODY:
            return (high - low) / 2
        area = areas[last] - areas[first] + after * (share + then) / 2 - beyond * (begin + done) / 2
        return (area - done * (high - low)) / (then - done)

    def age_at(self, running: float) -> float:
        """The age at which this share of jobs still runs."""
        k = min(max(0, bisect_right(self.ended, 1 - running) - 1), LAST)
        before, after = self._running[k], self._running[k + 1]
        return EDGES[k] + WIDTHS[k] * ((before - running) / (before - after) if before > after else 0.0)

    def next_age(self, age: float, price: float) -> float:
        """The age at which a job is polled again that ran at `age`: where the lag expected since then is `price`.

        That is where the integral of F(s) - F(age) from `age` on reaches price × S(age). F is linear within a bin.
        """
        ended, areas = self.ended, self._areas
        k = bin_of(age)
        runs = self.running_at(age)
        if runs <= _NOBODY * _NOBODY:
            return age * (1 + BEYOND)
        done = 1 - runs
        area = areas[k] + (age - EDGES[k]) * (ended[k] + done) / 2
        low, high = k, LAST + 1  # the integral reaches the price between these two edges
        target = price * runs
        while low + 1 < high:
            middle = (low + high) // 2
            if areas[middle] - area - done * (EDGES[middle] - age) >= target:
                high = middle
            else:
                low = middle
        begin, slope, missing = age, 0.0, target
        if EDGES[low] > age:
            begin, slope = EDGES[low], ended[low] - done
            missing = target - (areas[low] - area - done * (begin - age))
        density = (ended[high] - ended[low]) / WIDTHS[low]
        if density > 0:
            found = begin + (sqrt(slope * slope + 2 * density * missing) - slope) / density
        else:
            found = begin + missing / slope if slope > 0 else EDGES[-1]
        if found > self.known_age:
            found = min(found, max(age * (1 + BEYOND), self.known_age))
        return min(found, EDGES[-1])


def curve_of(tables: Sequence[LifeTable]) -> tuple[Curve, list[float]]:
    """The curve of the jobs in `tables`, and its hazards.

    Each bin is averaged with its neighbours: ends that are divided by what the curve says would otherwise gather in ever
    fewer bins, and the plan would count on them (an EMS step: expect, maximise, smooth).
    """
    ends = _smooth([sum(parts) for parts in zip(*(table.relative_ends() for table in tables), strict=True)])
    at_risk = [sum(parts) for parts in zip(*(table.relative_times() for table in tables), strict=True)]
    times = _smooth(at_risk)
    known_to, hazards = 0, [0.0] * (LAST + 1)
    for k in range(LAST + 1):
        if ends[k] > 0 and times[k] > 0:
            hazards[k] = ends[k] / times[k]
            if at_risk[k] >= _AT_RISK * WIDTHS[k]:
                known_to = k
    return Curve(hazards, known_to), hazards


def _smooth(values: Sequence[float]) -> list[float]:
    """Each value averaged with its neighbours, by weights of 1, 2 and 1."""
    padded = [0.0, *values, 0.0]
    return [(padded[k] + 2 * padded[k + 1] + padded[k + 2]) / 4 for k in range(len(values))]
