"""HTTP/1.1 on one connection: llhttp parses the requests, answers are sent in their order.

Requests that arrive while an answer is delayed wait (pipelining); with more than a hundred waiting
the connection is not read. A request that cannot be parsed, or is too large, is answered and the
connection closed, after what the client still sends was read: else the answer would be lost in a reset.
"""

from __future__ import annotations

import asyncio
from collections import deque
from math import isinf
from typing import NamedTuple, Protocol, cast

import httptools

from batchrun.simulator.replies import HANG_UP, Reply, error, written
from batchrun.simulator.request_statistics import RequestStatistics

_MOST_WAITING = 100
_MOST_HEADER_BYTES = 64 * 1024
_LINGER = 2.0  # seconds
_KEY_HEADERS = frozenset({b"authorization", b"api-key"})


class Host(Protocol):
    """What a connection needs of the simulator."""

    statistics: RequestStatistics
    connections: set[ServedConnection]

    @property
    def most_body(self) -> int: ...

    def is_foreign(self, header: bytes) -> bool: ...
    def answer(self, method: bytes, target: bytes, api_key: bytes, body: bytes, idempotency_key: bytes) -> Reply: ...
    def common_lines(self) -> bytes: ...


class _ParsedRequest(NamedTuple):
    method: bytes
    target: bytes
    api_key: bytes
    body: bytes
    idempotency_key: bytes
    keep_alive: bool


class ServedConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[_ParsedRequest | Reply] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False  # an answer is delayed
        self._posting = False  # and it is a submit's
        self._blocked = False  # the client does not read
        self._reading_ended = False  # what still arrives is dropped
        self._reading_paused = False  # reading pauses
        self.on_message_begin()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods, not by its class
        self._host.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._host.connections.discard(self)
        self._transport = None
        self._reading_ended = True
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._posting:
            self._posting = False
            self._host.statistics.post_ends()

    def data_received(self, data: bytes) -> None:
        if self._reading_ended:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request itself was read; it is answered in HTTP/1.1, and what follows it is not HTTP.
            self._reading_ended = True
        except httptools.HttpParserCallbackError:
            raise
        except httptools.HttpParserError as problem:
            self._end_with(error(400, f"expected an HTTP/1.1 request: {problem}"))
        self._answer_waiting()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._answer_waiting()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # llhttp

    def on_message_begin(self) -> None:
        self._target = b""
        self._api_key = self._idempotency_key = b""
        self._body: list[bytes] = []
        self._size = 0
        self._header_size = 0

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_size += len(name) + len(value)
        if self._header_size > _MOST_HEADER_BYTES:
            self._end_with(error(431, f"expected headers of at most {_MOST_HEADER_BYTES} bytes"))
        lower = name.lower()
        if lower in _KEY_HEADERS:
            scheme, _, credentials = value.partition(b" ")
            self._api_key = credentials.strip() if scheme.lower() == b"bearer" else value
        elif lower == b"idempotency-key":
            self._idempotency_key = value
        elif lower == b"host" and self._host.is_foreign(value):
            self._end_with(
                error(421, "expected a Host header with 127.0.0.1 or localhost, got another", code="foreign_host")
            )
        elif lower == b"content-length" and value.isdigit() and int(value[:20]) > self._host.most_body:
            self._too_large()
        elif (
            lower == b"expect"
            and value.lower() == b"100-continue"
            and self._transport is not None
            and not self._reading_ended
        ):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._host.most_body:
            self._too_large()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._reading_ended:
            return
        parser = self._parser
        keep_alive = parser.should_keep_alive() and not parser.should_upgrade()
        body = b"".join(self._body)
        key = self._idempotency_key
        self._waiting.append(_ParsedRequest(parser.get_method(), self._target, self._api_key, body, key, keep_alive))

    # Answers

    def _too_large(self) -> None:
        self._end_with(error(413, f"expected a body of at most {self._host.most_body} bytes", code="request_too_large"))

    def _end_with(self, last: Reply) -> None:
        """Answer `last` after those that wait, and stop reading."""
        if not self._reading_ended:
            self._reading_ended = True
            self._waiting.append(last)

    def _answer_waiting(self) -> None:
        """Answer waiting requests, up to one whose answer is delayed."""
        transport = self._transport
        if transport is None:
            return
        out: list[bytes] = []
        while self._waiting and not self._busy and not self._blocked:
            request = self._waiting.popleft()
            if isinstance(request, Reply):
                out.append(self._written(request, keep_alive=False, bodiless=False))
                self._close(transport, out)
                return
            method, target, api_key, body, idempotency_key, keep_alive = request
            reply = self._host.answer(method, target, api_key, body, idempotency_key)
            if reply.delay > 0:
                self._answer_later(reply, keep_alive=keep_alive, posting=method == b"POST")
            elif reply.status == HANG_UP:
                transport.abort()
                return
            else:
                out.append(self._written(reply, keep_alive=keep_alive, bodiless=method == b"HEAD"))
                if not keep_alive:
                    self._close(transport, out)
                    return
        if out:
            transport.write(b"".join(out) if len(out) > 1 else out[0])
        if self._reading_paused is not (len(self._waiting) > _MOST_WAITING):
            self._reading_paused = not self._reading_paused
            (transport.pause_reading if self._reading_paused else transport.resume_reading)()

    def _answer_later(self, reply: Reply, *, keep_alive: bool, posting: bool) -> None:
        self._busy, self._posting = True, posting
        if posting:
            self._host.statistics.post_begins()
        if not isinf(reply.delay):
            self._timer = self._loop.call_later(reply.delay, self._answer_now, reply, keep_alive)

    def _answer_now(self, reply: Reply, keep_alive: bool) -> None:  # noqa: FBT001 - call_later passes no keywords
        transport = self._transport
        self._busy, self._timer = False, None
        if self._posting:
            self._posting = False
            self._host.statistics.post_ends()
        if transport is None:
            return
        if reply.status == HANG_UP:
            transport.abort()
            return
        out = [self._written(reply, keep_alive=keep_alive, bodiless=False)]
        if not keep_alive:
            self._close(transport, out)
            return
        transport.write(out[0])
        self._answer_waiting()

    def _close(self, transport: asyncio.Transport, out: list[bytes]) -> None:
        """Write `out` as the last answers; close when the client has, or after `_LINGER`."""
        self._reading_ended = True
        self._waiting.clear()
        transport.write(b"".join(out))
        if transport.can_write_eof():
            transport.write_eof()
        self._timer = self._loop.call_later(_LINGER, transport.close)

    def _written(self, reply: Reply, *, keep_alive: bool, bodiless: bool) -> bytes:
        return written(reply, self._host.common_lines(), keep_alive=keep_alive, bodiless=bodiless)
