"""An answer of the service: its status and headers, how it words what is wrong, and its bytes."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson

from batchrun.core.taxonomy.classify import http_rule
from batchrun.simulator.limits import retry_lines
from batchrun.simulator.outcomes import CODES, DROPPED, HTML, LOST, QUEUE_FULL, status_of_word

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


def written(reply: Reply, common: bytes, *, keep_alive: bool, bodiless: bool) -> bytes:
    """The bytes of `reply`; `common` are header lines that every answer has, a `bodiless` one answers a HEAD."""
    return b"%b%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n%b" % (
        _STATUS_LINES.get(reply.status) or _status_line(reply.status),
        common,
        reply.content_type,
        len(reply.body),
        reply.headers,
        b"" if keep_alive else b"connection: close\r\n",
        b"" if bodiless else reply.body,
    )


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_STATUS_LINES = {status.value: _status_line(status.value) for status in HTTPStatus}


class CommonLines:
    """The header lines of every answer: the date, made anew each second, and a number for the request."""

    __slots__ = ("_count", "_date", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._date = b""
        self._count = 0

    def lines(self, now: float) -> bytes:
        if int(now) != self._second:
            self._second = int(now)
            self._date = formatdate(now, usegmt=True).encode()
        self._count += 1
        return b"date: %b\r\nserver: batchrun-simulator\r\nx-request-id: req_%032x\r\n" % (self._date, self._count)
