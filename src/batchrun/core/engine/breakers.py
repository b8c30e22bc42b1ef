"""Which jobs go to see whether a service works again that fails its jobs, and what their ends say (core/limits/breaker)."""

from __future__ import annotations

from batchrun.core.jobs.job import Job
from batchrun.core.jobs.jobs import Jobs
from batchrun.core.jobs.lifecycle import OPEN_PHASES
from batchrun.core.jobs.messages import Note
from batchrun.core.limits.breaker import Failing
from batchrun.core.limits.gate import Gate
from batchrun.core.limits.lane import Lane
from batchrun.core.responses.outcome import Ended
from batchrun.core.text.readable import visible


class Breakers:
    """Tells the breaker of each lane what was sent and how it ended. A job counts as sent for as long as it is in flight."""

    def __init__(self, jobs: Jobs, gate: Gate) -> None:
        self._jobs = jobs
        self._gate = gate
        self._probes: dict[Job, Lane] = {}

    def sent(self, job: Job, lane: Lane) -> None:
        """A row goes."""
        if lane.breaker.sent():
            self._probes[job] = lane

    def holds(self, job: Job, lane: Lane) -> bool:
        """Whether the row was to go and may no longer: the breaker opened before it was sent."""
        return lane.breaker.is_open and job not in self._probes

    def sweep(self) -> None:
        """Forget those that are in flight no longer, however they ended."""
        for job in [job for job in self._probes if job.phase not in OPEN_PHASES]:
            self._probes.pop(job).job_gone()

    def ended(self, job: Job, end: Ended) -> bool:
        """The service ended the job so. Whether its retry is one that no budget is charged for.

        That is the first retry of a row that was in flight when the breaker opened.
        """
        jobs = self._jobs
        lane = self._gate.lane(job.about.resource, jobs.now)
        problem = end.problem
        why = end.state.value if problem is None else problem.code or end.state.value
        probe = job in self._probes
        news = lane.job_ended(jobs.now, end.state, visible(why, 60), first=not job.attempts, probe=probe)
        if news is not None:
            jobs.instruct(Note(news))
        return lane.breaker.is_open and not probe and not job.attempts

    def failing(self) -> tuple[Failing, ...]:
        """What fails now."""
        found = (lane.breaker.failing(self._jobs.now) for lane in self._gate.lanes.values())
        return tuple(one for one in found if one is not None)
