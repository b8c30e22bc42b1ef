"""The lane of cancels. A cancel is a wish that services do not always grant; its record is certain all the same.

A cancel is latched first and journaled, sent once that is on the disk and the job's id is known, and
looked at once more after the service called the job over: many a job that was `cancelled` has turned into
`completed` minutes later. What comes after the record is written nowhere.
"""

from __future__ import annotations

from collections.abc import Callable

from batchrun.core.engine.artifacts import Endings
from batchrun.core.jobs.job import CancelReason, Job
from batchrun.core.jobs.jobs import Jobs
from batchrun.core.jobs.lifecycle import Phase, Step
from batchrun.core.jobs.messages import Cancel, CancelAnswered
from batchrun.core.jobs.record_of import cancelled, keeps_payload
from batchrun.core.jobs.timers import Timers
from batchrun.core.journal.entries import Cancelling
from batchrun.core.records.record import Response
from batchrun.core.responses.outcome import Ended
from batchrun.core.responses.verdict import JobReport


class Cancels:
    """Jobs that are to end. `settle_at(job, at)` puts a job's settle look into the agenda of looks."""

    def __init__(self, desk: Jobs, endings: Endings) -> None:
        self._desk = desk
        self._endings = endings
        self.settle_at: Callable[[Job, float], None] = _not_wired
        self.in_flight = 0

    def latch(self, job: Job, reason: CancelReason) -> None:
        """From here on the job ends as asked, whatever comes; journaled at once."""
        desk = self._desk
        history = job.remember()
        history.reason = reason
        history.latched_at = desk.now
        desk.latched += 1
        desk.append(Cancelling(job.key, job.attempt, reason.value, desk.wall), job, self._latch_synced)

    def _latch_synced(self, job: Job) -> None:
        history = job.remember()
        history.latch_synced = True
        if job.phase is Phase.CANCELLING and not history.cancel_sent:
            self._send(job)

    def begin(self, job: Job) -> None:
        """The job has an id that is on the disk: cancel it over there."""
        Timers.forget(job)  # no look is due until the cancel was answered
        self._desk.move(job, Step.CANCEL_DUE)
        if job.remember().latch_synced:
            self._send(job)

    def recover(self, job: Job, reason: CancelReason) -> None:
        """An earlier run latched this job; its entry is on the disk."""
        history = job.remember()
        history.reason, history.latch_synced, history.latched_at = reason, True, self._desk.now
        self._desk.latched += 1

    def _send(self, job: Job) -> None:
        job.remember().cancel_sent = True
        self.in_flight += 1
        self._desk.instruct(Cancel(job, job.attempt))

    def answered(self, event: CancelAnswered) -> None:
        """Whatever the answer says, the job is looked at again."""
        job, answer, desk = event.job, event.answer, self._desk
        self.in_flight -= 1
        final = answer.outcome if isinstance(answer, JobReport) and isinstance(answer.outcome, Ended) else None
        if final is not None:
            job.remember().final_at = desk.now
            job.remember().usage = final.usage
        desk.move(job, Step.CANCEL_ANSWERED)
        first_look = desk.settings.poll_min if final is None else desk.settings.cancel_settle
        self.settle_at(job, desk.now + first_look)

    def looked(self, job: Job, final: Ended | None, gap: float) -> float | None:
        """A look at a latched job: when to look again, or None where this was the last."""
        desk, history = self._desk, job.remember()
        if not history.cancel_sent:
            if final is None:
                self.begin(job)
            return None
        now = desk.now
        if final is None:
            patient_until = history.latched_at + desk.settings.cancel_patience
            return None if now >= patient_until else min(now + gap, patient_until)
        if history.final_at is None:
            history.final_at, history.usage = now, final.usage
        settled_at = history.final_at + desk.settings.cancel_settle
        return None if now >= settled_at else settled_at

    def conclude(self, job: Job, final: Ended | None, response: Response | None) -> None:
        """Write the record of a latched job: `final` is what its last look showed, if it is over."""
        assert job.reason is not None
        kept = final is not None and keeps_payload(job.reason, final)
        self._endings.end(job, cancelled(job.reason, final, sent=True), response if kept else None)


def _not_wired(job: Job, at: float) -> None:
    raise AssertionError(f"nobody looks at {job!r} at {at}")
