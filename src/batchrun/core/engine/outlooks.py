"""What the jobs in flight tell of the time left, and which of them run unusually long. Asked for a few times a second.

A batch may have a million jobs in flight. They are looked at once a second, less often where there are many, and then
the oldest of them and a sample of the others: jobs stand in the order in which they were submitted, or nearly.
"""

from __future__ import annotations

from itertools import islice

from batchrun.core.engine.known_durations import KnownDurations
from batchrun.core.engine.poll_times import PollTimes
from batchrun.core.jobs.jobs import Jobs
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.pacing.life_table import bin_of
from batchrun.core.pacing.outlook import InFlight, Outlook
from batchrun.core.status.snapshot import MOST_UNUSUAL, Unusual

_EVERY, _JOBS_A_SECOND = 1.0, 50_000
_OLDEST, _OTHERS = 64, 128
_USUAL = 100  # oldest jobs that are usual before the others are taken to be
_RUNS = frozenset({Phase.WATCHING, Phase.POLLING})


class Outlooks:
    """Looks at the jobs in flight once in a while."""

    def __init__(self, jobs: Jobs, times: PollTimes) -> None:
        self._jobs = jobs
        self._times = times
        self._next_at = float("-inf")
        self.outlook: Outlook | None = None
        self.unusual: Unusual | None = None

    def refresh(self) -> None:
        """Look at the jobs again if it is time to."""
        jobs = self._jobs
        if jobs.now < self._next_at:
            return
        self._next_at = jobs.now + max(_EVERY, len(jobs.watched) / _JOBS_A_SECOND)
        self.outlook = self.unusual = None
        known = KnownDurations(self._times)
        if known.all_jobs is None:
            return
        self.outlook = Outlook(
            jobs.now,
            known.all_jobs,
            known.ends,
            self._times.lags.mean or 0.0,
            jobs.post_seconds,
            self._in_flight(known),
        )
        self.unusual = self._find_unusual(known)

    def _in_flight(self, known: KnownDurations) -> list[InFlight]:
        """The jobs in flight, those of about the same age as one."""
        watched = self._jobs.watched
        step = max(1, (len(watched) - _OLDEST) // _OTHERS)
        sample = [(1, job) for job in islice(watched.values(), _OLDEST)]
        sample += [(step, job) for job in islice(watched.values(), _OLDEST, None, step)]
        groups: dict[tuple[int, int, int], InFlight] = {}
        for count, job in sample:
            if job.phase not in _RUNS or job.cancel_reason is not None:
                continue
            age, seen, durations = max(0.0, self._jobs.age(job)), max(0.0, job.seen_age), known.of(job)
            assert durations is not None, "those of all jobs are known"
            group = bin_of(age), bin_of(seen), id(durations)
            others = groups.get(group) or InFlight(0, 0.0, 0.0, durations)
            of_all = count + others.jobs
            age += (others.age - age) * others.jobs / of_all
            seen += (others.seen - seen) * others.jobs / of_all
            groups[group] = InFlight(of_all, age, min(seen, age), durations)
        return list(groups.values())

    def _find_unusual(self, known: KnownDurations) -> Unusual | None:
        """The jobs that were seen to run at an age that is not to be expected."""
        count, oldest, usual = 0, None, 0
        for job in islice(self._jobs.watched.values(), MOST_UNUSUAL):
            if job.phase not in _RUNS or job.cancel_reason is not None:
                continue
            limit = known.longest_usual(job)
            if limit is not None and job.seen_age > limit:
                count += 1
                if oldest is None or (job.submitted_at or 0.0) < (oldest.submitted_at or 0.0):
                    oldest = job
            else:
                usual += 1
                if usual >= _USUAL:
                    break
        return None if oldest is None else Unusual(count, oldest.key, self._jobs.age(oldest))
