"""When is a job polled next? One question, and one duty: learn from the jobs that ended.

**The problem.** A poll costs a request of a limited number; a job that has ended and was not polled since lies there for
a while, its place taken: that while is the lag. Given how long jobs take, which ages to poll at, so that a mean lag
costs as few polls as possible?

**What one would do first.** Fixed gaps poll a job of ten minutes as often in its first second as in its last. A backoff
is as blind: its gaps depend on how often it asked, not on when an answer is likely. On 10,000 log-normal jobs of 4.8 s
(2,000 at a time) the backoff that stood here took 1.53 times the ideal makespan with 3.3 polls per job, and a loop that
polls every 2 s 1.09 times with 2.9.

**The equal-lag rule.** Let F be the distribution of durations and S = 1 - F. A job that ran at age x is polled next at
the age u at which the lag expected since x reaches a constant: the integral of F(s) - F(x) from x to u, divided by S(x),
is c. Each gap then costs the same lag, so that the mean lag is c times the polls per job, and c is the price of a poll,
the same for all jobs. With P(c) polls per job by the curve, c solves c P(c) = the lag that is wanted. Inspection of
what fails silently is an old question: Barlow, Hunter & Proschan (1963) give the optimum for one known distribution, as
a recursion; Keller (1974, Management Science 21:256) and Munford & Shahani (1972, 1973) give schedules that come near
it. Of known distributions the rule needs 0 to 6% more polls than the optimum by dynamic programming.

**Learned.** F is not known, and services change. Each class of jobs (endpoint and model) has a period life table (life_table.py):
ends and time at risk by age, running jobs included, new ones weighing more. Where an end lies between two polls it is
divided over the ages between them by the curve so far, and the hazards are smoothed: an EMS step (Silverman, Jones,
Wilson & Nychka 1990) for each refresh. Without the smoothing ends gather in few bins, the plan relies on them, and the
lag comes out 5 to 10% longer than planned. `completed_at`, where told, narrows the interval. It is in whole seconds, as
`created_at` is, and of an interval shorter than that it cuts off what is merely less likely, at 2% more polls; without
it a service whose jobs become faster is noticed later. Once a second at most the curve is drawn and the gaps of all ages
are computed; a poll then costs one look into a table of straight lines.

**Cold start and change.** Until a third of the jobs of an age have ended, the gap is half of the age; only the first
hundred jobs are polled in their first second. (With the first
twenty ends alone the curve of a memoryless service cost a tenth more polls; with the median the rule came too late: a
third was best over all workloads, at most 1.01 times the polls of a backoff of the same lag from a lag of 5% on.) When
the curve first counts, waiting jobs are planned again. A class that has none yet borrows that of all classes, earlier
runs' last records included. Beyond the longest duration known no gap exceeds a third of the age. Where ends contradict
the curve (a one-sample log-rank test, and scouts, which see what ends before all others are polled) it is forgotten.
Jobs of two kinds that become faster are noticed late where only polls tell when jobs ended: the longer ones are polled
when they were always over, and the first of them come after more than a thousand of the others.

**Queued jobs.** Where polls show jobs queued and later in progress, two more life tables are kept (stages.py): how long
jobs wait, by age, and how long they run from then on. A queued job is polled where the lag expected of those that still
wait at its age reaches the price: it must leave the queue and then run. A job in progress is polled by how long it has
run. The price is the lag that is wanted, divided by the polls per job that follow from both curves; where by age alone as
few are needed, polls go by age. At equal lag (5 to 20% of the mean) this takes 0.6 to 0.86 times the polls by age alone
where a memoryless queue of 60 s or 30 s comes before runs of 5 s or 30 s, and as many as by age where all jobs wait for
about as long, where the wait is short, or where `queued` is said until the end.

**Declined.** Gaps by the square root of the hazard (up to 16% more polls), a guess of each job's end (no distribution,
no price), steering c by the lag or the rate that is observed (two stable points in simulation: where the rate binds, the
poll that was due first goes first), ages that count from the last poll that showed a job queued (as good where the queue
has no memory, up to 2.9 times the polls by age where it has), trying either way and counting polls (the first jobs of a
batch decide it), the mean of the probability transform of the last ends as a test for change (the first ends of a batch
are its shortest jobs), jitter of half a gap (7 to 28% more polls; a tenth costs under 5%, and keeps jobs
apart that were submitted together).

`python benchmarks/pacing.py` measures all this.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from math import log, sqrt

from batchrun.core.pacing.curve import Curve, curve_of
from batchrun.core.pacing.life_table import (
    DRIFT_Z,
    EDGES,
    FIRST,
    SCALE,
    SHIFT,
    TOP,
    WIDTHS,
    LifeTable,
    bin_of,
)
from batchrun.core.pacing.stages import KNOWN_JOBS, Stages
from batchrun.core.settings.settings import Lag

KNOWN_ENDS, KNOWN_SHARE = 20, 1 / 3
"""The curve counts once so many jobs have ended, and it is known up to the age at which this share has."""
WATCHED_SHARE = 0.8
"""What comes later is compared with the curve once it is known up to the age at which this share has ended: in the first
jobs of a batch the oldest ages are those of which least is known."""
GROWTH = 0.5
"""Until then a gap is this share of the age, as in a backoff by 1.5."""
FIRST_JOBS, FIRST_GAP = 100, 2.0
"""So many jobs are polled from the shortest gap on while nothing is known; the first poll of the others comes after so many
seconds, or as soon as these have shown what is known then."""
LEAST_JITTER, JITTER = 0.9, 0.2
"""A gap is multiplied by 0.9 to 1.1."""
REFRESH, _SHORTEST_REFRESH = 1.0, 0.1
"""Seconds between two refreshes of a curve, at least."""
AT_THE_END = 4.0
"""At the end of a batch gaps are divided by it."""
SCOUTS = 1 / 32
"""The share of jobs whose first poll comes early, where a third would end before it unseen."""
_SCOUTED_SHARE, _SCOUTED_UP_TO = 0.3, 0.8
_SCOUTED_FROM = 0.05
"""Every other scout is polled where so few jobs have ended: one that has ended there says most. The rest are spread over
the ages up to the first poll, and show where jobs end."""
TRIED_AGAIN = 4
"""Where too few jobs were seen queued and then in progress, it is tried again after so many times as many ends."""
UNKNOWN_AGE = -1.0
"""A job was in flight for a time of which nothing is known: a suspension, or before this run."""


class Scouts:
    """Jobs whose first poll comes early: as many of them must have ended as the curve says.

    Where all jobs of a class have ended by their first poll, only these show that the service has become faster.
    """

    __slots__ = ("_ended", "_expected", "_variance")

    def __init__(self) -> None:
        self._ended = self._expected = self._variance = 0.0

    def add(self, expected: float, *, ended: bool) -> None:
        """One was polled at an age by which the share `expected` of jobs has ended."""
        if self._variance > 15.0:
            self._ended = self._expected = self._variance = 0.0
        self._ended += ended
        self._expected += expected
        self._variance += expected * (1 - expected)

    def disagree(self) -> bool:
        uncertain = (0.1 * self._expected) ** 2  # of the curve
        return abs(self._ended - self._expected) > DRIFT_Z * sqrt(max(1.0, self._variance + uncertain))


class ClassPacing:
    """The jobs of one class: what was learned of them, and their gaps.

    `running` is called for each poll of a running job: it is written out where calls would be shorter.
    """

    __slots__ = (
        "_divisor",
        "_early_scouts",
        "_lag",
        "_learned_at",
        "_lines",
        "_longest",
        "_own",
        "_queued_polls",
        "_scouted_below",
        "_scouted_early",
        "_scouts",
        "_shortest",
        "_stages_from",
        "_unlearned_jobs",
        "curve",
        "stages",
        "table",
    )

    def __init__(self, lag: Lag, shortest: float, longest: float) -> None:
        self._lag, self._shortest, self._longest = lag, shortest, longest
        self.table = LifeTable()
        self.curve: Curve | None = None
        self._own = False  # the curve is that of this class, not of all
        self._lines: list[tuple[float, float]] | None = None  # by bin: the gap after the age x is a + b x
        self._unlearned_jobs = 0
        self._divisor = 1.0
        self._scouted_below = self._scouted_early = 0.0
        self._scouts, self._early_scouts = Scouts(), Scouts()
        self._learned_at = -1  # ends in the table when the curve was drawn
        self.stages: Stages | None = None
        """What polls show that tell queued jobs from those in progress; None where they do not, or it does not help."""
        self._queued_polls = 0
        self._stages_from = 0  # ends in the table from which on they are tried

    # --- polls ---

    def first(self, chance: float, scout: float, *, queued: bool = False) -> float:
        """Seconds from a job's submit, which left it `queued`, to its first poll; `chance` and `scout` are in [0, 1)."""
        if self._lines is None:
            self._unlearned_jobs += 1
            if self._unlearned_jobs > FIRST_JOBS:
                gap = FIRST_GAP if self._lag.is_share else min(FIRST_GAP, self._lag.value)
                return min(max(self._shortest, gap * (0.75 + 0.5 * chance)), self._longest)
        if self._scouted_below and scout < SCOUTS:
            early = scout < SCOUTS / 2
            age = self._scouted_early * (LEAST_JITTER + JITTER * chance) if early else self._scouted_below * chance
            return max(self._shortest, age)
        lines = self._lines
        if queued or lines is None:
            return self.gap(0.0, chance, None if queued else 0.0)
        gap = lines[0][0] * (LEAST_JITTER + JITTER * chance)
        return gap if self._shortest < gap < self._longest else self._bounded(gap, chance)

    def gap(self, age: float, chance: float, begun: float | None = 0.0) -> float:
        """Seconds to the next poll of a job that was last seen at `age`, as far as that is known."""
        return self.seen(UNKNOWN_AGE, age, begun, chance)

    def seen(self, before: float, age: float, begun: float | None, chance: float) -> float:
        """As `running`, of a job that may be queued: it was first seen in progress at the age `begun`, or never yet.

        Where `begun` is not above 0 nobody saw whether it was queued.
        """
        gap, stages = self.running(before, age, chance), self.stages
        if stages is None:
            if begun is None and before >= 0.0 and self.table.count >= self._stages_from:
                self._queued_polls += 1
                if self._queued_polls > KNOWN_JOBS:
                    self.stages = Stages()
            return gap
        if begun is None:
            if before >= 0.0:
                stages.queued(before, age)
        elif begun <= 0.0:
            return gap
        elif before >= 0.0:
            stages.in_progress(before, age, begun)
        if not stages.used:
            return gap
        gap = stages.gap(age, begun) / self._divisor * (LEAST_JITTER + JITTER * chance)
        return gap if self._shortest < gap < self._longest else self._bounded(gap, chance)

    def running(self, before: float, age: float, chance: float) -> float:
        """A job was seen to run at `age`, and before that at the age `before`: seconds to its next poll."""
        k = int(log(age) * SCALE + SHIFT) if FIRST < age < TOP else bin_of(age)
        if before > 0.0:
            table = self.table
            left = table.left
            left[k] += table.weight
            left[int(log(before) * SCALE + SHIFT) if FIRST < before < TOP else bin_of(before)] -= table.weight
        elif before == 0.0:
            self.table.left[k] += self.table.weight
            if age < self._scouted_below and self.curve is not None:
                self._scouted(1 - self.curve.running_at(age), ended=False)
        if self._lines is None:
            return self._unlearned(age, chance)
        base, slope = self._lines[k]
        gap = (base + slope * age) * (LEAST_JITTER + JITTER * chance)
        return gap if self._shortest < gap < self._longest else self._bounded(gap, chance)

    def ended(
        self, before: float, age: float, told: tuple[float, float] | None = None, begun: float | None = 0.0
    ) -> float | None:
        """A job that was seen to run at the age `before` has ended by `age`; between two ages, as the service `told`.

        It was first seen in progress at the age `begun`, as for `seen`. Returned is how long before `age` it ended, as is
        to be expected; None where nothing is known of it.
        """
        if before == UNKNOWN_AGE:
            return None
        low, high, curve = before, age, self.curve
        if before == 0.0 and age < self._scouted_below and curve is not None:
            self._scouted(1 - curve.running_at(age), ended=True)
        if told is not None and max(low, told[0]) < min(high, told[1]):
            low, high = max(low, told[0]), min(high, told[1])
        bins = self.table.add_end(before, low, high)
        if self.stages is not None and (begun is None or begun > 0.0):
            return age - high + self.stages.ended(before, low, high, begun)
        return age - high + ((high - low) / 2 if curve is None else curve.unnoticed(low, high, bins))

    def _scouted(self, expected: float, *, ended: bool) -> None:
        """The early scouts are judged by themselves: the others would hide what they say."""
        (self._early_scouts if expected < 2 * _SCOUTED_FROM else self._scouts).add(expected, ended=ended)

    def _unlearned(self, age: float, chance: float) -> float:
        """The gap while nothing is known."""
        lag = self._lag
        gap = min(GROWTH, 10 * lag.value) * age if lag.is_share else min(max(GROWTH * age, lag.value), 4 * lag.value)
        gap = gap / self._divisor * (0.75 + 0.5 * chance)
        return gap if self._shortest < gap < self._longest else self._bounded(gap, chance)

    def _bounded(self, gap: float, chance: float) -> float:
        """A gap within the bounds, and with jitter: jobs that all wait for the shortest gap are not polled in step."""
        if gap <= self._shortest:
            return self._shortest * (1 + JITTER * chance)
        return self._longest * (1 - JITTER * chance)

    # --- once a second ---

    def refresh(self, parent: Callable[[], Curve | None]) -> bool:
        """Learn from what was seen; whether waiting jobs are to be planned again. `parent` gives the curve of all classes."""
        table = self.table
        table.place(None if self.curve is None else self.curve.ended)
        if table.drifted() or self._scouts.disagree() or self._early_scouts.disagree():
            table.forget()
            self._scouts, self._early_scouts = Scouts(), Scouts()
            self._own, self.curve, self._lines, self._scouted_below = False, None, None, 0.0
            self._unlearned_jobs = self._queued_polls = self._stages_from = 0
            self.stages = None
            return True
        if table.count == self._learned_at:
            return False
        self._learned_at = table.count
        known = None
        if table.count >= KNOWN_ENDS:
            known = curve_of((table,))
        if known is not None and (self._own or known[0].known_share >= KNOWN_SHARE):
            counts_now, self._own = not self._own, True
            self._plan(known[0])
            counts_now = self._tell_stages(known[0]) or counts_now
            if self.stages is not None and self.stages.used:
                table.watch_nothing()  # polls that come by stages find ends at other ages first, and seem to contradict it
            elif known[0].known_share >= WATCHED_SHARE:
                table.watch(known[1])
            return counts_now
        if not self._own and (borrowed := parent()) is not None:
            counts_now = self.curve is None
            self._plan(borrowed)
            return counts_now
        return False

    def _tell_stages(self, curve: Curve) -> bool:
        """Learn of queued jobs; whether waiting jobs are to be planned again."""
        stages = self.stages
        if stages is None:
            return False
        used = stages.used
        if not stages.refresh(self._seconds(curve), curve.polls):
            self.stages, self._queued_polls, self._stages_from = None, 0, TRIED_AGAIN * self.table.count
        return stages.used is not used

    def hurry(self, *, at_the_end: bool) -> bool:
        """Divide all gaps at the end of a batch; whether waiting jobs are to be planned again."""
        divisor = AT_THE_END if at_the_end else 1.0
        if divisor == self._divisor:
            return False
        self._divisor = divisor
        self._draw()
        return at_the_end

    def _plan(self, curve: Curve) -> None:
        curve.plan(self._seconds(curve), 0.0 if self.curve is None else self.curve.price)
        self.curve = curve
        self._draw()
        first = curve.gaps[0]
        scouted = 1 - curve.running_at(first * LEAST_JITTER) > _SCOUTED_SHARE
        self._scouted_below = below = first * _SCOUTED_UP_TO if scouted else 0.0
        self._scouted_early = min(below / (LEAST_JITTER + JITTER), curve.age_at(1 - _SCOUTED_FROM))

    def _seconds(self, curve: Curve) -> float:
        """The mean lag that is wanted."""
        return self._lag.value * curve.mean if self._lag.is_share else self._lag.value

    def _draw(self) -> None:
        """The gaps as straight lines, one for each bin."""
        if self.curve is None:
            return
        gaps = [gap / self._divisor for gap in self.curve.gaps]
        slopes = [(after - gap) / width for gap, after, width in zip(gaps, gaps[1:], WIDTHS, strict=False)]
        self._lines = [(gap - slope * edge, slope) for gap, slope, edge in zip(gaps, slopes, EDGES, strict=False)]


class Pacing:
    """The classes of a batch. What was learned before it began stands in a table of its own, which all of them borrow."""

    def __init__(self, lag: Lag, shortest: float, longest: float) -> None:
        self._bounds = lag, shortest, longest
        self._classes: dict[Hashable, ClassPacing] = {}
        self._before = LifeTable()
        self._in_turn: list[ClassPacing] = []
        self._at_the_end = False

    def of(self, kind: Hashable) -> ClassPacing:
        """The class of the jobs of this kind: of one endpoint and model."""
        found = self._classes.get(kind)
        if found is None:
            found = self._classes[kind] = ClassPacing(*self._bounds)
            found.hurry(at_the_end=self._at_the_end)
            found.refresh(self._all)
        return found

    def learned_before(self, durations: Iterable[float]) -> None:
        """How long jobs of the batch took in earlier runs, or must be expected to take."""
        for seconds in durations:
            self._before.add_end(0.0, seconds, seconds)
        self._before.place(None)

    def refresh(self) -> tuple[float, ClassPacing | None]:
        """Learn, one class at a time: seconds to the next call, and the class whose waiting jobs are to be planned again."""
        if not self._in_turn:
            self._in_turn = list(self._classes.values())
        if not self._in_turn:
            return REFRESH, None
        one = self._in_turn.pop()
        again = one.refresh(self._all)
        return max(REFRESH / len(self._classes), _SHORTEST_REFRESH), one if again else None

    def hurry(self, *, at_the_end: bool) -> list[ClassPacing]:
        """At the end of a batch gaps are shorter; the classes whose waiting jobs are to be planned again."""
        self._at_the_end = at_the_end
        return [one for one in self._classes.values() if one.hurry(at_the_end=at_the_end)]

    def known(self) -> tuple[Curve, int] | None:
        """The curve of all jobs of the batch, and how many ends it was learned from; None while it is not known."""
        classes = list(self._classes.values())
        curve = classes[0].curve if len(classes) == 1 else self._all()
        ends = self._before.count + sum(one.table.count for one in classes)
        return None if curve is None else (curve, ends)

    def _all(self) -> Curve | None:
        """The curve of all classes together; None while it is not known."""
        tables = [self._before, *(one.table for one in self._classes.values())]
        tables = [table for table in tables if table.count]
        if sum(table.count for table in tables) < KNOWN_ENDS:
            return None
        curve, _ = curve_of(tables)
        return curve if curve.known_share >= KNOWN_SHARE else None
