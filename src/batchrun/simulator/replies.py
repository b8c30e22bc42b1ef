"""An answer of the service: its status and headers, how it words what is wrong, and its bytes."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson

from batchrun.core.taxonomy.classify import http_rule
from batchrun.simulator.limits import retry_lines
from batchrun.simulator.outcomes import CODES, DROPPED, HTML, LOST, QUEUE_FULL, http_status_of

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
    code: str | None = None  # under which a refusal is counted


NO_ANSWER = Reply(HANG_UP)
_WITH_RETRY_AFTER = frozenset({429, 503, 529})


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
    """An error in OpenAI's shape."""
    kind = type or ("invalid_request_error" if status < 500 else "server_error")
    safe = message.encode("utf-8", "replace").decode()
    body = orjson.dumps({"error": {"message": safe, "type": kind, "param": param, "code": code}})
    return Reply(status, body, headers.encode(), code=code)


def page(status: int) -> Reply:
    """The HTML page of a proxy in place of the service's answer."""
    text = f"<html><head><title>{status}</title></head><body><h1>{status}</h1><hr>simulated gateway</body></html>\n"
    return Reply(status, text.encode(), content_type=PAGE)


def refusal(name: str, retry_after: float) -> Reply:
    """The answer for the refusal `name`."""
    if name in (LOST, DROPPED):
        return NO_ANSWER._replace(code=name)
    if name == HTML:
        return page(200)._replace(code=name)
    if name == QUEUE_FULL:
        return error(400, "the queue is full: no further job is taken for now")._replace(code=name)
    status = http_status_of(name)
    if status is None:
        rule = CODES[name]
        return error(
            rule.http_status,
            f"simulated: {rule.advice}",
            type=rule.type,
            code=name,
            headers=_retry_headers(rule.http_status, retry_after) if rule.retryable else "",
        )
    known = http_rule(status)
    return error(
        status,
        f"simulated HTTP {status}",
        type=known.type if known is not None else None,
        headers=_retry_headers(status, retry_after),
    )


def _retry_headers(status: int, retry_after: float) -> str:
    return retry_lines(retry_after) if status in _WITH_RETRY_AFTER else ""


def written(reply: Reply, common: bytes, *, keep_alive: bool, bodiless: bool) -> bytes:
    """The bytes of `reply`; `common` are header lines of every answer; a `bodiless` one answers a HEAD."""
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
    """The header lines of every answer: the date, formatted once per second, and a number for the request."""

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
