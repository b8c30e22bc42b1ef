"""How an attempt ends: in the row's record, or in a new attempt that waits for its time."""

from __future__ import annotations

from batchrun.core.engine.artifacts import Endings
from batchrun.core.jobs.job import Job
from batchrun.core.jobs.jobs import Jobs, Wait
from batchrun.core.jobs.lifecycle import Phase, Step
from batchrun.core.jobs.record_of import cancelled, keeps_payload
from batchrun.core.jobs.timers import Timers
from batchrun.core.journal import entries as ledger
from batchrun.core.limits.gate import Gate
from batchrun.core.records.record import Attempt, Response
from batchrun.core.responses.outcome import Ended
from batchrun.core.responses.retry_after import floor_with_jitter, full_jitter
from batchrun.core.taxonomy.halts import HaltReason
from batchrun.core.taxonomy.states import State

RETRIES_FREE, RETRIES_SHARE = 100, 4
"""The batch's own budget of new attempts: RETRIES_FREE + accepted jobs / RETRIES_SHARE."""


class Retries:
    """Decides what follows on a job that is over, and holds the rows between two attempts."""

    def __init__(self, desk: Jobs, endings: Endings, gate: Gate) -> None:
        self._desk = desk
        self._endings = endings
        self._gate = gate
        self._later = Timers()

    def conclude(self, job: Job, end: Ended, response: Response | None, then: Wait | None = None) -> None:
        """The service ended the job so; `then(job)` is called once that is on the disk."""
        desk, gate = self._desk, self._gate
        if end.usage.total_tokens is not None:
            gate.tokens.settle(desk.now, job.about.tokens, end.usage.total_tokens)
        if job.reason is not None:
            kept = response if keeps_payload(job.reason, end) else None
            self._endings.end(job, cancelled(job.reason, end, sent=True), kept, then)
            return
        history = job.history
        if history is not None and history.again is not None:
            self._looked_again(job, history.again, end, response, then)
            return
        if end.halts and end.problem is not None:
            reason = HaltReason(end.billing_reason or HaltReason.AUTH.value)
            gate.halt(reason, f"a job ended with {end.problem.code or end.state}: {end.problem.message}")
        if job.about.sendable and job.attempt - 1 < end.retry.allowance(desk.settings.retries):
            self._try_again(job, end, then)
        else:
            self._endings.end(job, end, response, then)

    def wait_until(self, job: Job, at: float) -> None:
        """Let a row between two attempts wait until `at`."""
        self._later.put(job, at)

    def take(self, now: float) -> Job | None:
        """The next row whose time for a new attempt has come."""
        while (job := self._later.take(now)) is not None:
            if job.phase is Phase.WAITING:
                return job
        return None

    def next_due(self) -> float | None:
        return self._later.next_due()

    def waiting(self) -> list[Job]:
        return self._later.waiting()

    def _looked_again(
        self, job: Job, had_ended: State, end: Ended, response: Response | None, then: Wait | None
    ) -> None:
        """A job whose record was dropped showed how it ended. A result is kept; a failure is worth the new attempt
        that the user asked for: at once, whatever its code, and not counted against any budget."""
        good = end.state is State.SUCCEEDED or (end.state is State.INCOMPLETE and had_ended is not State.INCOMPLETE)
        if good:
            self._endings.end(job, end, response, then)
        else:
            self._begin_again(job, end, 0.0, then)

    def _try_again(self, job: Job, end: Ended, then: Wait | None) -> None:
        desk, gate = self._desk, self._gate
        delay = full_jitter(job.attempt, desk.chance())
        if end.retry_after is not None:
            delay = max(delay, floor_with_jitter(end.retry_after, desk.chance()))
        code = None if end.problem is None else end.problem.code
        if code == "slow_down":
            gate.window.start_again(lower=True)
        self._begin_again(job, end, delay, then)
        desk.retries += 1
        budget = desk.settings.retry_budget
        if budget is None:
            budget = RETRIES_FREE + desk.accepted // RETRIES_SHARE
        if desk.retries > budget:
            gate.halt(HaltReason.RETRY_BUDGET, f"{desk.retries} new attempts, the last after {code or end.state}")

    def _begin_again(self, job: Job, end: Ended, delay: float, then: Wait | None) -> None:
        """Journal how the attempt ended; the row waits `delay` seconds for its next."""
        desk = self._desk
        code = None if end.problem is None else end.problem.code
        entry = ledger.AttemptEnded(
            key=job.key,
            attempt=job.attempt,
            job_id=job.job_id,
            state=end.state.value,
            code=code,
            billing=end.billing.value,
            retry_at=desk.wall + delay,
            at=desk.wall,
        )
        desk.append(entry, job, then)
        desk.move(job, Step.TO_BE_RETRIED)
        history = job.remember()
        history.attempts = (*history.attempts, Attempt(job.job_id, end.state, code, end.billing))
        history.again = None
        desk.begin_again(job)
        self._later.put(job, desk.now + delay)
