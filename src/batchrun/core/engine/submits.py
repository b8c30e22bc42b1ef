"""Submits: from a row that waits for its turn to a job with an id on the disk."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from batchrun.core.engine.endings import Endings, Retries
from batchrun.core.engine.polls import Polls
from batchrun.core.jobs.job import Job
from batchrun.core.jobs.jobs import Jobs, cancelled, rejected
from batchrun.core.jobs.lifecycle import Phase, Step
from batchrun.core.jobs.messages import KeepUnreadable, Submit, SubmitAccepted, SubmitFailed, SubmitRefused
from batchrun.core.journal.entries import Cleared, Intent, Submitted, Unconfirmed
from batchrun.core.limits.gate import Gate
from batchrun.core.records.record import Response
from batchrun.core.responses.error import Problem, our_problem
from batchrun.core.responses.outcome import Ended, Running
from batchrun.core.responses.verdict import Accepted, Refused
from batchrun.core.taxonomy.rules import HaltReason, Retry, State


class Submits:
    """Rows that wait for their turn, first come first served, and the POSTs in flight."""

    def __init__(self, jobs: Jobs, endings: Endings, gate: Gate, retries: Retries, polls: Polls) -> None:
        self._jobs = jobs
        self._endings = endings
        self._gate = gate
        self._retries = retries
        self._polls = polls
        self._queue: deque[Job] = deque()
        # Refused for good before anything was accepted: the run may be at fault, not the row.
        self._held: list[tuple[Job, Refused]] = []
        self.refusals = self.answered = 0

    def waiting(self) -> int:
        """Rows in memory that wait for a turn."""
        return len(self._queue)

    def enter(self, job: Job) -> None:
        self._queue.append(job)

    def advance(self) -> float:
        """Write the intents of the rows that may go now; returns when to come back without an event."""
        jobs, gate, now = self._jobs, self._gate, self._jobs.now
        while (due := self._retries.take(now)) is not None:
            self._queue.append(due)
        while self._queue:
            opens = gate.opens_at(jobs.open_jobs)
            if opens is None:
                break
            if opens > now:
                return min(opens, self._retries.next_due())
            job = self._queue.popleft()
            if job.phase is not Phase.WAITING:  # cancelled while it waited
                continue
            gate.took(now, job.about.tokens)
            jobs.move(job, Step.TURN_TAKEN)
            entry = Intent(job.key, job.attempt, job.row_sha256, jobs.wall)
            jobs.append(entry, job, self._intent_synced)
        return self._retries.next_due()

    def _intent_synced(self, job: Job) -> None:
        gate = self._gate
        if job.phase is not Phase.INTENDING:  # cancelled meanwhile
            return
        if gate.halted is not None or gate.closed or gate.paused_until > self._jobs.now:
            gate.withdrew(self._jobs.now, job.about.tokens)
            self._jobs.move(job, Step.WITHDRAWN)
            self._clear(job)
            self._queue.appendleft(job)
            return
        self._jobs.move(job, Step.INTENT_SYNCED)
        self._jobs.posted(job)
        self._jobs.instruct(Submit(job, job.attempt))

    def cancel_intending(self, job: Job) -> None:
        """End a cancelled row whose intent is written and whose POST has not begun."""
        assert job.cancel_reason is not None
        self._gate.withdrew(self._jobs.now, job.about.tokens)
        self._clear(job)
        self._endings.end(job, cancelled(job.cancel_reason, None, sent=False), None)

    def accepted(self, event: SubmitAccepted) -> None:
        job, accepted, jobs = event.job, event.accepted, self._jobs
        if event.warnings:
            job.warn(*event.warnings)
        self.answered += 1
        jobs.answered(job)
        names_a_job = accepted.retrievable or type(accepted.outcome) is Running
        if names_a_job and jobs.is_known(accepted.job_id) and self._is_anothers(job, accepted):
            return
        self._gate.accepted(jobs.now)
        jobs.count_accepted()
        self._end_held()
        job_id, seen = accepted.job_id, accepted.outcome
        if isinstance(seen, Running):
            assert job_id is not None, "a verdict names every job that runs"
            jobs.move(job, Step.ACCEPTED)
            jobs.identify(job, job_id, jobs.wall)
            job.seen(seen, jobs.wall)
            jobs.append(Submitted(job.key, job.attempt, job_id, jobs.wall), job, self._id_synced)
            return
        job.submitted(jobs.wall, job_id)  # for the record; there is nothing to poll
        if job_id is not None and accepted.retrievable:
            jobs.append(Submitted(job.key, job.attempt, job_id, jobs.wall), job)
            jobs.ended_at_once(job, job_id)
            if job.had(job_id):
                seen = replace(seen, retry=Retry.NO)
        response = Response(accepted.http_status, accepted.request_id, accepted.body)
        self._retries.conclude(job, seen, response, then=self._safe)

    def _is_anothers(self, job: Job, accepted: Accepted) -> bool:
        """Whether the row was answered with the job of another one, running or over: then it ends unconfirmed.

        An earlier attempt of the row itself may be named again. It is watched like any job, and not retried
        (`Retries.conclude`).
        """
        jobs, job_id = self._jobs, accepted.job_id
        if job_id is None or job.had(job_id):
            return False
        owner = jobs.job_of_another(job, job_id)
        if owner is None:
            if jobs.repeats_ids:
                jobs.share(job, job_id)
            return False
        message = f"the response to {job.key!r} has the id {job_id}, which is {owner}"
        self._gate.lost(jobs.now, message)
        self._end_unconfirmed(job, our_problem("duplicate_job_id", message, http_status=accepted.http_status))
        return True

    def _id_synced(self, job: Job) -> None:
        self._gate.safe()
        self._polls.begin(job)

    def refused(self, event: SubmitRefused) -> None:
        job, refused, gate = event.job, event.refused, self._gate
        self.refusals += 1
        self.answered += 1
        self._jobs.answered(job)
        job.refused(refused.problem)
        gate.refused(self._jobs.now, refused, job.about.tokens)
        self._clear(job)
        if job.cancel_reason is not None:
            self._endings.end(job, cancelled(job.cancel_reason, None, sent=False), None)
        elif refused.again or refused.rule.halts:
            self._jobs.move(job, Step.REFUSED)
            self._queue.appendleft(job)
        elif gate.known or self._jobs.settings.keep_going:
            self._end_refused(job, refused)
        else:
            self._jobs.move(job, Step.REFUSED)
            self._held.append((job, refused))

    def failed(self, event: SubmitFailed) -> None:
        self.answered += 1
        self._jobs.answered(event.job)
        self._gate.lost(self._jobs.now, event.ambiguous.problem.message)
        problem, rule = event.ambiguous.problem, event.ambiguous.rule
        if rule is not None and rule.halts:
            self._gate.halt(HaltReason(rule.billing_reason or HaltReason.AUTH.value), problem.message)
        shape = event.ambiguous.shape
        if shape is not None and not (self._gate.proven or self._jobs.settings.keep_going):
            message = f"row {event.job.key!r} ends as unconfirmed: {problem.message}"
            self._gate.halt(HaltReason.UNKNOWN_RESPONSE, message, shape)
        if event.ambiguous.unreadable and event.job.cancel_reason is None:
            self._jobs.instruct(KeepUnreadable(event.job.key, event.ambiguous.unreadable))
        self._end_unconfirmed(event.job, problem)

    def input_is_over(self) -> None:
        """No row is left that could show who was at fault for the first refusals."""
        if self._gate.halted is None and not self._queue and self._gate.in_flight == 0:
            self._end_held()

    def _end_refused(self, job: Job, refused: Refused) -> None:
        end = rejected(refused.problem, refused.rule.state, refused.rule.billing_reason)
        self._endings.end(job, end, None)

    def _end_unconfirmed(self, job: Job, problem: Problem) -> None:
        self._jobs.append(Unconfirmed(job.key, job.attempt, self._jobs.wall), job, self._safe)
        job.submitted(self._jobs.wall)
        if job.cancel_reason is not None:
            job.warn("submit_unanswered")
            self._endings.end(job, cancelled(job.cancel_reason, None, sent=True), None)
        else:
            self._endings.end(job, Ended(State.UNCONFIRMED, problem=problem), None)

    def _end_held(self) -> None:
        held, self._held = self._held, []
        for job, refused in held:
            if job.phase is Phase.WAITING:
                self._end_refused(job, refused)

    def _clear(self, job: Job) -> None:
        """Journal that nothing was sent."""
        self._jobs.append(Cleared(job.key, job.attempt, self._jobs.wall), job, self._safe)

    def _safe(self, _: Job) -> None:
        self._gate.safe()
