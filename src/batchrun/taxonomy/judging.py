"""The verdict on a response: which of the runner's readers it is for, and what that reads.

The readers are those of `batchrun.core.responses.verdict`, with the profile of the service. Nothing is judged here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike
from typing import Any, TypeAlias

from batchrun.core.records.record import RecordLine, Response, record_id
from batchrun.core.responses import verdict as readers
from batchrun.core.responses.error import Problem
from batchrun.core.responses.http import Answer, Failure
from batchrun.core.responses.outcome import Billing, Ended, Running, id_of, job_of
from batchrun.core.responses.verdict import Accepted, Ambiguous, JobReport, Refused, Trouble, Unclear
from batchrun.core.rows.parse import Endpoint
from batchrun.core.taxonomy.classify import rule
from batchrun.core.taxonomy.rules import DEFAULT_RETRIES, STATE_MEANING, Retry, State, WordField
from batchrun.core.text.escaped_copy import at_once
from batchrun.core.text.json_text import read_json
from batchrun.results.record import JobError, Record, error_of
from batchrun.services.profile import OPENAI, Profile
from batchrun.taxonomy.received import Received, received
from batchrun.taxonomy.verdict import Verdict

_Reading: TypeAlias = JobReport | Unclear | Accepted | Refused | Ambiguous
_Reader: TypeAlias = Callable[[Answer | Failure], _Reading]

_ADVICE: dict[Trouble, str] = {
    Trouble.TRANSIENT: "the poll failed and says nothing about the job: poll again",
    Trouble.NOT_FOUND: "the service does not know the job, or not yet: poll again for some minutes before you give it up",
    Trouble.FOREIGN: "the poll was refused, or not by the service: check address and id; it says nothing about the job",
}
"""After a poll that failed, where the advice of the rule would be for a submit."""


def judged_response(response: object, service: str | PathLike[str] | None) -> Verdict:
    """The verdict on `response` of `service`."""
    profile = OPENAI
    if service is not None:
        from batchrun.taxonomy.service import profile_of  # few name one, and it loads as much again

        profile = profile_of(service)
    got = received(response)
    answer = got.answer
    body = _json_of(answer)
    job_id = _job_id(body, got, profile)
    read = _reader(got, body, job_id, profile)
    reading = read(answer)
    if isinstance(answer, Answer):
        reading = at_once(readers.in_steps(answer, read, reading))
    return _verdict(reading, job_id if isinstance(job_id, str) else None)


def raise_for(response: object, service: str | PathLike[str] | None, *, as_openai: bool) -> None:
    """Raise the exception of `response`, if it has one."""
    error = judged_response(response, service).exception
    if error is None:
        return
    if not isinstance(response, BaseException):
        raise error.to_openai() if as_openai else error
    if not as_openai:
        raise error from response
    is_of_openai = any(kind.__module__.partition(".")[0] == "openai" for kind in type(response).__mro__)
    raise response if is_of_openai else error.to_openai()


# --- Which reader ---


def _json_of(answer: Answer | Failure) -> Mapping[str, Any]:
    """The body of a 2xx as far as it is a JSON object."""
    if isinstance(answer, Failure) or not 200 <= answer.status < 300:
        return {}
    read = read_json(answer.body)
    return read.value if read is not None and isinstance(read.value, dict) else {}


def _job_id(body: Mapping[str, Any], got: Received, profile: Profile) -> object:
    """The id of the job as the response names it, else the last part of the address that was polled."""
    last = got.path.rpartition("/")[2]
    default = last if got.method == "GET" and readers.is_safe_id(last) else None
    return id_of(job_of(body) if profile.field_map is None else profile.field_map(body)[0], default)


def _reader(got: Received, body: Mapping[str, Any], job_id: Any, profile: Profile) -> _Reader:
    """The reader for the response: of a submit or of a cancel where its request was one, or its body shows it; else of
    a poll."""
    wall = time.time()
    if _is_cancel(got, profile):
        return lambda answer: readers.read_cancel(answer, wall, job_id, profile.field_map)
    endpoint = _endpoint(got, body, profile)
    if endpoint is None:
        return lambda answer: readers.read_poll(answer, wall, job_id, profile.field_map)
    return lambda answer: readers.read_submit(
        answer,
        wall,
        background=endpoint.background,
        queues=endpoint.queues,
        result=endpoint.result,
        overrides=profile.overrides,
        field_map=profile.field_map,
    )


def _is_cancel(got: Received, profile: Profile) -> bool:
    if got.method == "POST":
        after = "" if profile.cancel is None else profile.cancel.after
        return bool(after) and got.path.endswith(after)
    return got.method in ("PUT", "DELETE")


def _endpoint(got: Received, body: Mapping[str, Any], profile: Profile) -> Endpoint | None:
    """The endpoint to which the request was POSTed, or which gives a result of this form; None for a poll."""
    if got.method == "POST":
        for one in profile.endpoints:
            if got.path.rstrip("/").endswith(one.path):
                return one
    form = None if profile.field_map is not None else _form_of(body)
    for one in profile.endpoints:
        if form is not None and one.result == form:
            return one
    return profile.endpoints[0] if got.method == "POST" or profile.poll is None else None


def _form_of(body: Mapping[str, Any]) -> str | None:
    """The form of a result that has no status, as endpoints have it that respond with the result itself."""
    if body.get("status") or body.get("state"):
        return None
    if isinstance(body.get("choices"), list):
        return "choices"
    data = body.get("data")
    if not isinstance(data, list):
        return None
    return "embeddings" if any(isinstance(one, dict) and "embedding" in one for one in data) else "images"


# --- What was read ---


def _verdict(reading: _Reading, job_id: str | None) -> Verdict:
    match reading:
        case JobReport() | Accepted():
            if isinstance(reading, Accepted):
                job_id = reading.job_id
            response = Response(reading.http_status, reading.request_id, reading.body)
            if isinstance(reading.outcome, Running):
                return _of_running(reading.outcome, job_id, response)
            return _of_end(reading.outcome, job_id, response)
        case Refused():
            found = reading.rule
            retry = Retry.NO if not reading.again else found.retry if found.retryable else Retry.YES
            end = Ended(
                found.state,
                problem=reading.problem,
                retry=retry,
                retry_after=reading.retry_after,
                halts=found.halts,
                billing=Billing.NOT_BILLED,
                billing_reason=found.billing_reason,
                rule=found,
            )
            return _of_end(end, None, None)
        case Ambiguous():
            stated = rule(WordField.TOOL, reading.problem.code or "answer_lost")
            halts = reading.rule is not None and reading.rule.halts
            end = Ended(State.UNCONFIRMED, problem=reading.problem, halts=halts, rule=stated)
            return _of_end(end, None, None, running=None)
        case Unclear():
            return _of_failed_poll(reading, job_id)


def _of_running(outcome: Running, job_id: str | None, response: Response) -> Verdict:
    end = outcome.unclear
    if end is not None:  # an error without a status, statuses that disagree: further polls may show what it is
        shown = _of_end(replace(end, problem=_not_retryable(end.problem)), job_id, response, running=None)
        advice = f"the response does not show whether the job is over: poll again; {shown.advice}"
        return replace(shown, state=None, advice=advice, warnings=(*outcome.warnings, *end.warnings))
    return Verdict(
        state=None,
        running=True,
        error=None,
        retryable=False,
        retries=0,
        halts=False,
        billing=Billing.UNKNOWN,
        billing_reason=None,
        advice="the job is still running: poll it again",
        exception=None,
        status=outcome.status,
        job_id=job_id,
        retry_after=outcome.poll_after,
        warnings=outcome.warnings,
    )


def _of_failed_poll(unclear: Unclear, job_id: str | None) -> Verdict:
    """A poll that failed is not a job that failed: no retry is worth its price."""
    found = unclear.rule
    assert found is not None
    problem = _not_retryable(unclear.problem)
    end = Ended(State.UNCONFIRMED, problem=problem, halts=found.halts, retry_after=unclear.retry_after, rule=found)
    advice = _ADVICE.get(unclear.trouble, f"{found.advice}; the poll says nothing about the job")
    return replace(_of_end(end, job_id, None, running=None), state=None, advice=advice)


def _not_retryable(problem: Problem | None) -> Problem | None:
    return None if problem is None else replace(problem, retryable=False)


def _of_end(end: Ended, job_id: str | None, response: Response | None, *, running: bool | None = False) -> Verdict:
    return Verdict(
        state=end.state,
        running=running,
        error=end.problem,
        retryable=end.retry is not Retry.NO,
        retries=end.retry.allowance(DEFAULT_RETRIES),
        halts=end.halts,
        billing=end.billing,
        billing_reason=end.billing_reason,
        advice=STATE_MEANING[end.state] if end.rule is None else end.rule.advice,
        exception=_exception(end, job_id, response),
        status=end.status,
        job_id=job_id,
        retry_after=end.retry_after,
        warnings=end.warnings,
    )


def _exception(end: Ended, job_id: str | None, response: Response | None) -> JobError | None:
    """The exception of a job that ended so, with the record that it would have."""
    line = RecordLine(
        id=record_id("", job_id or ""),
        custom_id=job_id or "",
        job_id=job_id,
        state=end.state,
        status=end.status,
        model=end.model,
        billing=end.billing,
        billing_reason=end.billing_reason,
        error=end.problem,
        output_text=end.text,
        response=response,
        warnings=end.warnings,
        usage=end.usage,
        tool_errors=end.tool_errors,
    )
    return error_of(Record(line.to_json()))
