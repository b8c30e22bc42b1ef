"""What a job's body says: it is still running, or how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import Annotated, Any, Literal

from batchrun.core.responses.error import (
    MAX_MESSAGE,
    ErrorParts,
    Judged,
    Problem,
    Source,
    ToolError,
    judge,
    our_problem,
    problem_of,
    read_error,
)
from batchrun.core.responses.retry_after import retry_after
from batchrun.core.taxonomy.classify import reason_rule, rule
from batchrun.core.taxonomy.rules import STARTED_WORDS, Retry, Rule, State, StateGroup, WordField, group_of, normalise

# --- Token counts, the same for all endpoints; what a service does not report is null, never a guess ---


@dataclass(frozen=True, slots=True)
class Usage:
    """The `usage` of a record."""

    input_tokens: Annotated[int | None, "tokens of the input"] = None
    output_tokens: Annotated[int | None, "tokens of the output, `reasoning_tokens` included"] = None
    total_tokens: Annotated[int | None, "tokens in all"] = None
    cached_tokens: Annotated[int | None, "tokens of the input that the service had cached"] = None
    reasoning_tokens: Annotated[int | None, "tokens of the output that were spent on reasoning"] = None

    @property
    def paid(self) -> bool | None:
        """Whether any tokens were counted; None where the service reported none."""
        counts = [n for n in (self.input_tokens, self.output_tokens, self.total_tokens) if n is not None]
        return any(counts) if counts else None


NO_USAGE = Usage()


def read_usage(value: Any) -> Usage:
    """The counts of a ``usage`` object of the responses, chat or embeddings endpoints."""
    if not isinstance(value, dict):
        return NO_USAGE
    details_in = value.get("input_tokens_details") or value.get("prompt_tokens_details")
    details_out = value.get("output_tokens_details") or value.get("completion_tokens_details")
    return Usage(
        input_tokens=_count(value, "input_tokens", "prompt_tokens"),
        output_tokens=_count(value, "output_tokens", "completion_tokens"),
        total_tokens=_count(value, "total_tokens"),
        cached_tokens=_count(details_in, "cached_tokens"),
        reasoning_tokens=_count(details_out, "reasoning_tokens"),
    )


def _count(value: Any, *names: str) -> int | None:
    if isinstance(value, dict):
        for name in names:
            number = value.get(name)
            if type(number) is int and 0 <= number < 2**63:
                return number
    return None


# --- What is in the payload of a job that is called completed ---
#
# Services call a job completed whose output is empty, whose tool failed, or that was cut off; each of these
# was seen in the wild. How the job ended is decided in ``outcome``, from these findings.


_FAILED_WORDS = frozenset({"failed", "incomplete"})
_STOPPED_EARLY = frozenset({"length", "content_filter", "max_tokens"})
_MAX_TOOL_ERRORS = 10
# As many are looked at, far more than any result has: millions of empty ones would stop the event loop.
_MAX_ITEMS, _MAX_FAILED_TOOLS = 100_000, 1_000

# Tools of somebody else's: their codes are no words of the service, and a 401 of theirs is not our API key's.
_FOREIGN_TOOLS = frozenset({"mcp_call", "mcp_list_tools"})


@dataclass(frozen=True, slots=True)
class PayloadFindings:
    """What a payload holds. `stopped_by` is the service's reason for an early end, `token_cap` the cap that it names."""

    text: str | None = None
    has_output: bool = False
    refused: bool = False
    stopped_by: str | None = None
    token_cap: int | None = None
    incomplete_message: bool = False
    failed_tools: tuple[str, ...] = ()
    tool_errors: tuple[ToolError, ...] = ()

    def warnings(self) -> tuple[str, ...]:
        """The warnings of a job that otherwise gave a result."""
        found = [f"tool_failed:{tool}" for tool in self.failed_tools]
        if not self.has_output and not self.failed_tools and not self.refused:
            found.append("empty_output")
        if self.refused:
            found.append("refusal")
        return tuple(dict.fromkeys(found))


def inspect(body: Mapping[str, Any]) -> PayloadFindings:
    """The findings of a response of the responses, chat, embeddings or images endpoint."""
    if isinstance(output := body.get("output"), list):
        return _responses(body, output)
    if isinstance(choices := body.get("choices"), list):
        return _chat(choices)
    if isinstance(data := body.get("data"), list):
        return PayloadFindings(has_output=any(data))
    output = output or body.get("output_text")
    return PayloadFindings(
        text=output if isinstance(output, str) else None,
        has_output=bool(output),
        stopped_by=_reason(body),
    )


def _responses(body: Mapping[str, Any], output: list[Any]) -> PayloadFindings:
    texts: list[str] = []
    failed: list[str] = []
    has_output = refused = incomplete_message = False
    tool_errors: list[ToolError] = []
    for item in _mappings(output):
        kind = item.get("type")
        if kind == "message" or (kind is None and "content" in item):
            for part in _parts(item):
                if isinstance(text := part.get("text"), str) and text:
                    texts.append(text)
                refused |= bool(part.get("refusal"))
            incomplete_message |= normalise(item.get("status")) == "incomplete"
        elif kind != "reasoning":
            if _tool_failed(item):
                tool = kind[:100] if isinstance(kind, str) else "unnamed"
                if len(failed) < _MAX_FAILED_TOOLS:
                    failed.append(tool)
                    tool_errors += _errors_of_tool(tool, item)
            else:
                has_output = True
    # Some compatible services put the text next to an empty list.
    if not texts and isinstance(extra := body.get("output_text"), str) and extra:
        texts.append(extra)
    cap = _token_cap(body)
    return PayloadFindings(
        text="".join(texts) or None,
        has_output=has_output or bool(texts),
        refused=refused and not texts,
        stopped_by=_reason(body)
        or ("max_output_tokens" if cap and reached(cap, read_usage(body.get("usage"))) else None),
        token_cap=cap,
        incomplete_message=incomplete_message,
        failed_tools=tuple(failed),
        tool_errors=tuple(dict.fromkeys(tool_errors))[:_MAX_TOOL_ERRORS],
    )


def _tool_failed(item: Mapping[str, Any]) -> bool:
    """A result counts whatever is next to it. An image call without one failed, whatever the service calls it."""
    if item.get("result"):
        return False
    return (
        item.get("type") == "image_generation_call"
        or bool(item.get("error"))
        or normalise(item.get("status")) in _FAILED_WORDS
    )


def _errors_of_tool(tool: str, item: Mapping[str, Any]) -> Iterator[ToolError]:
    """The error that the item of a tool that failed states, if it states one."""
    parts = read_error(item) or ErrorParts()
    message = parts.message
    if not message and isinstance(error := item.get("error"), dict):  # a result of MCP: its text says what failed
        texts = (part.get("text") for part in _parts(error))
        message = " ".join(text for text in texts if isinstance(text, str))[:MAX_MESSAGE]
    if parts.code or parts.type or message:
        yield ToolError(tool, parts.code, parts.type, message, parts.param)


def _chat(choices: list[Any]) -> PayloadFindings:
    text: str | None = None
    has_output = refused = False
    stopped_by: str | None = None
    for choice in _mappings(choices):
        message = choice.get("message")
        message = message if isinstance(message, dict) else {}
        content = message.get("content") or choice.get("text")
        if isinstance(content, list):  # in parts, as some services write it
            parts = (part.get("text") for part in _mappings(content))
            content = "".join(part for part in parts if isinstance(part, str)) or content
        if isinstance(content, str):
            text = content if text is None else text  # the first choice counts
        has_output |= bool(content or message.get("tool_calls") or message.get("audio"))
        refused |= bool(message.get("refusal"))
        finish = choice.get("finish_reason")
        if stopped_by is None and isinstance(finish, str) and finish in _STOPPED_EARLY:
            stopped_by = finish
    return PayloadFindings(text, has_output, refused and not has_output, stopped_by)


def _reason(body: Mapping[str, Any]) -> str | None:
    details = body.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    return reason[:100] if isinstance(reason, str) and reason else None


def _token_cap(body: Mapping[str, Any]) -> int | None:
    cap = body.get("max_output_tokens")
    return cap if isinstance(cap, int) and not isinstance(cap, bool) else None


def reached(token_cap: int | None, usage: Usage) -> bool:
    """Whether the output is as long as its cap allows: cut off, also where it is called complete (llama.cpp)."""
    return bool(token_cap) and usage.output_tokens == token_cap


def _parts(item: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    content = item.get("content")
    if isinstance(content, str):
        yield {"text": content}
    elif isinstance(content, list):
        yield from _mappings(content)


def _mappings(items: list[Any]) -> Iterator[Mapping[str, Any]]:
    return (item for item in islice(items, _MAX_ITEMS) if isinstance(item, dict))


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
    unclear: Ended | None = None  # what this amounts to if further polls show the same


@dataclass(frozen=True, slots=True)
class Ended:
    """The job is over. `retry` is what a retry is worth; `state` is final when there is none.

    `rule` is the one of the taxonomy that says so, where a service's response led to it.
    """

    state: State
    status: str | None = None
    problem: Problem | None = None
    retry: Retry = Retry.NO
    retry_after: float | None = None
    halts: bool = False
    billing: Billing = Billing.UNKNOWN
    billing_reason: str | None = None
    warnings: tuple[str, ...] = ()
    tool_errors: tuple[ToolError, ...] = ()
    model: str | None = None
    text: str | None = None
    usage: Usage = NO_USAGE
    token_cap: int | None = None  # as the response names it
    rule: Rule | None = None


ResultForm = Literal["choices", "embeddings", "images", "output", "mapped"]
"""The forms by which a result is known that has no status: those of OpenAI's endpoints, and where a profile says it is."""

ID_NAMES = ("id", "job_id", "task_id", "taskId")
"""Names of a job's id. `request_id` is often the HTTP request's: only a profile may name it."""

_FAILURES = frozenset({StateGroup.FAILURE, StateGroup.INPUT, StateGroup.BILLING, StateGroup.RETRYABLE})
_NOT_OVER = frozenset({StateGroup.IN_PROGRESS, StateGroup.CANCELLING})

# Groups whose words decide the state, whatever the error next to them.
_FIXED_STATE: dict[StateGroup, State] = {
    StateGroup.CANCELLED: State.CANCELLED,
    StateGroup.EXPIRED: State.EXPIRED,
    StateGroup.PERSON: State.REQUIRES_ACTION,
}


# Words of one kind agree. Which failure it is, is for `status` and the error to say.
_KINDS: dict[StateGroup, str] = {
    group: "failure" if group in _FAILURES else "running" if group in _NOT_OVER else group.value for group in StateGroup
}


def job_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object that tells of the job: `body`, joined with the object `data` where that names a job or its status."""
    data = body.get("data")
    if not isinstance(data, dict) or not (id_of(data) is not None or _words(data)):
        return body
    return {**data, **{name: value for name, value in body.items() if name != "data"}}


def id_of(job: Mapping[str, Any], default: object = None) -> object:
    """The job's id, under the first of the names that services give it; `default` where there is none."""
    for name in ID_NAMES:
        if name in job:
            return job[name]
    return default


def outcome_of(body: Mapping[str, Any], *, mapped: bool = False) -> Running | Ended:
    """What the body of a job says. With an unknown or missing status the job counts as running.

    `state` counts like `status` where it is a known word, also in an object `data`; not in a body that a profile
    `mapped`, which names its fields. Known words that disagree leave the job running, as does an error without a word:
    what that amounts to is for further polls to show.
    """
    job = body if mapped else job_of(body)
    words = _words(body)
    if job is not body:
        words += _words(body["data"])
    if not words:
        status = job.get("status")
        found = running(status if isinstance(status, str) else None)
        error = _error_of(job)
        return found if error is None else replace(found, unclear=_not_retried(ended(job, None, StateGroup.FAILURE)))
    first, group = words[0]
    if len(words) == 1 or len({_KINDS[group] for _, group in words}) == 1:
        return running(first) if group in _NOT_OVER else ended(job, first, group)
    for word, group in words:
        if group in _NOT_OVER:
            return running(word)
    message = (
        f"the service says that the job is {' and '.join(dict.fromkeys(word for word, _ in words))} at the same time"
    )
    end = replace(
        ended(job, first, StateGroup.FAILURE),
        state=State.FAILED,
        problem=our_problem("contradictory_status", message),
        rule=rule(WordField.TOOL, "contradictory_status"),
        halts=False,
        billing_reason=None,
    )
    return Running(first[:100], started=True, unclear=_not_retried(end))


def has_result(body: Mapping[str, Any], form: ResultForm | None) -> bool:
    """Whether a body without a status is a result: in the form of its endpoint, with no error and no status word.

    Without a `form` any object is one that has no error and no status word.
    """
    if _error_of(body) is not None or body.get("status") or body.get("state"):
        return False
    match form:
        case None:
            return True
        case "choices":
            return any(isinstance(one.get("message"), dict) or "text" in one for one in _objects(body, "choices"))
        case "embeddings":
            return any(one.get("embedding") for one in _objects(body, "data"))
        case "images":
            found = ((one.get("url"), one.get("b64_json")) for one in _objects(body, "data"))
            return any(isinstance(text, str) and text for texts in found for text in texts)
        case "output":
            return any(isinstance(one.get("type"), str) for one in _objects(body, "output"))
        case "mapped":
            return bool(body.get("output") or body.get("data"))


def _objects(body: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    items = body.get(name)
    return _mappings(items) if isinstance(items, list) else iter(())


def _words(job: Mapping[str, Any]) -> list[tuple[str, StateGroup]]:
    """The known words in the fields that name a job's status, each with its group."""
    fields = (job.get("status"), job.get("state"))
    return [
        (word, group)
        for word in fields
        if isinstance(word, str) and (group := group_of(word)) is not StateGroup.UNKNOWN
    ]


def _not_retried(end: Ended) -> Ended:
    return replace(end, retry=Retry.NO, retry_after=None)


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
    model = body.get("model")
    facts = {
        "status": status if status is None else status[:100],
        "model": model[:200] if isinstance(model, str) else None,
        "text": findings.text,
        "usage": read_usage(body.get("usage")),
        "tool_errors": findings.tool_errors,
        "token_cap": findings.token_cap,
    }
    if group is StateGroup.SUCCESS:
        if error is not None and not findings.has_output:
            return _failed(body, error, "failed", StateGroup.FAILURE, findings, facts)
        return _succeeded(error, findings, facts)
    if group is StateGroup.PARTIAL:
        return _incomplete(error, findings, facts)
    return _failed(body, error, normalise(status) or "failed", group, findings, facts)


def _succeeded(error: ErrorParts | None, findings: PayloadFindings, facts: Mapping[str, Any]) -> Ended:
    warnings = findings.warnings()
    if findings.incomplete_message:
        warnings = (*warnings, "incomplete_message")
    if error is not None:
        judged = judge(error, Source.SERVICE)
        return Ended(
            State.SUCCEEDED,
            problem=judged.problem,
            billing=Billing.BILLED,
            warnings=(*warnings, "partial_output"),
            **facts,
        )
    if findings.stopped_by is None:
        return Ended(State.SUCCEEDED, billing=Billing.BILLED, warnings=warnings, **facts)
    if facts["status"] is None:  # a chat response has no status, only a finish_reason
        return _incomplete(None, findings, facts)
    return Ended(State.SUCCEEDED, billing=Billing.BILLED, warnings=(*warnings, "truncated"), **facts)


def _incomplete(error: ErrorParts | None, findings: PayloadFindings, facts: Mapping[str, Any]) -> Ended:
    if error is not None and (judged := judge(error, Source.SERVICE, status_word="incomplete")).rule.billing_reason:
        return _by_rule(judged, judged.rule.state, findings, facts)
    found = reason_rule(findings.stopped_by)
    parts, source = error or ErrorParts(code=findings.stopped_by), Source.SERVICE
    if error is None and findings.stopped_by is None and findings.tool_errors:
        parts, source = _parts_of_tool(findings.tool_errors[0]), Source.TOOL
    problem = problem_of(found, parts, source)
    warnings = findings.warnings()
    return Ended(State.INCOMPLETE, problem=problem, billing=Billing.BILLED, warnings=warnings, rule=found, **facts)


def _failed(
    body: Mapping[str, Any],
    error: ErrorParts | None,
    word: str,
    group: StateGroup,
    findings: PayloadFindings,
    facts: Mapping[str, Any],
) -> Ended:
    tool = findings.tool_errors[0] if error is None and findings.tool_errors and group not in _FIXED_STATE else None
    source = Source.SERVICE if tool is None else Source.TOOL
    parts = error or (ErrorParts() if tool is None else _parts_of_tool(tool))
    judged = judge(parts, source, status_word=word)
    if tool is not None and tool.tool in _FOREIGN_TOOLS:
        by_word = rule(WordField.STATUS, word)
        judged = Judged(problem_of(by_word, parts, source), by_word)
    elif not judged.rule.billing_reason:
        by_word = rule(WordField.STATUS, word) if group is not StateGroup.FAILURE else judged.rule
        if group in _FIXED_STATE or group in (StateGroup.INPUT, StateGroup.BILLING):
            judged = Judged(problem_of(by_word, parts, source), by_word)
        elif judged.rule is by_word and word == "aborted" and _aborted_by_system(body):
            by_system = rule(WordField.TOOL, "aborted_by_system")
            judged = Judged(problem_of(by_system, parts, source), by_system)
    return _by_rule(judged, _FIXED_STATE.get(group, judged.rule.state), findings, facts)


def _parts_of_tool(tool: ToolError) -> ErrorParts:
    return ErrorParts(tool.code, tool.type, tool.message, tool.param)


def _by_rule(judged: Judged, state: State, findings: PayloadFindings, facts: Mapping[str, Any]) -> Ended:
    warnings = [f"tool_failed:{tool}" for tool in findings.failed_tools]
    if findings.has_output:
        warnings.append("partial_output")
    if judged.by_text:
        warnings.append("classified_by_text")
    found, paid = judged.rule, facts["usage"].paid
    return Ended(
        state=state,
        problem=judged.problem,
        billing=Billing.UNKNOWN if paid is None else Billing.BILLED if paid else Billing.NOT_BILLED,
        retry=found.retry if state is found.state else Retry.NO,
        retry_after=retry_after({}, 0.0, judged.problem.message) if found.retryable else None,
        halts=found.halts,
        billing_reason=found.billing_reason,
        warnings=tuple(dict.fromkeys(warnings)),
        rule=found,
        **facts,
    )


def _error_of(body: Mapping[str, Any]) -> ErrorParts | None:
    """The error of a job's body; runs call it `last_error`, batches list several, chats have it in a choice."""
    for name in ("error", "last_error"):
        value = body.get(name)
        if value and (parts := read_error({"error": value})) is not None:
            return parts
    errors = body.get("errors")
    listed = errors.get("data") if isinstance(errors, dict) else errors
    if isinstance(listed, list) and listed:
        return read_error({"error": listed[0]})
    return next(filter(None, map(_error_of_choice, _objects(body, "choices"))), None)


def _error_of_choice(choice: Mapping[str, Any]) -> ErrorParts | None:
    """The error of a chat that failed on its way (OpenRouter): next to what it gave until then, or only as a word."""
    if (error := choice.get("error")) and (parts := read_error({"error": error})) is not None:
        return parts
    return ErrorParts(code="error") if choice.get("finish_reason") == "error" else None


def _aborted_by_system(body: Mapping[str, Any]) -> bool:
    actors = (body.get(name) for name in ("aborted_by", "cancelled_by", "canceled_by", "initiated_by"))
    return any(isinstance(actor, str) and actor.lower() in ("system", "server", "service") for actor in actors)
