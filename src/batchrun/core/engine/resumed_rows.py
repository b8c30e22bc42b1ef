"""How a row is taken up that an earlier run left: where its trail in the journal ends."""

from __future__ import annotations

from batchrun.core.engine.artifacts import Endings
from batchrun.core.engine.cancels import Cancels
from batchrun.core.engine.polls import Polls
from batchrun.core.engine.retries import Retries
from batchrun.core.engine.submits import Submits
from batchrun.core.jobs.job import CancelReason, Job, Row
from batchrun.core.jobs.jobs import Jobs
from batchrun.core.jobs.record_of import cancelled, ended_by_us
from batchrun.core.journal.entries import AttemptEnded, Cancelling
from batchrun.core.journal.fold import JournaledRow
from batchrun.core.records.record import Attempt
from batchrun.core.responses.outcome import Billing
from batchrun.core.taxonomy.states import State


class ResumedRows:
    """Puts each row into the lane where it goes on. What may have been sent is never sent again unasked.

    The time of day may have been set back between the runs: a job is then of age 0, not younger, and a delay
    no longer than it was.
    """

    def __init__(
        self, desk: Jobs, endings: Endings, submits: Submits, watch: Polls, cancels: Cancels, attempts: Retries
    ) -> None:
        self._desk = desk
        self._endings = endings
        self._submits = submits
        self._watch = watch
        self._cancels = cancels
        self._attempts = attempts

    def take(self, row: Row, trail: JournaledRow, *, ends: bool = False) -> None:
        """Go on with a row where its trail ends.

        Where another process wishes that it `ends`, it is taken up as one that was to end already: its wish is on the
        disk, and is heard behind the entry that is written here.
        """
        desk = self._desk
        job = desk.open(row)
        job.attempt = trail.attempt
        if trail.ended:
            job.remember().attempts = tuple(
                Attempt(end.job_id, State(end.state), end.code, Billing(end.billing)) for end in trail.ended
            )
        reason = None if trail.cancel is None else CancelReason(trail.cancel)
        if reason is None and ends:
            reason = CancelReason.USER
            desk.note(Cancelling(row.key, trail.attempt, reason.value, desk.wall))
        if reason is not None:
            self._cancels.recover(job, reason)
        if trail.job_id is not None and trail.job_id not in desk.watched:
            desk.identify(job, trail.job_id, min(trail.submitted_at, desk.wall))
            job.row_sha256 = ""  # as after its acceptance
            if trail.again is not None:
                history = job.remember()
                history.again, history.again_since = State(trail.again), desk.wall
            if reason is not None:
                self._cancels.begin(job)
            else:
                self._watch.recover(job)
        elif reason is None and trail.marker is not None and trail.recorded_as != State.UNCONFIRMED:
            # It was finished; its record is gone, and there is no id to fetch it by. It is not sent again.
            told = "its record is gone from the output, and it has no job id to fetch it by"
            self._endings.end(job, ended_by_us(State.EXPIRED, "job_not_found", told), None)
        elif trail.open_intent or trail.unconfirmed or trail.job_id is not None:
            self._unconfirmed(job, reason)
        elif reason is not None:
            self._endings.end(job, cancelled(reason, None, sent=False), None)
        elif trail.ended and not row.about.sendable:
            self._look_again(job, trail.ended[-1])
        elif trail.retry_at is not None:
            delay = min(trail.retry_at - desk.wall, trail.retry_at - trail.ended[-1].at)
            self._attempts.wait_until(job, desk.now + max(0.0, delay))
        else:
            self._submits.enter(job)

    def _look_again(self, job: Job, last: AttemptEnded) -> None:
        """The row was to have a new attempt, and its body is gone: its last job's end becomes its record."""
        desk = self._desk
        if last.job_id is None or last.job_id in desk.watched:
            self._endings.end(
                job, ended_by_us(State.UNCONFIRMED, "answer_lost", "its answer was lost, and its body is gone"), None
            )
            return
        job.attempt = last.attempt
        job.remember().attempts = job.remember().attempts[:-1]
        desk.identify(job, last.job_id, min(last.at, desk.wall))
        self._watch.recover(job)

    def _unconfirmed(self, job: Job, reason: CancelReason | None) -> None:
        desk = self._desk
        if reason is not None:
            job.warn("submit_unanswered")
            self._endings.end(job, cancelled(reason, None, sent=True), None)
        elif desk.settings.resubmit_unconfirmed and job.about.sendable:
            entry = AttemptEnded(
                job.key, job.attempt, None, State.UNCONFIRMED.value, "answer_lost", "unknown", desk.wall, desk.wall
            )
            desk.append(entry, job)
            job.remember().attempts += (Attempt(None, State.UNCONFIRMED, "answer_lost", Billing.UNKNOWN),)
            job.attempt += 1
            self._submits.enter(job)
        else:
            told = "an earlier run ended between its submit and the answer"
            self._endings.end(job, ended_by_us(State.UNCONFIRMED, "answer_lost", told), None)
