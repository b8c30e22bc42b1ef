"""What the response to a submit, a poll or a cancel means, or the lack of one.

Whatever a response contains, the result is one of these values and never an exception. `in_steps` ends what the
others begin, where a body takes too long to be read at once.

The question after a submit is *may the row be sent again?*

- ``Accepted``: there is a job, still running or already over.
- ``Refused``: provably nothing was created. 4xx (but for 408, 409, 425, 499), a redirect that was not
  followed, an overload that names itself, a request of which no byte was sent.
- ``Ambiguous``: everything else, a plain 500 included. Never sent again unless the user asks.

**A poll that fails is not a job that failed.** It can only be ``Unclear``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

import orjson

from batchrun.core.responses.error import (
    ErrorParts,
    Judged,
    Problem,
    Source,
    judge,
    our_problem,
    read_error,
    text_of_page,
)
from batchrun.core.responses.http import Answer, Cause, Failure
from batchrun.core.responses.outcome import (
    Ended,
    ResultForm,
    Running,
    ended,
    has_result,
    id_of,
    job_of,
    outcome_of,
    running,
)
from batchrun.core.responses.retry_after import RateHeaders, limits_shown, milliseconds, rate_headers, retry_after
from batchrun.core.responses.service_clock import ServiceClock, service_clock
from batchrun.core.responses.shape import UnknownShape, unknown_shape
from batchrun.core.taxonomy.classify import rule
from batchrun.core.taxonomy.rules import WORDS, Retry, Rule, State, StateGroup, WordField, group_of
from batchrun.core.text.escaped_copy import Steps
from batchrun.core.text.json_text import (
    MAX_LENIENT,
    NOT_READ,
    ParsedJson,
    read_refused_response,
    reading_in_steps,
    strict_json,
)

AT_ONCE = 16 << 10
"""Bytes of a body that is read at once although orjson refuses it: it takes some tenths of a millisecond."""
_MAX_ID = 1_024
_SAFE_ID = re.compile(r"[A-Za-z0-9_.:~=-]{1,1024}", re.ASCII)
_AMBIGUOUS_4XX = frozenset({408, 409, 425, 499})
_NAMED_OVERLOAD = frozenset(
    "server_is_overloaded server_overloaded overloaded overloaded_error slow_down service_unavailable".split()
)
_NOT_CARRIED_OUT = frozenset({501, 505})


@dataclass(frozen=True, slots=True)
class CodeOverrides:
    """Responses to a submit that a profile classifies itself, by error code or as ``http_500``."""

    nothing_created: frozenset[str] = frozenset()
    ambiguous: frozenset[str] = frozenset()


NO_OVERRIDES = CodeOverrides()

T = TypeVar("T")

# How a profile reads responses with other field names: from a JSON object to the same with the names and status words
# of the responses endpoint, and the service's own status word, for the record.
FieldReader = Callable[[Mapping[str, Any]], tuple[Mapping[str, Any], str | None]]


@dataclass(frozen=True, slots=True)
class Accepted:
    """There is a job. `outcome` is what the response already says of it, `body` its JSON on one line.

    A job that is not `retrievable` cannot be polled: it is a synchronous response.
    """

    job_id: str | None
    outcome: Running | Ended
    body: bytes
    http_status: int
    request_id: str | None
    retrievable: bool = True
    shown: RateHeaders | None = None  # what its headers say of the service's limits


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was created. With `again`, the same row may be sent later; else `rule` says how it ends.

    `unconnected`: there was no connection to send it over.
    """

    problem: Problem
    rule: Rule
    again: bool
    retry_after: float | None = None
    shown: RateHeaders | None = None
    unconnected: bool = False


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Whether a job was created is unknown."""

    problem: Problem
    rule: Rule | None = None  # why no further row will do better, where the service said so
    shape: UnknownShape | None = None  # of a JSON object that shows no job and no result
    unreadable: bytes = b""  # a 2xx body that could not be read, and may be a result

    @property
    def answered(self) -> bool:
        """Whether the service answered, and not something in front of it that cannot reach it."""
        return self.problem.http_status is not None and self.problem.http_status < 500


@dataclass(frozen=True, slots=True)
class JobReport:
    """The state of a job. `body` is its JSON on one line, for the record if it ended.

    `other_id` is the id that the response names, where that is not the job's: whether it is another row's is for those
    to say who know the batch. `clock` is there where the job ended, and where it was asked for.
    """

    outcome: Running | Ended
    body: bytes
    http_status: int
    request_id: str | None
    other_id: str | None = None
    clock: ServiceClock | None = None


class Trouble(StrEnum):
    """Why a poll did not show the job."""

    TRANSIENT = "transient"  # connection, timeout, 5xx, 408, 429, unreadable
    NOT_FOUND = "not found"  # 404, 410
    UNAUTHORISED = "unauthorised"  # 401, 402, 403
    FOREIGN = "foreign"  # a page, a redirect, another 4xx: perhaps not the service at all


@dataclass(frozen=True, slots=True)
class Unclear:
    """The poll did not show the job. `unreadable` keeps a 2xx body that could not be read.

    `is_final`: it would stop the event loop for too long to read, at each further poll too. Not `answered`: there was no
    response, or one of something in front of the service. `unconnected`: there was no connection to send the poll over.
    `rule` is the one of the taxonomy for what the response said.
    """

    trouble: Trouble
    problem: Problem
    retry_after: float | None = None
    unreadable: bytes = b""
    is_final: bool = False
    answered: bool = True
    unconnected: bool = False
    rule: Rule | None = None


def is_safe_id(value: object) -> bool:
    """Whether a job id may become a path segment and a file name; checked wherever one is read."""
    if not isinstance(value, str):
        return False
    if len(value) <= _MAX_ID and value.isascii() and value.isidentifier():  # a sixth of the expression's time
        return True
    return value not in (".", "..") and _SAFE_ID.fullmatch(value) is not None


def in_steps(answer: Answer, read: Callable[[Answer], T], verdict: T) -> Steps[T]:
    """What `read` makes of `answer`, whose `verdict` is that of its body as far as it can be read at once.

    A long body that orjson refuses is read in steps, between which others get their turn.
    """
    if isinstance(verdict, Accepted | JobReport) or not AT_ONCE < len(answer.body) <= MAX_LENIENT:
        return verdict
    yield
    reading = yield from reading_in_steps(answer.body)
    if reading is not None and reading.strict:
        return verdict
    yield
    return read(answer._replace(reading=reading))


def read_submit(
    answer: Answer | Failure,
    wall: float,
    *,
    background: bool = True,
    queues: bool = False,
    result: ResultForm | None = None,
    overrides: CodeOverrides = NO_OVERRIDES,
    field_map: FieldReader | None = None,
) -> Accepted | Refused | Ambiguous:
    """What the response to a POST means. Without `background` the response is the result, or, with `queues`, a job.

    `result` is the form by which a result without a status is known; without it, any object will do that has neither an
    error nor a status, but never in the background. `wall` is the time of day, for a Retry-After that is a date.
    """
    if isinstance(answer, Failure):
        if answer.sent:
            return Ambiguous(our_problem("answer_lost", answer.message))
        problem = our_problem("connection_failed", answer.message)
        return Refused(problem, rule(WordField.TOOL, "connection_failed"), again=True, unconnected=True)
    if 200 <= answer.status < 300:
        return _read_acceptance(answer, wall, field_map, overrides, background=background, queues=queues, result=result)
    judged = _judge_response(answer)
    names = {f"http_{answer.status}", judged.problem.code or ""}
    named = {judged.problem.code, judged.problem.type}
    created_nothing = (
        (300 <= answer.status < 500 and answer.status not in _AMBIGUOUS_4XX)
        or answer.status in _NOT_CARRIED_OUT
        or (answer.status in (503, 529) and not named.isdisjoint(_NAMED_OVERLOAD))
    )
    if (created_nothing or names & overrides.nothing_created) and not names & overrides.ambiguous:
        asked = answer.headers.get("x-should-retry")
        again = asked == "true" if asked in ("true", "false") else judged.rule.retryable
        delay = retry_after(answer.headers, wall, judged.problem.message)
        shown = rate_headers(answer.headers)
        return Refused(judged.problem, judged.rule, again and not judged.rule.halts, delay, shown)
    return _response_lost(answer, f"HTTP {answer.status}: {_words_of(judged.problem)}")


def read_poll(
    answer: Answer | Failure, wall: float, job_id: str, field_map: FieldReader | None = None, *, dated: bool = False
) -> JobReport | Unclear:
    """What the response to a poll of `job_id` means; with `dated` the report has the service's clock."""
    if isinstance(answer, Failure):
        if answer.cause is Cause.TOO_LARGE:
            problem = our_problem("result_too_large", answer.message)
            too_large = rule(WordField.TOOL, "result_too_large")
            return JobReport(Ended(State.FAILED, problem=problem, rule=too_large), b"", 0, None)
        problem = our_problem("connection_failed", answer.message)
        broken = rule(WordField.TOOL, "connection_failed")
        return Unclear(Trouble.TRANSIENT, problem, answered=False, unconnected=not answer.sent, rule=broken)
    if 200 <= answer.status < 300:
        if dated:
            return _read_job_in_full(answer, wall, job_id, field_map, _reading_of(answer), dated=True)
        return _read_job(answer, wall, job_id, field_map)
    judged = _judge_response(answer)
    delay = retry_after(answer.headers, wall, judged.problem.message)
    trouble = _trouble_of(answer.status)
    return Unclear(trouble, judged.problem, delay, answered=answer.status < 500, rule=judged.rule)


def read_cancel(
    answer: Answer | Failure, wall: float, job_id: str, field_map: FieldReader | None = None
) -> JobReport | Unclear:
    """What the response to a cancel means. Only a readable job counts; after anything else, poll again."""
    read = read_poll(answer, wall, job_id, field_map)
    return read if isinstance(read, JobReport) else replace(read, trouble=Trouble.TRANSIENT)


def _read_acceptance(
    answer: Answer,
    wall: float,
    field_map: FieldReader | None,
    overrides: CodeOverrides,
    *,
    background: bool,
    queues: bool,
    result: ResultForm | None,
) -> Accepted | Refused | Ambiguous:
    reading = _reading_of(answer) if answer.status != 204 else None
    if reading is None or not isinstance(reading.value, dict):
        lost = _response_lost(answer, _no_object(answer, reading))
        return lost if _is_page_or_nothing(answer.body) else replace(lost, unreadable=answer.body)
    mapped = field_map is not None
    body, word = (reading.value, None) if field_map is None else field_map(reading.value)
    job_id = id_of(body if mapped else job_of(body), _ABSENT)
    outcome = outcome_of(body, mapped=mapped)
    if isinstance(outcome, Running) and group_of(outcome.status) is StateGroup.UNKNOWN:
        names_a_job = background or (queues and job_id is not _ABSENT)
        if (result is not None or not names_a_job) and has_result(body, result):
            outcome = ended(body, None, StateGroup.SUCCESS)
        elif outcome.unclear is not None and job_id is not _ABSENT:
            outcome = outcome.unclear  # an error, and no word that says that the job runs all the same
    if mapped:
        outcome = replace(outcome, status=word)
    if isinstance(outcome, Running):
        if job_id is _ABSENT:
            if outcome.unclear is not None:
                return _error_alone(answer, wall, overrides)
            return _shows_nothing(answer, reading, background=background)
        problem = _cannot_be_polled(answer, outcome, job_id, polled=background or queues)
        if problem is not None:
            return Ambiguous(problem)
    return Accepted(
        job_id=job_id if isinstance(job_id, str) and is_safe_id(job_id) else None,
        outcome=_with_what_came_along(outcome, answer, wall, reading),
        body=reading.text,
        http_status=answer.status,
        request_id=answer.headers.get("x-request-id"),
        retrievable=background,
        shown=limits_shown(answer.headers),
    )


_ABSENT = object()


def _error_alone(answer: Answer, wall: float, overrides: CodeOverrides) -> Refused | Ambiguous:
    """A 2xx with an error and no job: ambiguous, unless the profile says that nothing was created."""
    judged = _judge_response(answer)
    if judged.problem.code in overrides.nothing_created:
        delay = retry_after(answer.headers, wall, judged.problem.message)
        return Refused(judged.problem, judged.rule, judged.rule.retryable and not judged.rule.halts, delay)
    lost = _response_lost(answer, f"HTTP {answer.status} with an error and without an id: {_words_of(judged.problem)}")
    return replace(lost, rule=judged.rule) if judged.rule.halts else lost


def _shows_nothing(answer: Answer, reading: ParsedJson, *, background: bool) -> Ambiguous:
    """A 2xx with neither a job nor a result nor an error."""
    shape = unknown_shape(reading.value, reading.text, background=background, is_safe_id=is_safe_id)
    lost = _response_lost(answer, f"HTTP {answer.status} without an id and without a result: {shape.shown}")
    return replace(lost, shape=shape)


def _cannot_be_polled(answer: Answer, outcome: Running, job_id: object, *, polled: bool) -> Problem | None:
    """Why the job cannot be polled; None where it can be. `polled`: its endpoint's jobs are."""
    if not is_safe_id(job_id):
        shown = "an object or a list" if isinstance(job_id, dict | list) else repr(job_id)
        message = f"the service gave the job the id {shown}"[:300]
    elif not polled:
        message = f"expected a result, got the job {job_id} (status {outcome.status!r})"
    else:
        return None
    return our_problem("unusable_job_id", message, http_status=answer.status)


def _read_job(answer: Answer, wall: float, job_id: str, field_map: FieldReader | None) -> JobReport | Unclear:
    # The hot path: nearly every poll of every job ends here, without a new object.
    _, headers, body, reading = answer
    if field_map is None and reading is NOT_READ and _POLL_HINTS.isdisjoint(headers):
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            return _read_job_in_full(answer, wall, job_id, None, _reading_of_refused(answer))
        if type(value) is dict and value.get("id") == job_id and type(status := value.get("status")) is str:
            seen = _STILL_RUNNING.get(status)
            if seen is not None:
                return seen
        return _read_job_in_full(answer, wall, job_id, None, strict_json(value, body))
    return _read_job_in_full(answer, wall, job_id, field_map, _reading_of(answer))


_POLL_HINTS = frozenset({"openai-poll-after-ms", "retry-after", "retry-after-ms"})

# The report of a running job: one shared value for each status word that means it.
_STILL_RUNNING: dict[str, JobReport] = {
    word: JobReport(running(word), b"", 200, None)
    for word, group in WORDS.items()
    if group in (StateGroup.IN_PROGRESS, StateGroup.CANCELLING)
}


def _read_job_in_full(
    answer: Answer,
    wall: float,
    job_id: str,
    field_map: FieldReader | None,
    reading: ParsedJson | None,
    *,
    dated: bool = False,
) -> JobReport | Unclear:
    if reading is None or not isinstance(reading.value, dict):
        trouble = Trouble.FOREIGN if _first_byte(answer.body) == b"<" else Trouble.TRANSIENT
        problem = our_problem("unreadable_result", _no_object(answer, reading))
        unreadable = rule(WordField.TOOL, "unreadable_result")
        return Unclear(trouble, problem, unreadable=answer.body, is_final=reading is NOT_READ, rule=unreadable)
    body, word = (reading.value, None) if field_map is None else field_map(reading.value)
    mapped = field_map is not None
    outcome = outcome_of(body, mapped=mapped)
    if mapped:
        outcome = replace(outcome, status=word)
    shown_id = id_of(body if mapped else job_of(body), job_id)
    if shown_id != job_id:
        outcome = replace(outcome, warnings=(*outcome.warnings, "id_changed"))
    if isinstance(outcome, Running):
        poll_after = milliseconds(answer.headers.get("openai-poll-after-ms")) or retry_after(answer.headers, wall)
        if poll_after is not None:
            outcome = replace(outcome, poll_after=poll_after)
    outcome = _with_what_came_along(outcome, answer, wall, reading)
    other_id = shown_id if isinstance(shown_id, str) and shown_id != job_id else None
    clock = None
    if dated or isinstance(outcome, Ended):
        clock = service_clock(job_of(reading.value), answer.headers)
    return JobReport(outcome, reading.text, answer.status, answer.headers.get("x-request-id"), other_id, clock)


def _with_what_came_along(
    outcome: Running | Ended, answer: Answer, wall: float, reading: ParsedJson
) -> Running | Ended:
    """An end with what the response says of it beside its fields: when to retry, and whether its JSON is strict."""
    if isinstance(outcome, Running):
        return outcome
    if outcome.retry is not Retry.NO and (asked := retry_after(answer.headers, wall)) is not None:
        outcome = replace(outcome, retry_after=asked)
    return outcome if reading.strict else replace(outcome, warnings=(*outcome.warnings, "body_not_strict_json"))


def _reading_of(answer: Answer) -> ParsedJson | None:
    if answer.reading is not NOT_READ:
        return answer.reading
    try:
        return strict_json(orjson.loads(answer.body), answer.body)
    except orjson.JSONDecodeError:
        return _reading_of_refused(answer)


def _reading_of_refused(answer: Answer) -> ParsedJson | None:
    """NOT_READ where it takes steps."""
    return read_refused_response(answer.body) if len(answer.body) <= AT_ONCE else NOT_READ


def _judge_response(answer: Answer) -> Judged:
    reading = _reading_of(answer) if answer.body else None
    parts = read_error(reading.value) if reading is not None else None
    if parts is None:
        parts = ErrorParts(message=text_of_page(answer.body))
    if not parts.message:
        parts = replace(parts, message=f"HTTP {answer.status}")
    if 300 <= answer.status < 400:
        target = answer.headers.get("location", "nowhere")
        parts = replace(parts, message=f"redirected to {target[:300]}; redirects are never followed")
    return judge(parts, Source.HTTP, http_status=answer.status)


def _no_object(answer: Answer, reading: ParsedJson | None) -> str:
    """What a 2xx without a JSON object is."""
    if reading is NOT_READ:
        found = f"expected strict JSON with HTTP {answer.status}, got {len(answer.body):,} bytes that are not"
        return f"{found}, and too many to read in another way; they are kept in OUT.unreadable"
    return f"expected a JSON object with HTTP {answer.status}, got {text_of_page(answer.body) or 'nothing'}"


def _is_page_or_nothing(body: bytes) -> bool:
    return _first_byte(body) in (b"", b"<")


def _first_byte(body: bytes) -> bytes:
    """The first one that is no white space, if it is near the beginning."""
    return body[:1_000].lstrip()[:1]


def _words_of(problem: Problem) -> str:
    """The service's code and message."""
    return problem.message if problem.code is None else f"{problem.code}: {problem.message}"


def _response_lost(answer: Answer, message: str) -> Ambiguous:
    return Ambiguous(our_problem("answer_lost", message, http_status=answer.status))


def _trouble_of(status: int) -> Trouble:
    if status in (404, 410):
        return Trouble.NOT_FOUND
    if status in (401, 402, 403):
        return Trouble.UNAUTHORISED
    if status in (408, 409, 425, 429) or status >= 500:
        return Trouble.TRANSIENT
    return Trouble.FOREIGN
