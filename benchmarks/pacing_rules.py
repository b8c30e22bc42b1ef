"""Rules that poll without learning, with which pacing is compared: for each, polls per job and mean lag.

No job depends on another here, so each is polled by itself: the same jobs, in the same order, as pacing polls.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from math import ceil, log
from typing import NamedTuple

from batchrun.core.pacing.backoff import Backoff
from batchrun.core.pacing.pacing import JITTER, LEAST_JITTER

_END = 1e-5  # the share of jobs beyond which a distribution ends
_STEP, _FINEST, _WIDEST = 1.002, 1 / 800, 0.006
"""Ages that are tried grow by so much; one is kept after so many ends, or after that share of the mean duration."""


class Seen(NamedTuple):
    """What polling cost."""

    polls: float  # per job
    lag: float  # seconds from a job's end to the poll that found it, on average


def mean(found: Iterable[tuple[int, float]]) -> Seen:
    """Of jobs, each with its polls and its lag."""
    polls, lags = zip(*found, strict=True)
    return Seen(sum(polls) / len(polls), sum(lags) / len(lags))


class TradeOff:
    """Polls per job by mean lag, of one rule at many settings: the fewest polls that it needs for a lag."""

    def __init__(self, found: Iterable[Seen]) -> None:
        self._points: list[Seen] = []
        for one in sorted(found, key=lambda one: one.lag):
            if not self._points or one.polls < self._points[-1].polls:
                self._points.append(one)

    def polls(self, lag: float) -> float:
        """For this mean lag, between two settings; beyond all settings NaN."""
        points = self._points
        place = bisect_left([one.lag for one in points], lag)
        if not 0 < place < len(points):
            return float("nan")
        before, after = points[place - 1], points[place]
        share = log(lag / before.lag) / log(after.lag / before.lag)
        return before.polls * (after.polls / before.polls) ** share


# --- rules that know nothing ---


def every(gap: float, durations: Sequence[float]) -> Seen:
    """A poll each `gap` seconds, exactly."""
    polls = sum(max(1, ceil(duration / gap)) for duration in durations)
    return Seen(polls / len(durations), (polls * gap - sum(durations)) / len(durations))


def best_fixed(durations: Sequence[float], lags: tuple[float, float], longest: float) -> TradeOff:
    """The gap chosen in hindsight for each lag between these two."""
    gaps, gap = [], lags[0]
    while gap < min(5 * lags[1], longest):
        gaps.append(gap)
        gap *= 1.03
    return TradeOff(every(gap, durations) for gap in gaps)


def backoff(rule: Backoff, durations: Sequence[float], *, jitter: bool = True) -> Seen:
    chance = random.Random(1).random if jitter else lambda: 0.5
    found = []
    for duration in durations:
        age, polls = rule.gap(0, chance()), 1
        while age < duration:
            age += rule.gap(polls, chance())
            polls += 1
        found.append((polls, age - duration))
    return mean(found)


def our_backoff(durations: Sequence[float], lags: tuple[float, float]) -> TradeOff:
    """× 1.5, at most 30 times the first gap, which is chosen for each lag between these two."""
    return TradeOff(_settings(lambda first: backoff(Backoff(first, 30 * first), durations), lags[1] * 5, lags, 1.5))


def googles(durations: Sequence[float]) -> Seen:
    """As Google's clients poll a long-running operation: 5 s, × 1.5, at most 45 s."""
    return backoff(Backoff(5.0, 45.0), durations, jitter=False)


def _settings(
    poll: Callable[[float], Seen], highest: float, lags: tuple[float, float], step: float = 1.4
) -> Iterable[Seen]:
    """Poll by smaller and smaller settings, until the mean lag is the least of `lags`."""
    setting, found = highest, Seen(0.0, float("inf"))
    while found.lag > lags[0]:
        found = poll(setting)
        yield found
        setting /= step


# --- rules that know the distribution ---


class Known:
    """A distribution of durations on a grid of ages, fine where jobs end: F and its integral."""

    def __init__(self, survival: Callable[[float], float], mean: float, longest: float) -> None:
        """No rule leaves a gap above `longest`."""
        self.mean, self.longest = mean, longest
        self.ages, self.ended, self.areas = [0.0], [0.0], [0.0]
        age, area, last, last_done = mean / 1000, 0.0, 0.0, 0.0
        while True:
            runs = survival(age)
            done = 1 - runs if runs > _END else 1.0
            area += (age - last) * (done + last_done) / 2
            kept, kept_done = self.ages[-1], self.ended[-1]
            if done == 1 or done - kept_done > _FINEST or age - kept > _WIDEST * mean:
                self.ages.append(age)
                self.ended.append(done)
                self.areas.append(area)
            if done == 1:
                return
            last, last_done = age, done
            age *= _STEP

    def equal_lag(self, durations: Sequence[float], lags: tuple[float, float]) -> TradeOff:
        """The rule that pacing follows, with its jitter, where nothing has to be learned."""
        return TradeOff(_settings(lambda price: self._by_rule(price, durations), 4 * self.mean, lags))

    def optimum(self, durations: Sequence[float], lags: tuple[float, float]) -> TradeOff:
        """The fewest polls that are possible, without jitter: dynamic programming over the grid."""
        return TradeOff(_settings(lambda price: self._at_best(price, durations), 4 * self.mean, lags))

    def _by_rule(self, price: float, durations: Sequence[float]) -> Seen:
        ages, chance = self.ages, random.Random(1).random
        gaps = [self._gap(place, price) for place in range(len(ages))]
        slopes = [
            (gaps[place + 1] - gaps[place]) / (ages[place + 1] - ages[place]) for place in range(len(ages) - 1)
        ] + [0.0]
        found = []
        for duration in durations:
            age, polls = 0.0, 0
            while age < duration or not polls:
                place = bisect_right(ages, age) - 1
                gap = gaps[place] + slopes[place] * (age - ages[place])
                age += min(gap * (LEAST_JITTER + JITTER * chance()), self.longest)
                polls += 1
            found.append((polls, age - duration))
        return mean(found)

    def _gap(self, place: int, price: float) -> float:
        """Seconds after the age at `place` at which the integral of F(s) - F(age) reaches price × S(age)."""
        ages, ended, areas = self.ages, self.ended, self.areas
        age, done, area, last = ages[place], ended[place], areas[place], len(ages) - 1
        low, high, target = place, last, price * (1 - done)
        if areas[last] - area - done * (ages[last] - age) <= target:
            return max(ages[last] - age, age / 3)
        while low + 1 < high:
            middle = (low + high) // 2
            if areas[middle] - area - done * (ages[middle] - age) >= target:
                high = middle
            else:
                low = middle
        missing = target - (areas[low] - area - done * (ages[low] - age))
        whole = areas[high] - areas[low] - done * (ages[high] - ages[low])
        return ages[low] - age + (ages[high] - ages[low]) * missing / whole

    def _at_best(self, price: float, durations: Sequence[float]) -> Seen:
        ages = self.best_ages(price)
        return mean(at_ages(ages, duration) for duration in durations)

    def best_ages(self, price: float) -> list[float]:
        """When to poll so that price × polls + lag is least. With more age the next poll is never earlier: few are tried."""
        ages, ended = self.ages, self.ended
        last = len(ages) - 1
        nexts = [last] * (last + 1)
        sums = list(self.areas)  # of the area and the cost at each age
        for place in range(last - 1, -1, -1):
            done, latest = ended[place], nexts[place + 1]
            while latest > place + 1 and ages[latest] - ages[place] > self.longest:
                latest -= 1
            tried = [sums[after] - done * ages[after] for after in range(place + 1, latest + 1)]
            least = min(tried)
            nexts[place] = place + 1 + tried.index(least)
            sums[place] = price * (1 - done) + least + done * ages[place]
        polled, place = [], 0
        while place < last:
            place = nexts[place]
            polled.append(ages[place])
        return polled


def at_ages(ages: list[float], duration: float) -> tuple[int, float]:
    """Polls and lag of a job that is polled at these ages; beyond them at gaps of a third of its age."""
    while duration > ages[-1]:
        ages.append(ages[-1] * 4 / 3)
    place = bisect_left(ages, duration)
    return place + 1, ages[place] - duration
