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
import ssl
from typing import Protocol, cast

import httptools

from batchrun.core.responses.http import Cause
from batchrun.edge.exchange import Caps
from batchrun.edge.exchange.reading import Broken
from batchrun.edge.transport.answering import Answering
from batchrun.edge.transport.exchange import Exchange, ExchangeStage, Slots, Torn

_SLICE = 64 * 1024  # of a long body, at a time
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR


class Keeper(Protocol):
    """What a connection needs of its pool."""

    caps: Caps
    view: memoryview  # the buffer that all connections read into
    generation: int

    def made(self, connection: Connection) -> None: ...
    def returned(self, connection: Connection, lane: Slots, *, fit: bool) -> None: ...
    def lost(self, connection: Connection) -> None: ...


class Connection(Answering, asyncio.BufferedProtocol):
    """One connection of a pool; `used` is when its last answer ended, by the pool's clock."""

    __slots__ = (
        "_blocked",
        "_paused",
        "_pool",
        "_transport",
        "_unsent",
        "_view",
        "_watch",
        "generation",
        "is_new",
        "used",
    )

    def __init__(self, pool: Keeper) -> None:
        super().__init__(pool.caps)
        self._pool = pool
        self._view = pool.view
        self._transport: asyncio.Transport | None = None
        self._watch = select.poll()
        self._blocked = False  # the other side does not read
        self._paused = False  # we do not
        self._unsent: memoryview | None = None
        self.generation = pool.generation
        self.is_new = True  # no answer has come on it yet
        self.used = 0.0

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
        fault = self._read(data)
        if fault is not None:
            self._fail(fault)
        elif self._whole:
            self._finish(exchange)
        elif exchange.waits() and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    # ends

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

    def _write(self) -> None:
        transport = self._transport
        while self._unsent and not self._blocked and transport is not None:
            part, self._unsent = self._unsent[:_SLICE], self._unsent[_SLICE:]
            transport.write(part)
