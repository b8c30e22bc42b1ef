"""How long the jobs of a class take: a period life table, learned from polls.

Ages are cut into bins that grow by a twelfth of an octave. Each bin counts the jobs that ended in it and the time that
jobs were seen to run in it; ends divided by time is the hazard, and the hazards give the survival curve.

* Running jobs count, up to their last poll. Without them the first completions of a batch, which are its shortest jobs,
  would make all jobs seem short.
* An end lies somewhere between two polls. It is divided over the bins between them, as the curve so far says.
* What is newer counts more: the weight of an end halves with every 416 ends after it. (Older entries do not shrink;
  the weight of new ones grows.)
* What the table held is forgotten at once where the last ends contradict it (`drifted`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import log, sqrt

_STEPS = 12  # bins for each doubling of the age
_BINS = 270  # the last ends after more than three days
FIRST = 0.05
"""Seconds: where the first bin ends."""
SCALE = _STEPS / log(2)
SHIFT = 1 - log(FIRST) * SCALE

EDGES: tuple[float, ...] = (0.0, *(FIRST * 2 ** (k / _STEPS) for k in range(_BINS)))
"""Where the bins begin; bin `k` goes from ``EDGES[k]`` to ``EDGES[k + 1]``."""
WIDTHS = tuple(after - before for before, after in itertools.pairwise(EDGES))
LAST = len(WIDTHS) - 1
TOP = EDGES[LAST]

MEMORY = 600
"""Ends after which one counts for a third of a new one (1 / e)."""
_GROWTH = 1 + 1 / MEMORY
_RESCALE = 1e9
_SUPPORT = 3  # ends in a bin, below which its hazard is no evidence
SPREAD = 2  # bins over which an end is divided, about: the errors of so many hazards are one error
_LEAST_SHARE = 1e-4  # of jobs: where the curve says that fewer end, it is not asked where
DRIFT_ENDS, DRIFT_Z = 120, 4.5
"""The table is forgotten where the ends differ by so many standard deviations from those expected, over so many ends."""


def bin_of(age: float) -> int:
    """The bin in which `age` lies."""
    if FIRST < age < TOP:
        return int(log(age) * SCALE + SHIFT)
    return 0 if age <= FIRST else LAST


class LifeTable:
    """Ends and time at risk, by age. `left` has the jobs by the bin up to which they were seen to run."""

    __slots__ = (
        "_ends_before",
        "_expected",
        "_left_before",
        "_unplaced",
        "_weight_before",
        "count",
        "ends",
        "left",
        "weight",
    )

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin again without any ends."""
        self.weight = 1.0  # of an end that is added now
        self.ends = [0.0] * len(WIDTHS)
        self.left = [0.0] * len(WIDTHS)
        self.count = 0
        self._unplaced: dict[int, float] = {}  # weight of ends by the first and the last bin in which they may lie
        self._expected: list[float] | None = None
        self._ends_before = self._left_before = self.ends
        self._weight_before = 1.0

    def add_running(self, before: float, age: float) -> None:
        """A job that was seen to run at age `before` (0 at its submit) was seen to run at `age`."""
        self.left[bin_of(age)] += self.weight
        if before > 0:
            self.left[bin_of(before)] -= self.weight

    def add_end(self, before: float, low: float, high: float) -> tuple[int, int]:
        """A job that was seen to run at age `before` ended between the ages `low` and `high`; returned are their bins."""
        weight, unplaced = self.weight, self._unplaced
        first = int(log(low) * SCALE + SHIFT) if FIRST < low < TOP else bin_of(low)
        last = int(log(high) * SCALE + SHIFT) if FIRST < high < TOP else bin_of(high)
        between = first << 16 | last
        unplaced[between] = unplaced.get(between, 0.0) + weight
        if before > 0:
            self.left[first if before == low else bin_of(before)] -= weight
        self.count += 1
        self.weight = weight * _GROWTH
        return first, last

    def place(self, known: Sequence[float] | None) -> None:
        """Place the ends that were added: each is divided over its bins as `known`, the share of jobs ended by each edge, says."""
        ends, left = self.ends, self.left
        for between, weight in self._unplaced.items():
            first, last = between >> 16, between & 0xFFFF
            for k, share in _shares(first, last, known):
                ends[k] += weight * share
                left[k] += weight * share
        self._unplaced = {}
        if self.weight > _RESCALE:
            self._rescale()

    def relative_ends(self) -> list[float]:
        """The ends in each bin, where a new one counts for 1."""
        return [ends / self.weight for ends in self.ends]

    def relative_times(self) -> list[float]:
        """Seconds that jobs were seen to run in each bin, where those of a new one count for 1."""
        return [time / self.weight for time in _time_at_risk(self.left)]

    def watch(self, hazards: list[float]) -> None:
        """Compare what comes from now on with `hazards`, unless it is compared with earlier ones."""
        if self._expected is None:
            self._expected = hazards
            self._ends_before, self._left_before, self._weight_before = list(self.ends), list(self.left), self.weight

    def watch_nothing(self) -> None:
        """Compare no longer with what was watched."""
        self._expected = None

    def drifted(self) -> bool:
        """Whether what came since contradicts the hazards that are watched; then all before is forgotten.

        The number of ends is compared with the sum of the hazards over the time at risk: a one-sample log-rank test.
        It takes part of running jobs too, so that a service that has become slower is noticed before its jobs end. Ages at
        which hardly any job ended are compared together: jobs of two kinds that become faster end between the two.
        """
        if self._expected is None:
            return False
        weight = self._weight_before
        ends = [(now - before) / weight for now, before in zip(self.ends, self._ends_before, strict=True)]
        left = [(now - before) / weight for now, before in zip(self.left, self._left_before, strict=True)]
        before, times = self._ends_before, _time_at_risk(left)
        known = [based_on >= _SUPPORT * weight for based_on in before]
        last = LAST - known[::-1].index(True) if any(known) else 0  # of it perhaps only the beginning was seen
        usual, rare = _Compared(), _Compared()
        for k in range(last):
            expected, based_on = self._expected[k] * times[k], before[k] / weight
            if known[k]:
                usual.add(ends[k], expected, based_on, SPREAD * expected * expected / based_on)
            else:
                rare.add(ends[k], expected, based_on)
        rare.uncertain = SPREAD * rare.expected**2 / max(1.0, rare.based_on)
        if abs(usual.deviations()) > DRIFT_Z or rare.deviations() > DRIFT_Z:
            self.forget()
            return True
        if max(usual.found, usual.expected) >= DRIFT_ENDS:
            self._expected = None
        return False

    def _rescale(self) -> None:
        by = self.weight
        self.ends = [value / by for value in self.ends]
        self.left = [value / by for value in self.left]
        self.weight = 1.0
        self._expected = None


class _Compared:
    """Ends that were found, and that were to be expected from those before."""

    __slots__ = ("based_on", "expected", "found", "uncertain")

    def __init__(self) -> None:
        self.found = self.expected = self.based_on = self.uncertain = 0.0

    def add(self, found: float, expected: float, based_on: float, uncertain: float = 0.0) -> None:
        self.found += found
        self.expected += expected
        self.based_on += based_on
        self.uncertain += uncertain

    def deviations(self) -> float:
        """By how many standard deviations more were found."""
        return (self.found - self.expected) / sqrt(max(self.expected, 1.0) + self.uncertain)


def _time_at_risk(left: list[float]) -> list[float]:
    times, beyond = [0.0] * len(WIDTHS), 0.0
    for k in range(LAST, -1, -1):
        times[k] = max(0.0, WIDTHS[k] * (beyond + left[k] / 2))
        beyond += left[k]
    return times


def _shares(first: int, last: int, known: Sequence[float] | None) -> list[tuple[int, float]]:
    """How ends between the bins `first` and `last` are divided over them: by `known`, else by the time."""
    if first == last:
        return [(first, 1.0)]
    shares = WIDTHS[first : last + 1]
    if known is not None and known[last + 1] - known[first] > _LEAST_SHARE:
        shares = tuple(
            after - before for before, after in zip(known[first : last + 1], known[first + 1 : last + 2], strict=True)
        )
    total = sum(shares)
    return [(k, share / total) for k, share in enumerate(shares, first) if share > 0]
