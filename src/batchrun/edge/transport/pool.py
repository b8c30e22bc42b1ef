"""The connections to one origin: which exchange goes on which, and which waits.

Taking a connection and giving it back costs the same for one connection and for a thousand: idle ones lie on a stack,
the one used last on top. Those never reached grow old at the bottom and are closed as others come back.
All that changes the pool is synchronous; only a new connection takes a task, and it belongs to one exchange.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from contextlib import suppress

from batchrun.core.responses.http import Cause
from batchrun.edge.exchange import POLL_KEEPALIVE, POST_KEEPALIVE, Caps, ExchangeError, why_no_connection
from batchrun.edge.transport.connection import Connection
from batchrun.edge.transport.dialing import Address, ResumingContext, dial
from batchrun.edge.transport.exchange import Exchange, ExchangeStage, Slots, TimedOut

BUFFER = 64 * 1024
_CLOSE_TIMEOUT = 5.0  # seconds that `aclose` waits for the event loop
MAX_DIALS = 100  # at once: with a thousand handshakes at a time each leaves 12 KB more of memory behind
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # suspension ages a connection


def shared_buffer() -> memoryview:
    """What all connections of one event loop may read into: what is read is consumed before the next read."""
    return memoryview(bytearray(BUFFER))


class ConnectionPool:
    """Connections to `address`; an idle one is used for POST_KEEPALIVE seconds by POSTs, POLL_KEEPALIVE by others."""

    def __init__(
        self, address: Address, tls: ssl.SSLContext | None, caps: Caps, *, max_open: int, view: memoryview
    ) -> None:
        self.caps = caps
        self.view = view
        self.generation = 0
        self._address = address
        self._tls = tls
        self._max_open = max_open  # idle connections are closed for new ones
        self._idle: deque[Connection] = deque()  # some may be closed by now
        self._open: set[Connection] = set()
        self._dial_slots = asyncio.Semaphore(MAX_DIALS)
        self._dials: set[asyncio.Task[None]] = set()
        self._closed = False
        self._all_closed = asyncio.Event()

    # called by the transports

    def begin(self, exchange: Exchange) -> None:
        """Start `exchange` as soon as one of its slots is free; everything further is reported to it."""
        slots = exchange.slots
        if self._closed:
            exchange.failed(ExchangeError(Cause.DROPPED, "the wire is closed"))
        elif slots.busy >= slots.limit:
            slots.waiting.append(exchange)
        else:
            slots.busy += 1
            self._start(exchange)

    def give_up(self, exchange: Exchange, error: ExchangeError) -> None:
        """End `exchange` with `error`: it is late, or no longer wanted."""
        stage, connection = exchange.stage, exchange.connection
        exchange.failed(error)
        exchange.stage = ExchangeStage.ENDED
        if stage is ExchangeStage.DIALING:
            assert exchange.dial is not None
            exchange.dial.cancel()
        elif stage is ExchangeStage.SENT:
            assert isinstance(connection, Connection)
            connection.abandon()
        if stage is not ExchangeStage.QUEUED:
            self._release_slot(exchange.slots)

    def drop_idle(self) -> None:
        """Close idle connections now, those in use when their exchange ends."""
        self.generation += 1
        while self._idle:
            self._idle.popleft().abort()

    @property
    def is_empty(self) -> bool:
        return not (self._open or self._dials)

    async def aclose(self) -> None:
        """Close everything; exchanges in flight fail."""
        self._closed = True
        self.drop_idle()
        for task in tuple(self._dials):
            task.cancel()
        await asyncio.gather(*self._dials, return_exceptions=True)
        for connection in tuple(self._open):
            connection.abort()
        if self._open:
            self._all_closed.clear()
            with suppress(TimeoutError):  # they are closed, even if the loop does not report it
                await asyncio.wait_for(self._all_closed.wait(), _CLOSE_TIMEOUT)

    # called by connections

    def opened(self, connection: Connection) -> None:
        self._open.add(connection)

    def release(self, connection: Connection, slots: Slots, *, reusable: bool) -> None:
        """The exchange on `connection` has ended."""
        if reusable and connection.generation == self.generation:
            if connection.is_new and isinstance(self._tls, ResumingContext):
                self._tls.remember(self._address.host, connection.tls)
            connection.is_new = False
            connection.last_used = now = time.clock_gettime(_CLOCK)
            self._idle.append(connection)
            while now - self._idle[0].last_used > POLL_KEEPALIVE:
                self._idle.popleft().abort()
        else:
            connection.abort()
        self._release_slot(slots)

    def closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._all_closed.set()

    # internal

    def _start(self, exchange: Exchange) -> None:
        connection = self._take_idle(exchange)
        if connection is not None:
            connection.send(exchange)
            return
        if len(self._open) >= self._max_open and self._idle:
            self._idle.popleft().abort()
        exchange.stage = ExchangeStage.DIALING
        exchange.dial = asyncio.get_running_loop().create_task(self._dial(exchange))
        self._dials.add(exchange.dial)
        exchange.dial.add_done_callback(self._dials.discard)

    def _take_idle(self, exchange: Exchange) -> Connection | None:
        """The connection that was used last, if that was recent enough and it is still open."""
        keepalive = POST_KEEPALIVE if exchange.needs_fresh else POLL_KEEPALIVE
        while self._idle:
            connection = self._idle[-1]
            if time.clock_gettime(_CLOCK) - connection.last_used > keepalive:
                return None
            self._idle.pop()
            if connection.is_usable():
                return connection
            connection.abort()
        return None

    async def _dial(self, exchange: Exchange) -> None:
        made: list[Connection] = []
        late = False

        def protocol() -> Connection:
            made.append(Connection(self))
            return made[0]

        try:
            async with self._dial_slots:
                # While this one waited for its turn another exchange may have ended.
                connection = self._take_idle(exchange)
                if connection is None:
                    try:
                        async with asyncio.timeout(exchange.connect) as alarm:
                            await dial(self._address, self._tls, protocol)
                    except TimeoutError:
                        late = alarm.expired()
                        raise
        except (Exception, asyncio.CancelledError) as error:  # whatever is raised: there is no connection
            for broken in made:
                broken.abort()
                self.closed(broken)  # uvloop reports nothing to a connection that was cancelled just after it was made
            if exchange.stage is ExchangeStage.DIALING:  # and was not given up
                exchange.failed(self._connect_error(error, late=late))
                self._release_slot(exchange.slots)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        (connection or made[0]).send(exchange)

    def _connect_error(self, error: BaseException, *, late: bool) -> ExchangeError:
        if self._closed:
            return ExchangeError(Cause.DROPPED, "the wire was closed")
        return TimedOut(Cause.CONNECT, "no connection in time") if late else ExchangeError(*why_no_connection(error))

    def _release_slot(self, slots: Slots) -> None:
        """One of `slots` is free: start the next exchange."""
        slots.busy -= 1
        while slots.waiting and slots.busy < slots.limit:
            following = slots.waiting.popleft()
            if following.stage is ExchangeStage.ENDED:
                continue
            if self._closed:
                following.failed(ExchangeError(Cause.DROPPED, "the wire was closed"))
                continue
            slots.busy += 1
            self._start(following)
