"""What follows on an attempt that ended: the row's record, or a retry that waits for its time."""

from __future__ import annotations

from batchrun.core.engine.artifacts import Endings
from batchrun.core.jobs.jobs import Job, Jobs, Wait
from batchrun.core.jobs.lifecycle import Phase, Step
from batchrun.core.jobs.record_of import cancelled, keeps_payload
from batchrun.core.jobs.timers import Timers
from batchrun.core.journal.entries import AttemptEnded
from batchrun.core.limits.gate import Gate
from batchrun.core.records.record import Attempt, Response
from batchrun.core.responses.outcome import Ended
from batchrun.core.responses.retry_after import floor_with_jitter, full_jitter
from batchrun.core.taxonomy.rules import HaltReason, State

RETRIES_FREE, RETRIES_SHARE = 100, 4
"""The batch's own budget of retries: RETRIES_FREE + accepted jobs / RETRIES_SHARE."""


class Retries:
    """Decides whether an ended job is retried, and holds the rows that wait for their retry."""

    def __init__(self, jobs: Jobs, endings: Endings, gate: Gate) -> None:
        self._jobs = jobs
        self._endings = endings
        self._gate = gate
        self._timers = Timers()

    def conclude(self, job: Job, end: Ended, response: Response | None, then: Wait | None = None) -> None:
        """The service ended the job so; `then(job)` is called once that is on the disk."""
        jobs, gate = self._jobs, self._gate
        if end.usage.total_tokens is not None:
            gate.tokens_used(jobs.now, job.about.tokens, end.usage.total_tokens)
        reason = job.cancel_reason
        if reason is not None:
            kept = response if keeps_payload(reason, end) else None
            self._endings.end(job, cancelled(reason, end, sent=True), kept, then)
            return
        history = job.history
        if history is not None and history.earlier_state is not None:
            self._conclude_reopened(job, history.earlier_state, end, response, then)
            return
        if end.halts and end.problem is not None:
            halt = HaltReason(end.billing_reason or HaltReason.AUTH.value)
            gate.halt(halt, f"a job ended with {end.problem.code or end.state}: {end.problem.message}")
        if job.about.sendable and job.attempt - 1 < end.retry.allowance(jobs.settings.retries):
            self._retry_within_budget(job, end, then)
        else:
            self._endings.end(job, end, response, then)

    def wait_until(self, job: Job, at: float) -> None:
        """Retry the row at `at`."""
        self._timers.put(job, at)

    def take(self, now: float) -> Job | None:
        """The next row whose time for a retry has come."""
        while (job := self._timers.take(now)) is not None:
            if job.phase is Phase.WAITING:
                return job
        return None

    def next_due(self) -> float | None:
        return self._timers.next_due()

    def _conclude_reopened(
        self, job: Job, earlier: State, end: Ended, response: Response | None, then: Wait | None
    ) -> None:
        """A job whose record was dropped was polled again. A result is kept; a failure is worth the retry that the user
        asked for: at once, whatever its code, and not counted against any budget."""
        if end.state is State.SUCCEEDED or (end.state is State.INCOMPLETE and earlier is not State.INCOMPLETE):
            self._endings.end(job, end, response, then)
        else:
            self._retry(job, end, 0.0, then)

    def _retry_within_budget(self, job: Job, end: Ended, then: Wait | None) -> None:
        jobs, gate = self._jobs, self._gate
        delay = full_jitter(job.attempt, jobs.chance())
        if end.retry_after is not None:
            delay = max(delay, floor_with_jitter(end.retry_after, jobs.chance()))
        code = None if end.problem is None else end.problem.code
        if code == "slow_down":
            gate.slow_down()
        self._retry(job, end, delay, then)
        jobs.count_retry()
        budget = jobs.settings.retry_budget
        if budget is None:
            budget = RETRIES_FREE + jobs.accepted // RETRIES_SHARE
        if jobs.retries > budget:
            gate.halt(HaltReason.RETRY_BUDGET, f"{jobs.retries} new attempts, the last after {code or end.state}")

    def _retry(self, job: Job, end: Ended, delay: float, then: Wait | None) -> None:
        """Journal how the attempt ended; the row is retried in `delay` seconds."""
        jobs = self._jobs
        code = None if end.problem is None else end.problem.code
        entry = AttemptEnded(
            key=job.key,
            attempt=job.attempt,
            job_id=job.job_id,
            state=end.state.value,
            code=code,
            billing=end.billing.value,
            retry_at=jobs.wall + delay,
            at=jobs.wall,
        )
        jobs.append(entry, job, then)
        jobs.move(job, Step.TO_BE_RETRIED)
        jobs.retry(job, Attempt(job.job_id, end.state, code, end.billing))
        self._timers.put(job, jobs.now + delay)
