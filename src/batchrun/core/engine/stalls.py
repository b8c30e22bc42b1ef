"""Jobs that have not ended for so long that they may never end, and the places that others are given in their stead.

A service that was killed may have lost its jobs and say `in_progress` of them until their deadline. They would hold all
places for a day, and nothing would say so. So, once jobs have not ended for `AFTER` seconds:

1. **They are told**, with their number, their age and the oldest one: in a note once they hold up others.
2. **A probe.** Where rows wait for nothing but a place, one row more is submitted. If nothing ends for as long again,
   another one is.
3. **Each job that ends and was submitted after the first probe frees one more place**, so that a service that works
   again gets its speed back step by step.
4. There are never more such places than stalled jobs, and never more than there were places: at most twice
   ``--concurrency`` jobs are in flight.
5. A service that refuses such a submit for its rate or its load takes one of these places back, and gets no further one
   for `AFTER` seconds: it may be one that counts jobs in flight.

Which jobs those are: where the curve of their class is known (core/pacing), those that a poll saw to run longer than it
explains. Where none is known yet, those in flight while none ended for `AFTER` seconds, until they do. No job counts that
is younger than `AFTER`, or than the window of hours that its row bought (`About.window`).

Nothing else is done to them: their deadline stays what it was. Declined: to cancel them (a slow service would lose what
is paid for), and to raise the number of places (a stalled job that ends after all takes its place along).
"""

from __future__ import annotations

from collections import Counter
from itertools import islice

from batchrun.core.engine.known_durations import KnownDurations
from batchrun.core.engine.poll_times import PollTimes
from batchrun.core.jobs.job import NEVER, Job
from batchrun.core.jobs.jobs import Jobs
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.jobs.messages import Note
from batchrun.core.limits.gate import Gate
from batchrun.core.limits.lane import Resource
from batchrun.core.status.snapshot import STALLED_AFTER, Stalled

AFTER = STALLED_AFTER
"""Seconds without an end after which jobs count as stalled, and between two probes."""
EVERY = 10.0
"""Seconds between two looks at the jobs in flight."""
LOOKED_AT, _USUAL = 5_000, 100
"""So many jobs are looked at, the oldest first, until so many of them are usual."""
_SEEN_FOR = 0.5
"""A poll must have seen a job run at this share of its age: no gap between polls is longer."""
_RUNS = frozenset({Phase.WATCHING, Phase.POLLING})


class Stalls:
    """Finds jobs that have not ended for long, and counts the places that others get meanwhile."""

    def __init__(self, jobs: Jobs, times: PollTimes, gate: Gate) -> None:
        self._jobs = jobs
        self._times = times
        self._gate = gate
        self._look_at = self._quiet_since = jobs.now
        self._none_ended_of = float("-inf")  # jobs submitted before this time of day; found while no curve was known
        self._of: Counter[Resource] = Counter()  # stalled jobs, of each endpoint and model
        self._count = 0
        self._oldest: Job | None = None
        self._youngest = 0.0  # when the last of them was submitted, as time of day
        self._probed_at = float("-inf")
        self._since = float("inf")  # the time of day of the first probe
        self._not_before = float("-inf")
        self.given_back = 0

    def given_back_of(self, resource: Resource) -> int:
        """Of the places that were given back, those that stalled jobs of `resource` hold."""
        return min(self.given_back, self._of[resource])

    def stalled(self) -> Stalled | None:
        """The jobs that have not ended for long."""
        jobs, oldest = self._jobs, self._oldest
        if oldest is None:
            return None
        least = max(0.0, jobs.wall - self._youngest)
        return Stalled(self._count, oldest.key, max(least, jobs.age(oldest)), least, self.given_back)

    # --- what happens ---

    def ended(self, job: Job) -> None:
        """The service ended a job, in whatever way."""
        self._quiet_since = now = self._jobs.now
        if self.given_back and now >= self._not_before and (job.submitted_at or 0.0) > self._since:
            self._give_back()

    def refused(self) -> None:
        """The service refused a submit that would have been one more than there are places."""
        self.given_back = max(0, self.given_back - 1)
        self._not_before = self._jobs.now + AFTER

    def suspended(self) -> None:
        """What ended since the last poll is yet to be seen."""
        self._quiet_since = self._jobs.now

    def advance(self, *, lacks_place: bool, polls_fail: bool) -> float:
        """Look at the jobs in flight once in a while; returns when to come back without an event.

        `lacks_place`: a row waits, and for nothing but a place.
        """
        jobs = self._jobs
        if not jobs.watched and self._oldest is None:
            self._look_at = max(self._look_at, jobs.now)
            return NEVER
        if jobs.now < self._look_at:
            return self._look_at
        self._look()
        if lacks_place and self._count and not polls_fail:
            self._probe()
        return self._look_at

    def _probe(self) -> None:
        now = self._jobs.now
        if now < self._not_before:
            return
        first = self.given_back == 0
        if first:
            self._since = self._jobs.wall
        elif now - max(self._quiet_since, self._probed_at) < AFTER:
            return
        self._probed_at = now
        self._give_back()
        if first:
            self._jobs.instruct(Note(str(self.stalled())))

    def _give_back(self) -> None:
        shared, most = self._gate.shared, self._jobs.settings.max_jobs
        if shared.concurrency is not None:
            most = min(most, shared.concurrency // max(1, shared.members))
        self.given_back = min(self.given_back + 1, self._count, most)

    # --- which jobs ---

    def _look(self) -> None:
        jobs = self._jobs
        self._of.clear()
        self._count, self._oldest, self._youngest = 0, None, 0.0
        known, usual, soonest = KnownDurations(self._times), 0, AFTER
        if known.all_jobs is None and jobs.now - self._quiet_since >= AFTER:
            self._none_ended_of = jobs.wall - AFTER
        for job in islice(jobs.watched.values(), LOOKED_AT):
            if job.phase not in _RUNS or job.cancel_reason is not None:
                continue
            submitted_at, age = job.submitted_at or jobs.wall, jobs.age(job)
            if self._is_stalled(job, age, known):
                self._count += 1
                self._of[job.about.resource] += 1
                self._youngest = max(self._youngest, submitted_at)
                if self._oldest is None or submitted_at < (self._oldest.submitted_at or 0.0):
                    self._oldest = job
                continue
            soonest = min(soonest, _least(job) - age)
            usual += 1
            if usual >= _USUAL:
                break
        self.given_back = min(self.given_back, self._count)
        later = 0.0 if self._count else max(0.0, soonest)  # and a moment more, to find those that went together
        self._look_at = jobs.now + later + EVERY

    def _is_stalled(self, job: Job, age: float, known: KnownDurations) -> bool:
        if age < _least(job) or job.seen_age < _SEEN_FOR * age:
            return False
        if (job.submitted_at or 0.0) <= self._none_ended_of:
            return True
        limit = known.longest_usual(job)
        return limit is not None and job.seen_age > limit


def _least(job: Job) -> float:
    """No younger job counts."""
    return max(AFTER, job.about.window)
