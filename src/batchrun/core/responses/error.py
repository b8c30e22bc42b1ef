"""The error of a job, read from any shape in which services send it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from batchrun.core.taxonomy.classify import classify, rule
from batchrun.core.taxonomy.rules import KINDS, Rule, WordField

MAX_MESSAGE = 4_000
MAX_SHORT_TEXT = 200
# In linear time: what is not closed goes to the end, and a tag ends where the next begins.
_TAGS = re.compile(r"<(script|style)\b(?:.*?</\1\s*+>|.*)|<[^<>]*+>", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title[^<>]*+>([^<]*+)", re.IGNORECASE)
_MAX_DETAILS = 100


class Source(StrEnum):
    """Who stated the error."""

    SERVICE = "service"  # the job's own error, in a response with status 200
    HTTP = "http"  # the HTTP status of a response
    CLIENT = "client"  # batchrun: the check, a cancel, a deadline, the connection
    TOOL = "tool"  # a tool that the job called


@dataclass(frozen=True, slots=True)
class Problem:
    """The `error` of a record."""

    code: Annotated[str | None, "the service's code; batchrun's own where it found the error itself"]
    type: Annotated[str, "the service's type, else the taxonomy's"]
    message: Annotated[str, "the service's message, else advice"]
    param: Annotated[str | None, "the parameter at fault"]
    kind: Annotated[str, "the name of its exception in `batchrun.errors`", {"enum": list(KINDS)}]
    retryable: Annotated[bool, "whether the same row may succeed if it is retried"]
    source: Annotated[Source, "who reported it"]
    http_status: Annotated[int | None, "the HTTP status of the response that reported it"]


@dataclass(frozen=True, slots=True)
class ToolError:
    """One of the `tool_errors` of a record."""

    tool: Annotated[str, "the type of the tool's item in the output, such as `mcp_call`"]
    code: Annotated[str | None, "the tool's code"]
    type: Annotated[str | None, "the tool's type of error"]
    message: Annotated[str, "the tool's message"]
    param: Annotated[str | None, "the parameter at fault"]


@dataclass(frozen=True, slots=True)
class ErrorParts:
    """The error as the service stated it."""

    code: str | None = None
    type: str | None = None
    message: str = ""
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A problem and the rule of the taxonomy that it falls under; `by_text` if only its message led there."""

    problem: Problem
    rule: Rule
    by_text: bool = False


def judge(
    parts: ErrorParts,
    source: Source,
    *,
    http_status: int | None = None,
    status_word: str | None = None,
) -> Judged:
    """The problem in `parts`. `http_status` is the response's, `status_word` the job's last, normalised."""
    found, by_text = classify(parts.code, parts.type, http_status, status_word, parts.message)
    return Judged(problem_of(found, parts, source, http_status), found, by_text)


def problem_of(found: Rule, parts: ErrorParts, source: Source, http_status: int | None = None) -> Problem:
    return Problem(
        code=parts.code,
        type=parts.type or found.type,
        message=parts.message or found.advice,
        param=parts.param,
        kind=found.kind,
        retryable=found.retryable,
        source=source,
        http_status=http_status,
    )


def our_problem(code: str, message: str, *, http_status: int | None = None) -> Problem:
    """An error that batchrun itself states, by its code in the taxonomy."""
    parts = ErrorParts(code=code, message=message[:MAX_MESSAGE])
    return problem_of(rule(WordField.TOOL, code), parts, Source.CLIENT, http_status)


def read_error(body: Any) -> ErrorParts | None:
    """The error in a JSON body of any known shape; None where it holds none.

    OpenAI ``{"error": {…}}``, a bare string, ``{"detail": …}`` (ProxyAPI, FastAPI), RFC 7807
    ``{"title", "detail", "status"}``, ``{"message", "code"}``.
    """
    if not isinstance(body, Mapping):
        return None
    error = body.get("error")
    if isinstance(error, Mapping):
        return _parts(error)
    if isinstance(error, str) and error:
        return ErrorParts(
            code=_short_text(body.get("code")), type=_short_text(body.get("error_type")), message=error[:MAX_MESSAGE]
        )
    if "detail" in body:
        return _detail(body)
    if isinstance(body.get("message"), str) and ("code" in body or "type" in body):
        return _parts(body)
    return None


def text_of_page(body: bytes) -> str:
    """The title of an error page, or the beginning of its text."""
    page = body[:20_000].decode("utf-8", "replace")
    title = _TITLE.search(page)
    words = " ".join(_TAGS.sub(" ", title[1] if title else page).split())
    return words[:MAX_SHORT_TEXT]


def _parts(error: Mapping[Any, Any]) -> ErrorParts:
    message = error.get("message")
    inner = error.get("innererror")  # Azure puts ResponsibleAIPolicyViolation there
    code = _short_text(error.get("code"))
    if isinstance(inner, Mapping) and (inner_code := _short_text(inner.get("code"))):
        code = inner_code
    return ErrorParts(
        code=code,
        type=_short_text(error.get("type")),
        message=message[:MAX_MESSAGE] if isinstance(message, str) else "",
        param=_short_text(error.get("param")),
    )


def _detail(body: Mapping[Any, Any]) -> ErrorParts:
    detail = body["detail"]
    if isinstance(detail, Mapping):
        return _parts(detail)
    if isinstance(detail, list):  # FastAPI: one entry per field that is wrong
        messages = [
            f"{_path(item.get('loc'))}{_plain(item.get('msg'))}"
            for item in detail[:_MAX_DETAILS]
            if isinstance(item, Mapping)
        ]
        return ErrorParts(code=_short_text(body.get("code")), message="; ".join(messages)[:MAX_MESSAGE])
    texts = [text for text in (body.get("title"), detail) if isinstance(text, str) and text]
    return ErrorParts(code=_short_text(body.get("code")), message=": ".join(texts)[:MAX_MESSAGE])


def _path(location: Any) -> str:
    return ".".join(map(_plain, location[:_MAX_DETAILS])) + ": " if isinstance(location, list) and location else ""


def _plain(value: Any) -> str:
    """A value as text; of objects and lists, which may be nested beyond Python's recursion limit, only that they are."""
    return "…" if isinstance(value, dict | list) else str(value)[:MAX_MESSAGE]


def _short_text(value: Any) -> str | None:
    """A code, type or parameter as a short string; vLLM sends integers, others objects."""
    if isinstance(value, str):
        return value[:MAX_SHORT_TEXT] or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**18 else None
    return None
