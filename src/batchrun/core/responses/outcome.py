"""What a job's body says: it is still running, or how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

from batchrun.core.responses.error import ErrorParts, Judged, Problem, Source, judge, problem_of, read_error
from batchrun.core.responses.payload import PayloadFindings, inspect
from batchrun.core.responses.retry_after import retry_after
from batchrun.core.responses.usage import NO_USAGE, Usage, read_usage
from batchrun.core.taxonomy.classify import reason_rule, rule
from batchrun.core.taxonomy.rules import STARTED_WORDS, Retry, State, StateGroup, WordField, group_of, normalise


class Billing(StrEnum):
    """Whether the last attempt was paid for, as far as is known."""

    BILLED = "billed"
    NOT_BILLED = "not_billed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Running:
    """The job is still running. `status` is the service's own word."""

    status: str | None
    started: bool
    warnings: tuple[str, ...] = ()
    poll_after: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The job is over. `retry` is what a retry is worth; `state` is final when there is none."""

    state: State
    status: str | None = None
    problem: Problem | None = None
    retry: Retry = Retry.NO
    retry_after: float | None = None
    halts: bool = False
    billing: Billing = Billing.UNKNOWN
    billing_reason: str | None = None
    warnings: tuple[str, ...] = ()
    model: str | None = None
    text: str | None = None
    usage: Usage = NO_USAGE


# Groups whose words decide the state, whatever the error next to them.
_FIXED_STATE: dict[StateGroup, State] = {
    StateGroup.CANCELLED: State.CANCELLED,
    StateGroup.EXPIRED: State.EXPIRED,
    StateGroup.PERSON: State.REQUIRES_ACTION,
}


def outcome_of(body: Mapping[str, Any]) -> Running | Ended:
    """What the body of a job says. With an unknown or missing status the job counts as running."""
    status = body.get("status")
    group = group_of(status)
    if group in (StateGroup.IN_PROGRESS, StateGroup.CANCELLING, StateGroup.UNKNOWN):
        return running(status if isinstance(status, str) else None)
    return ended(body, status, group)


@lru_cache(maxsize=256)
def running(status: str | None) -> Running:
    """A running job; one shared value for each status word."""
    known = group_of(status) is not StateGroup.UNKNOWN
    return Running(
        status=status if status is None else status[:100],
        started=normalise(status) in STARTED_WORDS,
        warnings=() if known else ("unknown_status",),
    )


def ended(body: Mapping[str, Any], status: str | None, group: StateGroup) -> Ended:
    """How a job ended whose status word is of `group`, or that has none (a synchronous response: success)."""
    findings = inspect(body)
    error = _error_of(body)
    if group is StateGroup.SUCCESS:
        if error is not None and not findings.has_output:
            found = _failed(body, error, "failed", StateGroup.FAILURE, findings)
        else:
            found = _succeeded(error, status, findings)
    elif group is StateGroup.PARTIAL:
        found = _incomplete(error, findings)
    else:
        found = _failed(body, error or findings.tool_error, normalise(status) or "failed", group, findings)
    usage, model = read_usage(body.get("usage")), body.get("model")
    billing = found.billing
    if billing is Billing.UNKNOWN and usage.paid is not None:
        billing = Billing.BILLED if usage.paid else Billing.NOT_BILLED
    return replace(
        found,
        status=status if status is None else status[:100],
        billing=billing,
        model=model[:200] if isinstance(model, str) else None,
        text=findings.text,
        usage=usage,
    )


def _succeeded(error: ErrorParts | None, status: str | None, findings: PayloadFindings) -> Ended:
    warnings = findings.warnings()
    if error is not None:
        judged = judge(error, Source.SERVICE)
        return Ended(
            State.SUCCEEDED,
            problem=judged.problem,
            billing=Billing.BILLED,
            warnings=(*warnings, "partial_output"),
        )
    if findings.stopped_by is None:
        return Ended(State.SUCCEEDED, billing=Billing.BILLED, warnings=warnings)
    if status is None:  # a chat response has no status, only a finish_reason
        return _incomplete(None, findings)
    return Ended(State.SUCCEEDED, billing=Billing.BILLED, warnings=(*warnings, "truncated"))


def _incomplete(error: ErrorParts | None, findings: PayloadFindings) -> Ended:
    if error is not None and (judged := judge(error, Source.SERVICE, status_word="incomplete")).rule.billing_reason:
        return _by_rule(judged, judged.rule.state, findings)
    found = reason_rule(findings.stopped_by)
    parts = error or ErrorParts(code=findings.stopped_by)
    problem = problem_of(found, parts, Source.SERVICE)
    warnings = () if findings.has_output else ("empty_output",)
    return Ended(State.INCOMPLETE, problem=problem, billing=Billing.BILLED, warnings=warnings)


def _failed(
    body: Mapping[str, Any],
    error: ErrorParts | None,
    word: str,
    group: StateGroup,
    findings: PayloadFindings,
) -> Ended:
    parts = error or ErrorParts()
    judged = judge(parts, Source.SERVICE, status_word=word)
    if not judged.rule.billing_reason:
        by_word = rule(WordField.STATUS, word) if group is not StateGroup.FAILURE else judged.rule
        if group in _FIXED_STATE or group in (StateGroup.INPUT, StateGroup.BILLING):
            judged = Judged(problem_of(by_word, parts, Source.SERVICE), by_word)
        elif judged.rule is by_word and word == "aborted" and _aborted_by_system(body):
            by_system = rule(WordField.TOOL, "aborted_by_system")
            judged = Judged(problem_of(by_system, parts, Source.SERVICE), by_system)
    return _by_rule(judged, _FIXED_STATE.get(group, judged.rule.state), findings)


def _by_rule(judged: Judged, state: State, findings: PayloadFindings) -> Ended:
    warnings = [f"tool_failed:{tool}" for tool in findings.failed_tools]
    if findings.has_output:
        warnings.append("partial_output")
    if judged.by_text:
        warnings.append("classified_by_text")
    found = judged.rule
    return Ended(
        state=state,
        problem=judged.problem,
        retry=found.retry if state is found.state else Retry.NO,
        retry_after=retry_after({}, 0.0, judged.problem.message) if found.retryable else None,
        halts=found.halts,
        billing_reason=found.billing_reason,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _error_of(body: Mapping[str, Any]) -> ErrorParts | None:
    """The error of a job's body; runs call it `last_error`, batches list several."""
    for name in ("error", "last_error"):
        value = body.get(name)
        if value and (parts := read_error({"error": value})) is not None:
            return parts
    errors = body.get("errors")
    listed = errors.get("data") if isinstance(errors, Mapping) else errors
    return read_error({"error": listed[0]}) if isinstance(listed, list) and listed else None


def _aborted_by_system(body: Mapping[str, Any]) -> bool:
    actors = (body.get(name) for name in ("aborted_by", "cancelled_by", "canceled_by", "initiated_by"))
    return any(isinstance(actor, str) and actor.lower() in ("system", "server", "service") for actor in actors)
