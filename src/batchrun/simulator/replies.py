"""An answer before it is written: what a service says, and how it words what is wrong."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from batchrun.core.taxonomy.classify import http_rule
from batchrun.simulator.limits import retry_lines
from batchrun.simulator.words import CODES, DROPPED, HTML, LOST, QUEUE_FULL, status_of_word

JSON = b"application/json"
PAGE = b"text/html"
HANG_UP = 0


class Reply(NamedTuple):
    """An answer. Status 0 closes the connection without one; `delay` seconds pass before it (infinite: none comes)."""

    status: int
    body: bytes = b""
    headers: bytes = b""  # whole lines, each with its CR LF
    delay: float = 0.0
    content_type: bytes = JSON
    code: str | None = None  # what the books file a refusal under


SILENCE = Reply(HANG_UP)
_ASKS_FOR_PATIENCE = frozenset({429, 503, 529})


def reply(value: Any, status: int = 200) -> Reply:
    return Reply(status, orjson.dumps(value))


def error(
    status: int,
    message: str,
    *,
    type: str | None = None,  # noqa: A002 - the field's own name
    code: str | None = None,
    param: str | None = None,
    headers: str = "",
) -> Reply:
    """An error in the shape that OpenAI's have."""
    kind = type or ("invalid_request_error" if status < 500 else "server_error")
    safe = message.encode("utf-8", "replace").decode()
    body = orjson.dumps({"error": {"message": safe, "type": kind, "param": param, "code": code}})
    return Reply(status, body, headers.encode(), code=code)


def page(status: int) -> Reply:
    """What a proxy answers in the service's place."""
    text = f"<html><head><title>{status}</title></head><body><h1>{status}</h1><hr>simulated gateway</body></html>\n"
    return Reply(status, text.encode(), content_type=PAGE)


def refusal(word: str, retry_after: float) -> Reply:
    """The answer that the refusal `word` stands for."""
    if word in (LOST, DROPPED):
        return SILENCE._replace(code=word)
    if word == HTML:
        return page(200)._replace(code=word)
    if word == QUEUE_FULL:
        return error(400, "the queue is full: no further job is taken for now")._replace(code=word)
    status = status_of_word(word)
    if status is None:
        rule = CODES[word]
        return error(
            rule.http_status,
            f"simulated: {rule.advice}",
            type=rule.type,
            code=word,
            headers=_patience(rule.http_status, retry_after) if rule.retryable else "",
        )
    known = http_rule(status)
    return error(
        status,
        f"simulated HTTP {status}",
        type=known.type if known is not None else None,
        headers=_patience(status, retry_after),
    )


def _patience(status: int, retry_after: float) -> str:
    return retry_lines(retry_after) if status in _ASKS_FOR_PATIENCE else ""
