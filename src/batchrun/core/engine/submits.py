"""The lane of submits: from a row that waits for its turn to a job with an id on the disk."""

from __future__ import annotations

from collections import deque

from batchrun.core.engine.artifacts import Endings
from batchrun.core.engine.polls import Polls
from batchrun.core.engine.retries import Retries
from batchrun.core.jobs.job import Job
from batchrun.core.jobs.jobs import Jobs
from batchrun.core.jobs.lifecycle import Phase, Step
from batchrun.core.jobs.messages import Submit, SubmitAccepted, SubmitFailed, SubmitRefused
from batchrun.core.jobs.record_of import cancelled, ended_by_us, rejected
from batchrun.core.journal import entries as ledger
from batchrun.core.journal.entries import Cleared, Intent, Submitted
from batchrun.core.limits.gate import Gate
from batchrun.core.records.record import Response
from batchrun.core.responses.outcome import Running
from batchrun.core.responses.verdict import Refused
from batchrun.core.taxonomy.states import State


class Submits:
    """Rows that wait for their turn, first come first served, and the POSTs in flight."""

    def __init__(self, desk: Jobs, endings: Endings, gate: Gate, attempts: Retries, watch: Polls) -> None:
        self._desk = desk
        self._endings = endings
        self._gate = gate
        self._attempts = attempts
        self._watch = watch
        self._queue: deque[Job] = deque()
        # Refused for good before anything was accepted: perhaps the fault of the run and not of the row.
        self._held: list[tuple[Job, Refused]] = []
        self.refusals = self.answered = 0

    # --- asked ---

    def waiting(self) -> int:
        """Rows in memory that wait for a turn."""
        return len(self._queue)

    def at_rest(self) -> bool:
        """Whether nothing is on its way: no POST, no intent, nothing unsafe."""
        return self._gate.exposed == 0

    def next_time(self) -> float | None:
        """When to be called again without an event."""
        times = [self._attempts.next_due()]
        if self._queue:
            times.append(self._gate.opens_at(self._desk.open_jobs))
        known = [time for time in times if time is not None]
        return min(known) if known else None

    # --- told ---

    def enter(self, job: Job) -> None:
        self._queue.append(job)

    def advance(self) -> None:
        """Let go whatever may go now."""
        desk, gate, now = self._desk, self._gate, self._desk.now
        while (due := self._attempts.take(now)) is not None:
            if due.phase is Phase.WAITING:
                self._queue.append(due)
        while self._queue:
            opens = gate.opens_at(desk.open_jobs)
            if opens is None or opens > now:
                return
            job = self._queue.popleft()
            if job.phase is not Phase.WAITING:  # cancelled while it waited
                continue
            gate.took(now, job.about.tokens)
            desk.move(job, Step.TURN_TAKEN)
            entry = Intent(job.key, job.attempt, job.row_sha256, desk.wall)
            desk.append(entry, job, self._intent_synced)

    def _intent_synced(self, job: Job) -> None:
        gate = self._gate
        if job.phase is not Phase.INTENDING:  # cancelled meanwhile
            return
        if gate.halted is not None or gate.closed or gate.paused_until > self._desk.now:
            gate.withdrew(self._desk.now, job.about.tokens)
            self._desk.move(job, Step.WITHDRAWN)
            self._clear(job)
            self._queue.appendleft(job)
            return
        self._desk.move(job, Step.INTENT_SYNCED)
        self._desk.instruct(Submit(job, job.attempt))

    def cancel_intending(self, job: Job) -> None:
        """The cancel of a row whose intent is written and whose POST has not begun."""
        assert job.reason is not None
        self._gate.withdrew(self._desk.now, job.about.tokens)
        self._clear(job)
        self._endings.end(job, cancelled(job.reason, None, sent=False), None)

    def accepted(self, event: SubmitAccepted) -> None:
        job, accepted, desk = event.job, event.accepted, self._desk
        if event.warnings:
            job.warn(*event.warnings)
        self.answered += 1
        self._gate.accepted(desk.now)
        desk.accepted += 1
        self._release_held()
        job_id, look = accepted.job_id, accepted.outcome
        if isinstance(look, Running):
            assert job_id is not None, "a verdict names every job that goes on"
            if job_id in desk.watched:
                told = f"the service gave the id {job_id} to {desk.watched[job_id].key!r} and to {job.key!r}"
                self._end_unconfirmed(job, "duplicate_job_id", told)
                return
            desk.move(job, Step.ACCEPTED)
            desk.identify(job, job_id, desk.wall)
            job.row_sha256 = ""
            self._watch.note(job, look)
            entry = Submitted(job.key, job.attempt, job_id, job.submitted_at or 0.0)
            desk.append(entry, job, self._id_synced)
            return
        job.job_id, job.submitted_at = job_id, desk.wall  # for the record; there is nothing to watch
        if job_id is not None and accepted.retrievable:
            desk.append(Submitted(job.key, job.attempt, job_id, desk.wall), job)
        response = Response(accepted.http_status, accepted.request_id, accepted.body)
        self._attempts.conclude(job, look, response, then=self._safe)

    def _id_synced(self, job: Job) -> None:
        self._gate.safe()
        self._watch.begin(job)

    def refused(self, event: SubmitRefused) -> None:
        job, refused, gate = event.job, event.refused, self._gate
        self.refusals += 1
        self.answered += 1
        gate.refused(self._desk.now, refused, job.about.tokens)
        self._clear(job)
        if job.reason is not None:
            self._endings.end(job, cancelled(job.reason, None, sent=False), None)
        elif refused.again or refused.rule.halts:
            self._desk.move(job, Step.REFUSED)
            self._queue.appendleft(job)
        elif gate.known or self._desk.settings.keep_going:
            self._end_refused(job, refused)
        else:
            self._desk.move(job, Step.REFUSED)
            self._held.append((job, refused))

    def failed(self, event: SubmitFailed) -> None:
        self.answered += 1
        self._gate.lost(self._desk.now, event.ambiguous.problem.message)
        problem = event.ambiguous.problem
        self._end_unconfirmed(event.job, problem.code or "answer_lost", problem.message)

    def input_is_over(self) -> None:
        """Nothing is to come that could show whose fault the first refusals were."""
        if self._gate.halted is None and not self._queue and self._gate.in_flight == 0:
            self._release_held()

    def _end_refused(self, job: Job, refused: Refused) -> None:
        end = rejected(refused.problem, refused.rule.state, refused.rule.billing_reason)
        self._endings.end(job, end, None)

    def _end_unconfirmed(self, job: Job, word: str, message: str) -> None:
        self._desk.append(ledger.Unconfirmed(job.key, job.attempt, self._desk.wall), job, self._safe)
        job.submitted_at = self._desk.wall
        if job.reason is not None:
            job.warn("submit_unanswered")
            self._endings.end(job, cancelled(job.reason, None, sent=True), None)
        else:
            self._endings.end(job, ended_by_us(State.UNCONFIRMED, word, message), None)

    def _release_held(self) -> None:
        held, self._held = self._held, []
        for job, refused in held:
            if job.phase is Phase.WAITING:
                self._end_refused(job, refused)

    def _clear(self, job: Job) -> None:
        self._desk.append(Cleared(job.key, job.attempt, self._desk.wall), job, self._safe)

    def _safe(self, _: Job) -> None:
        self._gate.safe()
