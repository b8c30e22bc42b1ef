"""The error of a job, read out of whatever shape a service gives it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from batchrun.core.taxonomy.classify import classify, rule
from batchrun.core.taxonomy.rules import Rule, WordField

MAX_MESSAGE = 4_000
MAX_WORD = 200
_TAGS = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)


class Source(StrEnum):
    """Who says that there is an error."""

    SERVICE = "service"  # the job's own error, in an answer that was otherwise fine
    HTTP = "http"  # the HTTP status of an answer
    CLIENT = "client"  # we ourselves: the check, a cancel, a deadline, the wire
    TOOL = "tool"  # a tool that the job called


@dataclass(frozen=True, slots=True)
class Problem:
    """The `error` of a record."""

    code: str | None
    type: str
    message: str
    param: str | None
    kind: str
    retryable: bool
    source: Source
    http_status: int | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "type": self.type,
            "message": self.message,
            "param": self.param,
            "kind": self.kind,
            "retryable": self.retryable,
            "source": self.source.value,
            "http_status": self.http_status,
        }


@dataclass(frozen=True, slots=True)
class ErrorParts:
    """What a service said of an error, before it is judged."""

    code: str | None = None
    type: str | None = None
    message: str = ""
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A problem and the rule of the taxonomy that it falls under."""

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
    """What `parts` amount to. `http_status` is the answer's, `status_word` the job's last, normalised."""
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


def our_problem(word: str, message: str, *, http_status: int | None = None) -> Problem:
    """An error that batchrun itself states, by its word in the taxonomy."""
    parts = ErrorParts(code=word, message=message[:MAX_MESSAGE])
    return problem_of(rule(WordField.TOOL, word), parts, Source.CLIENT, http_status)


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
        return ErrorParts(code=_word(body.get("code")), type=_word(body.get("error_type")), message=error[:MAX_MESSAGE])
    if "detail" in body:
        return _detail(body)
    if isinstance(body.get("message"), str) and ("code" in body or "type" in body):
        return _parts(body)
    return None


def text_of_page(body: bytes) -> str:
    """What a person would read first on an error page: its title and the beginning of its text."""
    page = body[:20_000].decode("utf-8", "replace")
    title = _TITLE.search(page)
    words = " ".join(_TAGS.sub(" ", title[1] if title else page).split())
    return words[:MAX_WORD]


def _parts(error: Mapping[Any, Any]) -> ErrorParts:
    message = error.get("message")
    inner = error.get("innererror")  # Azure puts ResponsibleAIPolicyViolation there
    code = _word(error.get("code"))
    if isinstance(inner, Mapping) and (inner_code := _word(inner.get("code"))):
        code = inner_code
    return ErrorParts(
        code=code,
        type=_word(error.get("type")),
        message=message[:MAX_MESSAGE] if isinstance(message, str) else "",
        param=_word(error.get("param")),
    )


def _detail(body: Mapping[Any, Any]) -> ErrorParts:
    detail = body["detail"]
    if isinstance(detail, Mapping):
        return _parts(detail)
    if isinstance(detail, list):  # FastAPI: one entry per field that is wrong
        said = [f"{_path(item.get('loc'))}{item.get('msg')}" for item in detail if isinstance(item, Mapping)]
        return ErrorParts(code=_word(body.get("code")), message="; ".join(said)[:MAX_MESSAGE])
    texts = [text for text in (body.get("title"), detail) if isinstance(text, str) and text]
    return ErrorParts(code=_word(body.get("code")), message=": ".join(texts)[:MAX_MESSAGE])


def _path(location: Any) -> str:
    return ".".join(map(str, location)) + ": " if isinstance(location, list) and location else ""


def _word(value: Any) -> str | None:
    """A code, type or parameter as a short string; vLLM sends integers, others objects."""
    if isinstance(value, str):
        return value[:MAX_WORD] or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**18 else None
    return None
