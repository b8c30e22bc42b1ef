"""How long jobs take at most, where that is known: by the curve of their class, or by that of all."""

from __future__ import annotations

from batchrun.core.engine.poll_times import PollTimes
from batchrun.core.jobs.job import Job
from batchrun.core.pacing.curve import Curve
from batchrun.core.pacing.durations import Durations
from batchrun.core.pacing.outlook import KNOWN_SHARE, UNUSUAL


class KnownDurations:
    """What the curves say at one moment; `all_jobs` is None where nothing is known."""

    def __init__(self, times: PollTimes) -> None:
        known = times.pacing.known()
        self.ends = 0
        self.all_jobs: Durations | None = None
        self._durations: dict[int, tuple[Curve, Durations]] = {}
        self._limits: dict[int, float] = {}
        if known is not None and known[0].known_share >= KNOWN_SHARE:
            curve, self.ends = known
            self.all_jobs = Durations(curve, self.ends)
            self._durations[id(curve)] = curve, self.all_jobs

    def of(self, job: Job) -> Durations | None:
        """The durations of the job's class."""
        curve = None if job.pace is None else job.pace.curve
        if self.all_jobs is None or job.pace is None or curve is None or curve.known_share < KNOWN_SHARE:
            return self.all_jobs
        found = self._durations.get(id(curve))
        if found is None:
            found = self._durations[id(curve)] = curve, Durations(curve, job.pace.table.count)
        return found[1]

    def longest_usual(self, job: Job) -> float | None:
        """The age beyond which a job of its class runs unusually long; None where that is unknown."""
        durations = self.of(job)
        if durations is None:
            return None
        limit = self._limits.get(id(durations))
        if limit is None:
            limit = self._limits[id(durations)] = durations.age_at(1 / (UNUSUAL * max(1, self.ends)))
        return limit
