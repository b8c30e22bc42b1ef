"""How a job's end becomes its record."""

from __future__ import annotations

from dataclasses import replace

from batchrun.core.jobs.jobs import CancelReason, Job
from batchrun.core.records.artifacts import Artifact
from batchrun.core.records.record import RecordLine, Response, moment, record_id, seconds_between
from batchrun.core.responses.error import Problem, our_problem
from batchrun.core.responses.outcome import NO_USAGE, Billing, Ended
from batchrun.core.taxonomy.rules import State

_GOOD = frozenset({State.SUCCEEDED, State.INCOMPLETE})


def record_of(
    job: Job, end: Ended, response: Response | None, run_id: str, wall: float, artifacts: tuple[Artifact, ...] = ()
) -> RecordLine:
    """The record of a job that ended so, at `wall` seconds since 1970."""
    history = job.history
    warnings = end.warnings
    usage = end.usage
    if history is not None:
        warnings = tuple(dict.fromkeys((*history.warnings, *end.warnings)))
        if usage is NO_USAGE:
            usage = history.usage
    status = end.status
    if status is None and job.last_seen is not None:
        status = job.last_seen.status
    return RecordLine(
        id=record_id(run_id, job.key),
        custom_id=job.key,
        job_id=job.job_id,
        state=end.state,
        status=status,
        model=end.model or job.about.model,
        retry_count=len(job.attempts),
        billing=end.billing,
        billing_reason=end.billing_reason,
        error=end.problem,
        output_text=end.text,
        response=response,
        artifacts=artifacts,
        warnings=warnings,
        usage=usage,
        polls=job.polls,
        attempts=job.attempts,
        submitted_at=moment(job.submitted_at),
        running_at=moment(job.running_at),
        finished_at=moment(wall),
        queued_s=seconds_between(job.submitted_at, job.running_at),
        running_s=seconds_between(job.running_at, wall),
        metadata=job.about.metadata or b"{}",
    )


def cancelled(reason: CancelReason, final: Ended | None, *, sent: bool) -> Ended:
    """The end of a cancelled job: `final` is how it ended on the service, if that is known.

    The user's cancel drops the payload of a job that completed nevertheless; its usage and a warning stay. A deadline
    does not drop a result: what is finished by then is kept.
    """
    if reason is CancelReason.DEADLINE:
        if final is not None and keeps_payload(reason, final):
            return _with_warning(final, "after_deadline")
        return ended_by_us(State.TIMEOUT, "deadline_exceeded", "the job was not done within its deadline", final)
    code = "cancelled_by_user" if reason is CancelReason.USER else "cancelled_by_interrupt"
    message = "cancelled before it was sent" if not sent else "cancelled; the service may have finished and billed it"
    end = ended_by_us(State.CANCELLED, code, message, final)
    if not sent:
        return Ended(end.state, problem=end.problem, billing=Billing.NOT_BILLED)
    late = final is not None and final.state in _GOOD
    return _with_warning(end, "late_completed") if late else end


def keeps_payload(reason: CancelReason | None, final: Ended) -> bool:
    """Whether the payload of `final` goes into the record of a job that was cancelled for `reason`."""
    return reason is None or (reason is CancelReason.DEADLINE and final.state in _GOOD)


def ended_by_us(state: State, code: str, message: str, final: Ended | None = None) -> Ended:
    """An end that we state; status, usage and billing are the service's where it gave them."""
    problem = our_problem(code, message)
    if final is None:
        return Ended(state, problem=problem)
    return Ended(
        state, status=final.status, problem=problem, billing=final.billing, usage=final.usage, model=final.model
    )


def rejected(problem: Problem, state: State = State.REJECTED, billing_reason: str | None = None) -> Ended:
    """The end of a row that was refused: by the check before the run, or by the service."""
    return Ended(state, problem=problem, billing=Billing.NOT_BILLED, billing_reason=billing_reason)


def _with_warning(end: Ended, warning: str) -> Ended:
    return replace(end, warnings=(*end.warnings, warning))
