"""The connections to one place: which exchange goes on which, and which waits.

Taking one and giving it back costs the same for one connection and for a thousand: idle ones lie on a stack,
the one used last on top. What is never reached grows old at the bottom and is closed as others come back.
All that changes the pool is synchronous; only a new connection takes a task, and it belongs to one exchange.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from contextlib import suppress

from batchrun.core.responses.http import Cause
from batchrun.edge.exchange import Caps
from batchrun.edge.exchange.causes import why_no_connection
from batchrun.edge.exchange.reading import Broken
from batchrun.edge.transport.address import Address
from batchrun.edge.transport.connection import Connection
from batchrun.edge.transport.dialing import dial
from batchrun.edge.transport.exchange import Exchange, ExchangeStage, Late, Slots
from batchrun.edge.transport.sessions import Remembering

BUFFER = 64 * 1024
_FAREWELL = 5.0  # seconds
DIALS = 100  # at once: a thousand handshakes at a time leave 12 KB more of memory each behind
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # after a suspension a connection is old


def shared_buffer() -> memoryview:
    """What all connections of one event loop may read into: whatever is read is taken before the next is."""
    return memoryview(bytearray(BUFFER))


class ConnectionPool:
    """Connections to `place`; `post_keepalive` and `keepalive` are the seconds for which an idle one is used."""

    def __init__(
        self,
        place: Address,
        tls: ssl.SSLContext | None,
        caps: Caps,
        *,
        most: int,
        post_keepalive: float,
        keepalive: float,
        view: memoryview,
    ) -> None:
        self.caps = caps
        self.view = view
        self.generation = 0
        self._place = place
        self._tls = tls
        self._most = most  # open at once; what is idle gives way to what is new
        self._post_keepalive = post_keepalive
        self._keepalive = keepalive
        self._idle: deque[Connection] = deque()  # some may be closed by now
        self._open: set[Connection] = set()
        self._turns = asyncio.Semaphore(DIALS)
        self._dials: set[asyncio.Task[None]] = set()
        self._closed = False
        self._all_lost = asyncio.Event()

    # for exchanges

    def begin(self, exchange: Exchange) -> None:
        """Carry `exchange` out as soon as its lane has room; it is told the rest."""
        lane = exchange.lane
        if self._closed:
            exchange.failed(Broken(Cause.DROPPED, "the wire is closed"))
        elif lane.busy >= lane.most:
            lane.waiting.append(exchange)
        else:
            lane.busy += 1
            self._start(exchange)

    def give_up(self, exchange: Exchange, fault: Broken) -> None:
        """End `exchange` with `fault`: it is late, or nobody waits for it any more."""
        stage, carrier = exchange.stage, exchange.carrier
        exchange.failed(fault)
        exchange.stage = ExchangeStage.OVER
        if stage is ExchangeStage.DIALING:
            assert exchange.dial is not None
            exchange.dial.cancel()
        elif stage is ExchangeStage.SENT:
            assert isinstance(carrier, Connection)
            carrier.let_go()
        if stage is not ExchangeStage.QUEUED:
            self._leave(exchange.lane)

    def drop_idle(self) -> None:
        """Close what is idle now, and what is in use when its exchange ends."""
        self.generation += 1
        while self._idle:
            self._idle.popleft().abort()

    @property
    def is_empty(self) -> bool:
        return not (self._open or self._dials)

    async def aclose(self) -> None:
        """Close everything; exchanges that are under way fail."""
        self._closed = True
        self.drop_idle()
        for task in tuple(self._dials):
            task.cancel()
        await asyncio.gather(*self._dials, return_exceptions=True)
        for connection in tuple(self._open):
            connection.abort()
        if self._open:
            self._all_lost.clear()
            with suppress(TimeoutError):  # they are closed; a loop that does not say so holds nobody
                await asyncio.wait_for(self._all_lost.wait(), _FAREWELL)

    # for connections

    def made(self, connection: Connection) -> None:
        self._open.add(connection)

    def returned(self, connection: Connection, lane: Slots, *, fit: bool) -> None:
        """The exchange on `connection` has ended."""
        if fit and connection.generation == self.generation:
            if connection.is_new and isinstance(self._tls, Remembering):
                self._tls.remember(self._place.host, connection.tls)
            connection.is_new = False
            connection.used = now = time.clock_gettime(_CLOCK)
            self._idle.append(connection)
            while now - self._idle[0].used > self._keepalive:
                self._idle.popleft().abort()
        else:
            connection.abort()
        self._leave(lane)

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._all_lost.set()

    # inside

    def _start(self, exchange: Exchange) -> None:
        connection = self._fitting(exchange)
        if connection is not None:
            connection.carry(exchange)
            return
        if len(self._open) >= self._most and self._idle:
            self._idle.popleft().abort()
        exchange.stage = ExchangeStage.DIALING
        exchange.dial = asyncio.get_running_loop().create_task(self._dial(exchange))
        self._dials.add(exchange.dial)
        exchange.dial.add_done_callback(self._dials.discard)

    def _fitting(self, exchange: Exchange) -> Connection | None:
        """The connection that was used last, if that was lately enough and it still stands."""
        keepalive = self._post_keepalive if exchange.fresh else self._keepalive
        while self._idle:
            connection = self._idle[-1]
            if time.clock_gettime(_CLOCK) - connection.used > keepalive:
                return None
            self._idle.pop()
            if connection.is_fit():
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
            async with self._turns:
                # While this one waited for its turn another exchange may have ended.
                connection = self._fitting(exchange)
                if connection is None:
                    try:
                        async with asyncio.timeout(exchange.connect) as alarm:
                            await dial(self._place, self._tls, protocol)
                    except TimeoutError:
                        late = alarm.expired()
                        raise
        except (Exception, asyncio.CancelledError) as error:  # whatever the stack raises: there is no connection
            for broken in made:
                broken.abort()
                self.lost(broken)  # uvloop closes what a cancel came upon just made, and tells it nothing
            if exchange.stage is ExchangeStage.DIALING:  # and was not given up
                exchange.failed(self._why(error, late=late))
                self._leave(exchange.lane)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        (connection or made[0]).carry(exchange)

    def _why(self, error: BaseException, *, late: bool) -> Broken:
        if self._closed:
            return Broken(Cause.DROPPED, "the wire was closed")
        return Late(Cause.CONNECT, "no connection in time") if late else Broken(*why_no_connection(error))

    def _leave(self, lane: Slots) -> None:
        """A place in `lane` is free: the next one starts."""
        lane.busy -= 1
        while lane.waiting and lane.busy < lane.most:
            following = lane.waiting.popleft()
            if following.stage is ExchangeStage.OVER:
                continue
            if self._closed:
                following.failed(Broken(Cause.DROPPED, "the wire was closed"))
                continue
            lane.busy += 1
            self._start(following)
