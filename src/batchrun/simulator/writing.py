"""An answer as bytes: status line, headers, body."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus

from batchrun.simulator.replies import Reply


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
