"""Jobs that a service holds in a queue first: when they are polled where each poll shows whether a job has begun.

Two life tables: how long jobs wait, by their age, and how long they run from then on. A job that a poll shows queued is
polled next where the lag expected since then reaches the price of a poll: it is one of those that wait at least so long,
and ends when it has also run. A job that a poll shows in progress is polled by the time for which it has probably run: the
time since the first poll that showed it so, and before that what it usually is. (To keep that of each job would cost
memory and changes nothing that can be measured.)

Many a job is over before a poll shows it in progress. When it began is then drawn from all the moments at which it may
have, as the two curves say: a step of stochastic EM. To take the likeliest moment instead would make all of them alike.

The price is such that price × polls per job, computed on the two curves, is the lag that is wanted. What polls by age need
for that lag is known too: stages are used where they need fewer. Where jobs wait for about as long as each other, or are
said to be queued until they end, they need more, as their state tells less than their age.
"""

from __future__ import annotations

from bisect import bisect_right

from batchrun.core.pacing.curve import BEYOND, Curve, curve_of
from batchrun.core.pacing.life_table import EDGES as AGES
from batchrun.core.pacing.life_table import LAST, WIDTHS, LifeTable, bin_of

KNOWN_JOBS = 20
"""So many jobs must have been seen queued and then in progress."""
_KNOWN_SHARE = 1 / 3
GIVEN_UP = 600
"""Ends after which a service that shows too few of them in progress is taken to show nothing by it."""
_BETTER = 0.96
"""Stages are used where they need at most so many times as many polls as by age."""
_JUDGED = 300
"""Ends between two times that this is asked, and before the first: each way of polling shows itself in a better light."""
_NEWS = 30
"""Ends between two plans, at least."""
_EARLY = 200
"""Begins over which it is averaged how long before the first poll to show it a job began."""
_SHARES = (*(1 - 0.03 * step for step in range(31)), *(0.1 * 0.7**step for step in range(1, 14)))
"""The gaps of queued jobs are computed at the ages at which such shares of them still wait."""
_STARTS = 12  # moments between which the begin of a job is drawn
_TURN = 0.6180339887498949  # the golden ratio: multiples of it are spread evenly between whole numbers
_LEAST, _NOBODY = 1e-9, 1e-3


class Stages:
    """What is known of the waits and the runs of a class of jobs; `used` once polls are chosen by it."""

    __slots__ = (
        "_ages",
        "_begins",
        "_early",
        "_early_next",
        "_gaps",
        "_jobs",
        "_judged_at",
        "_over",
        "_planned_at",
        "_price",
        "_run",
        "_runs",
        "_turn",
        "_wait",
        "_waits",
        "used",
    )

    def __init__(self) -> None:
        self._waits, self._runs = LifeTable(), LifeTable()
        self._wait: Curve | None = None
        self._run: Curve | None = None
        self._begins = self._jobs = 0
        self._early = self._early_next = 0.0
        self._planned_at = self._judged_at = 0  # of the jobs
        self._turn = 0.0
        self._price = 0.0
        self._ages: list[float] = []  # of queued jobs
        self._gaps: list[float] = []
        self._over: list[float] = []  # the share of jobs that have ended after the gap
        self.used = False

    # --- what polls show ---

    def queued(self, before: float, age: float) -> None:
        """A poll showed the job queued at `age`, and one did at the age `before`."""
        self._waits.add_running(before, age)

    def in_progress(self, before: float, age: float, begun: float) -> None:
        """The job is in progress at `age`; the first poll to show that was at the age `begun`."""
        if before >= begun:
            self._runs.add_running(self._ran(before, begun), self._ran(age, begun))
            return
        self._begins += 1
        bins = self._waits.add_end(before, before, age)
        early = (age - before) / 2 if self._wait is None else self._wait.unnoticed(before, age, bins)
        self._early_next += (min(max(early, 0.0), age - before) - self._early_next) / min(self._begins, _EARLY)
        self._runs.add_running(0.0, self._early)

    def ended(self, before: float, low: float, high: float, begun: float | None) -> float:
        """A job ended between the ages `low` and `high`: how long before `high`, as is to be expected."""
        self._jobs += 1
        if begun is None or before < begun:
            begin = self._drawn(before, low, high)
            self._waits.add_end(before, begin, begin)
            before, low, high = 0.0, max(0.0, low - begin), high - begin
        else:
            before, low, high = (self._ran(age, begun) for age in (before, low, high))
        bins = self._runs.add_end(before, low, high)
        return (high - low) / 2 if self._run is None else self._run.unnoticed(low, high, bins)

    def _ran(self, age: float, begun: float) -> float:
        """For how long a job has run, about."""
        return age - begun + self._early

    def _drawn(self, before: float, low: float, high: float) -> float:
        """When a job began that was queued at the age `before` and ended between two ages."""
        turn = self._turn = (self._turn + _TURN) % 1.0
        wait, run = self._wait, self._run
        if wait is None or run is None:
            return before + (high - before) * turn
        width = (high - before) / _STARTS
        sums, total, waited = [], 0.0, wait.ended_by(before)[0]
        for step in range(_STARTS):
            at = before + width * (step + 0.5)
            left = wait.ended_by(before + width * (step + 1))[0]
            ran = run.ended_by(high - at)[0] - (run.ended_by(low - at)[0] if low > at else 0.0)
            total += (left - waited + _LEAST) * (ran + _LEAST)
            sums.append(total)
            waited = left
        step = min(bisect_right(sums, turn * total), _STARTS - 1)
        less = sums[step - 1] if step else 0.0
        return before + width * (step + (turn * total - less) / (sums[step] - less))

    # --- gaps ---

    def gap(self, age: float, begun: float | None) -> float:
        """Seconds to the next poll of a job that was seen at `age`: queued, or in progress since the age `begun`."""
        if begun is None:
            return self._between(self._gaps, age, BEYOND * age)
        assert self._run is not None
        ran = self._ran(age, begun)
        return self._run.next_age(ran, self._price) - ran

    def _between(self, values: list[float], age: float, beyond: float) -> float:
        """The value at `age`; beyond the last age of all at least `beyond`."""
        ages = self._ages
        place = bisect_right(ages, age)
        if place == len(ages):
            return max(values[-1], beyond)
        begin = ages[place - 1]
        return values[place - 1] + (values[place] - values[place - 1]) * (age - begin) / (ages[place] - begin)

    # --- once a second ---

    def refresh(self, lag: float, most: float) -> bool:
        """Learn, to poll with a mean lag of `lag` seconds; false where polls show too little for it.

        By age it takes `most` polls per job.
        """
        waits, runs = self._waits, self._runs
        if min(self._begins, waits.count, runs.count) < KNOWN_JOBS:
            return self._jobs < GIVEN_UP
        if self._jobs < self._planned_at + _NEWS:
            return True
        self._planned_at = self._jobs
        waits.place(None if self._wait is None else self._wait.ended)
        runs.place(None if self._run is None else self._run.ended)
        self._wait, self._run = curve_of((waits,))[0], curve_of((runs,))[0]
        self._early = self._early_next
        if self._wait.known_share < _KNOWN_SHARE:
            return True
        steps = 1 if self._price else 4  # the next refresh goes on from there
        self._price = self._price or lag / most
        for _ in range(steps):
            self._plan(self._wait, self._run)
            polls = self._polls(self._wait, self._run)
            self._price = lag / polls
        if self._jobs >= self._judged_at + _JUDGED:
            self._judged_at = self._jobs
            self.used = polls < _BETTER * most
        return True

    def _polls(self, wait: Curve, run: Curve) -> float:
        """Polls per job, by the plan."""
        of_run, ran, share = 0.0, self._early, 1.0  # of a job that a poll showed in progress
        begun = max(_LEAST, run.running_at(ran))
        while share > _NOBODY and ran < AGES[-1]:
            of_run += share
            ran = run.next_age(ran, self._price)
            share = run.running_at(ran) / begun
        polls, age, share = 0.0, 0.0, 1.0
        while share > _NOBODY and age < AGES[-1]:
            after = age + self._between(self._gaps, age, BEYOND * age)
            left = wait.running_at(after)
            runs = share - left - share * self._between(self._over, age, 0.0)
            polls += share + max(0.0, runs) * of_run
            age, share = after, left
        return max(1.0, polls)

    def _plan(self, wait: Curve, run: Curve) -> None:
        """Compute the gaps of queued jobs.

        Of a job that waits at the age x, the lag expected at the age u is that of one that began to run at t, A(u - t),
        over all t from x to u. Between two of the ages as many jobs begin at each t: there the mean of A is that of its
        integral.
        """
        ages, left = [0.0], [1.0]
        for share in _SHARES[1:]:
            age = wait.age_at(share)
            if age > ages[-1] * 1.01 + 1e-3:
                ages.append(age)
                left.append(share)
        areas = [0.0]
        for k, width in enumerate(WIDTHS):
            areas.append(areas[-1] + width * (run.ended_by(AGES[k])[1] + run.ended_by(AGES[k + 1])[1]) / 2)

        def lags(ran: float) -> tuple[float, float]:
            """A and its integral."""
            k = min(bin_of(ran), LAST)
            lag = run.ended_by(ran)[1]
            return lag, areas[k] + (ran - AGES[k]) * (run.ended_by(AGES[k])[1] + lag) / 2

        def expected(place: int, at: float) -> tuple[float, float]:
            """The lag at the age `at`, and how fast it grows."""
            lag = ended = 0.0
            for k in range(place, len(ages) - 1):
                if ages[k] >= at:
                    break
                first = lags(at - ages[k])
                last = lags(at - ages[k + 1]) if at > ages[k + 1] else (0.0, 0.0)
                share = (left[k] - left[k + 1]) / (left[place] * (ages[k + 1] - ages[k]))
                lag += share * (first[1] - last[1])
                ended += share * (first[0] - last[0])
            return lag, ended

        gaps, over, at = [], [], 0.0
        for place, age in enumerate(ages[:-1]):
            low, high = max(age, at), max(age, at) + self._price
            while expected(place, high)[0] < self._price and high < AGES[-1]:
                low, high = high, high + 2 * (high - age)
            at = high
            for _ in range(4):  # Newton's steps: from above they stay above
                lag, ended = expected(place, at)
                if ended <= _LEAST or lag - self._price < 0.01 * self._price:
                    break
                at = max(low, at - (lag - self._price) / ended)
            gaps.append(at - age)
            over.append(expected(place, at)[1])
        self._ages, self._gaps, self._over = ages[:-1], gaps, over
