"""One connection: bytes of requests out, bytes of responses in, read by llhttp.

Invariants:

1. Bytes that arrive while no exchange is on end the connection: they would be taken for the next response, and one job's
   result for another's. So do bytes beyond a response, and a connection with unread bytes is not used. Nor is one
   whose response ended where the buffer does: TLS may hold further bytes, which no poll of the socket shows, and both
   loops read on only in their next turn. After a read that left room both have emptied TLS. (A record of which only a
   part has come is not seen; it is like bytes that come later, which nothing tells from a response.)
2. Nothing is gathered without a cap: neither headers, nor a line that never ends, nor trailers.
3. All that is read is consumed before the call returns, so that all connections of a pool share one buffer. It holds
   more than TLS can: what TLS still held when the server closes both loops would drop.
4. Whatever the bytes, the end is ``completed`` or ``failed`` of the exchange, and never an exception of llhttp's: what a
   callback raises stops llhttp, and the reason is kept in ``_error``.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import ssl
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol, cast

import httptools

from batchrun.core.responses.http import Cause
from batchrun.edge.exchange import Caps, ExchangeError, ResponseHead, read_headers, too_many_headers

# --- One request and its response, as the pool and the connection see them ---
#
# A caller that wants the whole response (``BufferedExchange``) or a stream (``StreamedExchange``) subclasses
# ``Exchange``.
# Nothing here waits: pool and connection call, in this order, ``head_received`` once, ``body_received``
# and ``must_wait`` once per piece, and ``completed`` or ``failed`` once.


class ExchangeStage(Enum):
    """How far an exchange got."""

    QUEUED = auto()  # waits for a slot
    DIALING = auto()
    SENT = auto()  # or about to be: a byte of it may have left
    ENDED = auto()


class TimedOut(ExchangeError):
    """A time limit ran out."""


class ConnectionBroke(ExchangeError):
    """The network ended the connection, not the server."""


@dataclass(slots=True, eq=False)
class Slots:
    """How many exchanges of one kind are in flight, and which wait for one of those to end."""

    limit: int
    busy: int = 0
    waiting: deque[Exchange] = field(default_factory=deque)  # some may have been given up


class SendingConnection(Protocol):
    """The connection that an exchange is on."""

    @property
    def unwritten(self) -> int:
        """About how many bytes of the request were not yet handed to the operating system."""

    def resume(self) -> None:
        """Continue reading after `must_wait` returned True."""

    def abandon(self) -> None:
        """The exchange is given up: its response could not be distinguished from the next one."""


class Exchange(ABC):
    """One request and its response."""

    __slots__ = ("bodiless", "body", "connect", "connection", "dial", "head", "needs_fresh", "slots", "stage")

    def __init__(self, slots: Slots, head: bytes, body: bytes, method: str) -> None:
        self.slots = slots
        self.head = head
        self.body = body
        self.needs_fresh = method == "POST"  # a connection that was just used, or a new one
        self.bodiless = method == "HEAD"  # the response has no body, whatever its headers say
        self.connect: float | None = None  # seconds that a new connection may take
        self.stage = ExchangeStage.QUEUED
        self.dial: asyncio.Task[None] | None = None
        self.connection: SendingConnection | None = None

    @abstractmethod
    def head_received(self, status: int, head: ResponseHead, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Status and headers were read. Raises ExchangeError where the response cannot be used."""

    @abstractmethod
    def body_received(self, piece: bytes) -> bool:
        """A piece of the body was read; True when no more is wanted. Raises ExchangeError beyond a cap."""

    @abstractmethod
    def must_wait(self) -> bool:
        """The response is not complete: whether reading has to wait for `SendingConnection.resume`."""

    @abstractmethod
    def completed(self) -> None:
        """The response is complete."""

    @abstractmethod
    def failed(self, error: ExchangeError) -> None:
        """There is no complete response. `stage` still says how far it got."""


_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TARGET = re.compile(rb"/[!-~\x80-\xff]*")
_VALUE = re.compile(rb"[\t -~\x80-\xff]*")
_FRAMING = frozenset({b"content-length", b"host", b"transfer-encoding"})
_BODILESS = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"})


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The lines of `headers` without those that frame the request, which `request_head` writes. Raises ExchangeError.

    What could be read as another line, or as another request, is refused.
    """
    lines = []
    for name, value in headers:
        if _TOKEN.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            shown = name.decode("latin-1")
            raise ExchangeError(Cause.PROTOCOL, f"expected a header of printable characters on one line, got {shown!r}")
        if name.lower() not in _FRAMING:
            lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)


def request_head(method: bytes, target: bytes, host: bytes, lines: bytes, size: int) -> bytes:
    """The head of a request with a body of `size` bytes. Raises ExchangeError for an invalid method or path."""
    if _TARGET.fullmatch(target) is None:
        shown = target.decode("latin-1")
        raise ExchangeError(Cause.PROTOCOL, f"expected a path from the root of {host.decode('latin-1')}, got {shown!r}")
    if _TOKEN.fullmatch(method) is None or method == b"CONNECT":
        raise ExchangeError(Cause.PROTOCOL, f"expected the name of an HTTP method, got {method.decode('latin-1')!r}")
    if size or method not in _BODILESS:
        return b"%b %b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n\r\n" % (method, target, host, lines, size)
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (method, target, host, lines)


_SLICE = 64 * 1024  # bytes of a long body that are written at a time
_PLAIN = 64 * 1024  # bytes that are read at a time without TLS
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR


class ConnectionOwner(Protocol):
    """What a connection needs of its pool."""

    caps: Caps
    view: memoryview  # the buffer that all connections read into
    generation: int

    def opened(self, connection: Connection) -> None: ...
    def release(self, connection: Connection, slots: Slots, *, reusable: bool) -> None: ...
    def closed(self, connection: Connection) -> None: ...


class StopParsing(Exception):
    """Stops llhttp: the rest of what was read is of no interest."""


class Connection(asyncio.BufferedProtocol):
    """One connection of a pool; `last_used` is when its last response was complete, by the pool's clock."""

    __slots__ = (
        "_body_grew", "_bytes_without_body", "_caps", "_complete", "_error", "_exchange", "_head_complete", "_headers",
        "_interim", "_is_delimited", "_keep_alive", "_nothing_read", "_parser", "_poller", "_pool", "_read_paused",
        "_transport", "_unsent", "_view", "_write_paused", "generation", "is_new", "last_used",
    )  # fmt: skip

    def __init__(self, pool: ConnectionOwner) -> None:
        self._pool = pool
        self._caps = pool.caps
        self._view = pool.view
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._poller = select.poll()
        self._write_paused = False  # the server does not read
        self._read_paused = False  # we do not
        self._unsent: memoryview | None = None
        self.generation = pool.generation
        self.is_new = True  # no response has been received on it yet
        self.last_used = 0.0
        self._reset()

    def _reset(self) -> None:
        """Ready for the next response."""
        self._headers: list[tuple[bytes, bytes]] = []
        self._bytes_without_body = 0  # since the last piece of a body: of headers, of chunks' lengths, of trailers
        self._nothing_read = True
        self._head_complete = self._is_delimited = self._interim = False
        self._complete = self._keep_alive = False
        self._error: ExchangeError | None = None

    # for the pool

    def is_usable(self) -> bool:
        """Whether it is open and nothing waits to be read: neither its end nor bytes that no request asked for."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and not self._poller.poll(0)

    def send(self, exchange: Exchange) -> None:
        """Send a request; everything further is reported to its exchange."""
        transport = self._transport
        self._exchange = exchange
        exchange.connection = self
        if transport is None or transport.is_closing():
            self._fail(ExchangeError(Cause.DROPPED, "the connection was closed at once"))
            return
        exchange.stage = ExchangeStage.SENT
        if len(exchange.body) <= _SLICE:
            transport.write(exchange.head + exchange.body)
        else:
            transport.write(exchange.head)
            self._unsent = memoryview(exchange.body)
            self._write()

    @property
    def tls(self) -> ssl.SSLObject | None:
        return None if self._transport is None else self._transport.get_extra_info("ssl_object")

    @property
    def unwritten(self) -> int:
        waiting = len(self._unsent) if self._unsent is not None else 0
        return waiting + (self._transport.get_write_buffer_size() if self._transport is not None else 0)

    def abandon(self) -> None:
        """The exchange is given up: its response could not be distinguished from the next one."""
        self._exchange = None
        self.abort()

    def resume(self) -> None:
        if self._read_paused:
            self._read_paused = False
            if self._transport is not None:
                self._transport.resume_reading()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods, not by its class
        if self.tls is None:
            self._view = self._view[:_PLAIN]
        self._poller.register(transport.get_extra_info("socket").fileno(), _READABLE)
        self._pool.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_of_stream(exc)
        self._transport = None
        self._unsent = None
        self._pool.closed(self)

    def eof_received(self) -> None:
        self._end_of_stream(None)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._write()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        exchange = self._exchange
        if exchange is None:
            self.abort()
            return
        error = self._parse(self._view[:nbytes])
        if error is not None:
            self._fail(error)
        elif self._complete:
            if nbytes == len(self._view):
                self._keep_alive = False  # invariant 1
            self._finish(exchange)
        elif exchange.must_wait() and not self._read_paused and self._transport is not None:
            self._read_paused = True
            self._transport.pause_reading()

    # llhttp; what its callbacks raise stops it

    def _parse(self, data: memoryview) -> ExchangeError | None:
        """Parse `data`, whatever it is. `_complete` says whether the response is; an error ends the exchange."""
        self._body_grew = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                return self._error or self._unreadable(data, error)
            self._keep_alive = False  # there is more than the response
        self._nothing_read = False
        self._bytes_without_body = 0 if self._body_grew else self._bytes_without_body + len(data)
        if self._bytes_without_body > 2 * self._caps.header_bytes and not self._complete:
            return too_many_headers(self._caps)
        return None

    def on_message_begin(self) -> None:
        if self._complete:
            raise StopParsing

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))  # unused trailers too; `_parse` bounds both

    def on_headers_complete(self) -> None:
        exchange, status = self._exchange, self._parser.get_status_code()
        if exchange is None:
            raise StopParsing
        if status < 200:
            if status == 101:
                raise self._stop(
                    ExchangeError(Cause.PROTOCOL, "it switched to another protocol, which was not requested")
                )
            if status < 100:
                raise self._stop(ExchangeError(Cause.PROTOCOL, f"expected a status from 100 to 999, got {status:03}"))
            self._interim = True
            return
        try:
            head = read_headers(self._headers, self._caps)
            exchange.head_received(status, head, self._headers)
        except ExchangeError as error:
            raise self._stop(error) from None
        self._head_complete = True
        self._is_delimited = head.is_delimited
        if exchange.bodiless:
            self._keep_alive = self._parser.should_keep_alive()
            self._complete = True

    def on_body(self, piece: bytes) -> None:
        self._body_grew = True
        exchange = self._exchange
        if self._complete or exchange is None:
            raise StopParsing
        if not self._head_complete:  # it would be joined with that of the response
            raise self._stop(ExchangeError(Cause.PROTOCOL, "expected no body of an interim response, got one"))
        try:
            if exchange.body_received(piece):
                self._complete = True
                raise StopParsing
        except ExchangeError as error:
            raise self._stop(error) from None

    def on_message_complete(self) -> None:
        if self._interim:
            self._reset()
        elif not self._complete:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()

    def _stop(self, error: ExchangeError) -> StopParsing:
        self._error = error.with_traceback(None)  # its frames hold what was read so far
        return StopParsing()

    def _unreadable(self, data: memoryview, error: Exception) -> ExchangeError:
        """A response that is not HTTP. Quoted only where the whole first line was read: half a secret is not redacted."""
        reason = str(error).lower() or "unreadable"
        line, end, _ = bytes(data).partition(b"\n")
        quote = self._nothing_read and end and not self._head_complete
        quoted = f": {line.decode('latin-1').rstrip()}" if quote else ""
        return ExchangeError(Cause.PROTOCOL, f"the response is not HTTP/1.1, {reason}{quoted}")

    # ends of an exchange

    def _finish(self, exchange: Exchange) -> None:
        transport = self._transport
        reusable = self._keep_alive and transport is not None and not transport.is_closing()
        if reusable and exchange.body and self.unwritten:
            reusable = False  # the rest of the request would be taken for the next one
        self._exchange = None
        if exchange.bodiless and reusable:
            self._parser = httptools.HttpResponseParser(self)  # the old one still waits for a body
        self._reset()
        self.resume()
        self._pool.release(self, exchange.slots, reusable=reusable)
        exchange.completed()

    def _fail(self, error: ExchangeError) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            self.abort()
            return
        self._pool.release(self, exchange.slots, reusable=False)
        exchange.failed(error)

    def _end_of_stream(self, exc: Exception | None) -> None:
        """The connection ends: that completes a response without a length, and is too early for any other."""
        exchange = self._exchange
        if exchange is None:
            return
        if self._head_complete and not self._is_delimited and exc is None:
            self._keep_alive = False
            self._finish(exchange)
            return
        where = "within the response" if self._head_complete or not self._nothing_read else "before the response"
        if exc is None:
            self._fail(ExchangeError(Cause.DROPPED, f"the connection was closed {where}"))
        else:
            why = os.strerror(exc.errno).lower() if isinstance(exc, OSError) and exc.errno else exc
            self._fail(ConnectionBroke(Cause.DROPPED, f"the connection broke {where}: {why}"))

    def _write(self) -> None:
        transport = self._transport
        while self._unsent and not self._write_paused and transport is not None:
            part, self._unsent = self._unsent[:_SLICE], self._unsent[_SLICE:]
            transport.write(part)
