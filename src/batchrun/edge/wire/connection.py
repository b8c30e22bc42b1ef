"""One connection: bytes of requests out, bytes of answers in, read by llhttp.

Laws:

1. Bytes that come while nobody asked end the connection: they would be taken for the next answer, and one job's
   result for another's. So do bytes beyond an answer, and a connection on which something waits is not used.
2. Nothing is gathered without a cap: neither headers, nor a line that never ends, nor trailers.
3. All that is read is taken before the call ends, so that all connections of a pool share one buffer.
4. Whatever the bytes, the end is ``ended`` or ``failed`` of the exchange, and never an exception of llhttp's.
"""

from __future__ import annotations

import asyncio
import os
import select
from typing import Protocol, cast

import httptools

from batchrun.core.answer import Cause
from batchrun.edge.exchange import Caps
from batchrun.edge.exchange.reading import Broken, read_headers, too_many_headers
from batchrun.edge.wire.exchange import Exchange, Lane, Stage, Torn

_SLICE = 64 * 1024  # of a long body, at a time
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR


class Keeper(Protocol):
    """What a connection needs of its pool."""

    caps: Caps
    view: memoryview  # the buffer that all connections read into
    generation: int

    def made(self, connection: Connection) -> None: ...
    def returned(self, connection: Connection, lane: Lane, *, fit: bool) -> None: ...
    def lost(self, connection: Connection) -> None: ...


class _Enough(Exception):
    """Stops llhttp: the rest of what was read is of no interest."""


class Connection(asyncio.BufferedProtocol):
    """One connection of a pool; `used` is when its last answer ended, by the pool's clock."""

    __slots__ = (
        "_barren", "_blocked", "_exchange", "_fault", "_first", "_headed", "_interim", "_keep", "_measured", "_moved", "_pairs",
        "_parser", "_paused", "_pool", "_transport", "_unsent", "_view", "_watch", "_whole", "generation", "used",
    )  # fmt: skip

    def __init__(self, pool: Keeper) -> None:
        self._pool = pool
        self._view = pool.view
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._watch = select.poll()
        self._exchange: Exchange | None = None
        self._blocked = False  # the other side does not read
        self._paused = False  # we do not
        self._unsent: memoryview | None = None
        self.generation = pool.generation
        self.used = 0.0
        self._reset()

    def _reset(self) -> None:
        """Ready for the next answer."""
        self._pairs: list[tuple[bytes, bytes]] = []
        self._barren = 0  # bytes since the last piece of a body: of headers, of chunks' lengths, of trailers
        self._first = True  # nothing of the answer was read
        self._headed = self._measured = self._interim = False
        self._whole = self._keep = False
        self._fault: Broken | None = None

    # for the pool

    def is_fit(self) -> bool:
        """Whether it is open and nothing waits to be read: neither a farewell nor what nobody asked for."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and not self._watch.poll(0)

    def carry(self, exchange: Exchange) -> None:
        """Send a request; its exchange is told the rest."""
        transport = self._transport
        self._exchange = exchange
        exchange.carrier = self
        if transport is None or transport.is_closing():
            self._fail(Broken(Cause.DROPPED, "the connection was closed at once"))
            return
        exchange.stage = Stage.SENT
        if len(exchange.body) <= _SLICE:
            transport.write(exchange.head + exchange.body)
        else:
            transport.write(exchange.head)
            self._unsent = memoryview(exchange.body)
            self._write()

    @property
    def unwritten(self) -> int:
        waiting = len(self._unsent) if self._unsent is not None else 0
        return waiting + (self._transport.get_write_buffer_size() if self._transport is not None else 0)

    def let_go(self) -> None:
        """The exchange is given up: the answer, when it comes, could not be told from that of the next."""
        self._exchange = None
        self.abort()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._transport is not None:
                self._transport.resume_reading()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods, not by its class
        self._watch.register(transport.get_extra_info("socket").fileno(), _READABLE)
        self._pool.made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish_at_the_end(exc)
        self._transport = None
        self._unsent = None
        self._pool.lost(self)

    def eof_received(self) -> None:
        self._finish_at_the_end(None)

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._write()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self.feed(self._view[:nbytes])

    def feed(self, data: memoryview) -> None:
        """Read `data`, whatever it is."""
        exchange = self._exchange
        if exchange is None:
            self.abort()
            return
        self._moved = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._whole:
                self._fail(self._fault or self._unreadable(data, error))
                return
            self._keep = False
        if self._whole:
            self._finish(exchange)
            return
        self._first = False
        self._barren = 0 if self._moved else self._barren + len(data)
        if self._barren > 2 * self._pool.caps.header_bytes:
            self._fail(too_many_headers(self._pool.caps))
        elif exchange.waits() and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    # llhttp; what is raised here stops it

    def on_message_begin(self) -> None:
        if self._whole:
            raise _Enough

    def on_header(self, name: bytes, value: bytes) -> None:
        self._pairs.append((name, value))  # trailers too, which nobody reads; `feed` bounds both

    def on_headers_complete(self) -> None:
        exchange, status = self._exchange, self._parser.get_status_code()
        assert exchange is not None
        if status < 200:
            if status == 101:
                raise self._stop(Broken(Cause.PROTOCOL, "it turned to another protocol, which nobody asked for"))
            self._interim = True
            return
        try:
            head = read_headers(self._pairs, self._pool.caps)
            exchange.headed(status, head, self._pairs)
        except Broken as fault:
            raise self._stop(fault) from None
        self._headed = True
        self._measured = head.measured
        if exchange.headless:
            self._keep = self._parser.should_keep_alive()
            self._whole = True

    def on_body(self, piece: bytes) -> None:
        self._moved = True
        exchange = self._exchange
        if self._whole or exchange is None:
            raise _Enough
        try:
            if exchange.took(piece):
                self._whole = True
                raise _Enough
        except Broken as fault:
            raise self._stop(fault) from None

    def on_message_complete(self) -> None:
        if self._interim:
            self._reset()
        elif not self._whole:
            self._whole = True
            self._keep = self._parser.should_keep_alive()

    # ends

    def _stop(self, fault: Broken) -> _Enough:
        self._fault = fault.with_traceback(None)  # its frames hold what was read so far
        return _Enough()

    def _finish(self, exchange: Exchange) -> None:
        transport = self._transport
        fit = self._keep and transport is not None and not transport.is_closing()
        if fit and exchange.body and self.unwritten:
            fit = False  # the rest of the request would be taken for the next one
        self._exchange = None
        if exchange.headless and fit:
            self._parser = httptools.HttpResponseParser(self)  # the old one still waits for a body
        self._reset()
        self.resume()
        self._pool.returned(self, exchange.lane, fit=fit)
        exchange.ended()

    def _fail(self, fault: Broken) -> None:
        exchange = self._exchange
        assert exchange is not None
        self._exchange = None
        self._pool.returned(self, exchange.lane, fit=False)
        exchange.failed(fault)

    def _finish_at_the_end(self, exc: Exception | None) -> None:
        """The connection ends: of an answer without a length that is the last byte, of any other it is too early."""
        exchange = self._exchange
        if exchange is None:
            return
        if self._headed and not self._measured and exc is None:
            self._keep = False
            self._finish(exchange)
            return
        where = "within the answer" if self._headed or not self._first else "before the answer"
        if exc is None:
            self._fail(Broken(Cause.DROPPED, f"the connection was closed {where}"))
        else:
            why = os.strerror(exc.errno).lower() if isinstance(exc, OSError) and exc.errno else exc
            self._fail(Torn(Cause.DROPPED, f"the connection broke {where}: {why}"))

    def _unreadable(self, data: memoryview, error: Exception) -> Broken:
        """An answer that is not HTTP; quoted only where the whole first line is at hand: half a secret has no form."""
        said = str(error).lower() or "not to be read"
        line, end, _ = bytes(data).partition(b"\n")
        quoted = f": {line.decode('latin-1').rstrip()}" if self._first and end and not self._headed else ""
        return Broken(Cause.PROTOCOL, f"the answer is no HTTP/1.1, {said}{quoted}")

    def _write(self) -> None:
        transport = self._transport
        while self._unsent and not self._blocked and transport is not None:
            part, self._unsent = self._unsent[:_SLICE], self._unsent[_SLICE:]
            transport.write(part)
