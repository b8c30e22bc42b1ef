"""The connections to one origin: which exchange goes on which, and which waits.

Taking a connection and giving it back costs the same for one connection and for a thousand: idle ones lie on a stack,
the one used last on top. Those never reached grow old at the bottom and are closed as others come back.
All that changes the pool is synchronous; only a new connection takes a task, and it belongs to one exchange.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import httpx

from batchrun.core.responses.http import Cause
from batchrun.core.settings.settings import UsageError
from batchrun.edge.exchange import (
    NO_CONNECTION_IN_TIME,
    POLL_KEEPALIVE,
    POST_KEEPALIVE,
    Caps,
    ExchangeError,
    why_no_connection,
)
from batchrun.edge.transport.connection import Connection, Exchange, ExchangeStage, Slots, TimedOut

# --- Where a connection leads and how it is made: address, TCP, TLS ---
#
# Where a name has several addresses their families are tried in turns, each address a quarter of a second after
# the one before, and the first that answers is used (RFC 8305, "happy eyeballs"). asyncio's own way of doing
# that, ``happy_eyeballs_delay``, is unknown to uvloop; this one runs on both.
#
# TLS sessions are kept for the next connection: a handshake that resumes one costs half, and one round trip less in
# TLS 1.2. asyncio and uvloop do not let a caller pass a session; both ask the context for the TLS object, so the
# context passes it. A session belongs to its context: what was verified when it began was verified by the same
# authorities and for the same name.


_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """One origin."""

    scheme: str
    host: str  # a name in ASCII, or an address without brackets
    port: int
    host_header: bytes  # the value of the Host header

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host_header.decode('ascii')}"


def parse_origin(origin: str) -> Address:
    """The address in ``https://host[:port]``. Raises UsageError for anything else."""
    try:
        url = httpx.URL(origin)
        is_origin = not url.userinfo and url.raw_path == b"/" and not url.fragment
    except httpx.InvalidURL:
        is_origin = False
    if not is_origin or url.scheme not in _PORTS or not url.host:
        raise UsageError(f"expected an origin such as https://host or http://host:port, got {origin!r}")
    return address_of(url.scheme, url.raw_host, url.port)


def address_of(scheme: str, raw_host: bytes, port: int | None) -> Address:
    """The address in the parts of a URL; `raw_host` is ASCII without brackets, no `port` means the default one."""
    host = raw_host.decode("ascii")
    usual = _PORTS[scheme]
    host_header = f"[{host}]" if ":" in host else host
    if port is not None and port != usual:
        host_header = f"{host_header}:{port}"
    return Address(scheme, host, port or usual, host_header.encode("ascii"))


ATTEMPT_DELAY = 0.25  # seconds

_SocketAddress = tuple[int, int, int, Any]  # family, type, protocol, socket address


async def dial(address: Address, tls: ssl.SSLContext | None, protocol: Callable[[], asyncio.BufferedProtocol]) -> None:
    """Connect `protocol` to `place`. Raises OSError (ssl.SSLError among them), or a group of them."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    connected = await _connect_first(
        interleaved([(family, kind, proto, where) for family, kind, proto, _, where in found])
    )
    # From here on the transport owns the socket, and closes it also where the handshake fails.
    await loop.create_connection(
        protocol, sock=connected, ssl=tls, server_hostname=address.host if tls is not None else None
    )  # fmt: skip


def interleaved(addresses: Iterable[_SocketAddress]) -> list[_SocketAddress]:
    """`addresses` in their order, but with families taking turns."""
    families: dict[int, list[_SocketAddress]] = {}
    for one in addresses:
        families.setdefault(one[0], []).append(one)
    return [one for one in chain.from_iterable(zip_longest(*families.values())) if one is not None]


async def _connect_first(addresses: list[_SocketAddress]) -> socket.socket:
    """A socket connected to the first of `addresses` that answers."""
    if len(addresses) == 1:
        return await _connect(addresses[0])
    left = deque(addresses)
    tries: list[asyncio.Task[socket.socket]] = []
    errors: list[Exception] = []
    try:
        while True:
            if left:
                tries.append(asyncio.create_task(_connect(left.popleft())))
            open_tries = [one for one in tries if not one.done()]
            if not open_tries:
                raise ExceptionGroup("no address responds", errors) if errors else OSError("no address")
            await asyncio.wait(open_tries, timeout=ATTEMPT_DELAY if left else None, return_when=asyncio.FIRST_COMPLETED)
            errors = [one.exception() for one in tries if one.done() and one.exception() is not None]  # type: ignore[misc]
            for one in tries:
                if one.done() and one.exception() is None:
                    tries.remove(one)
                    return one.result()
    finally:
        for one in tries:
            one.cancel()
        for result in await asyncio.gather(*tries, return_exceptions=True):
            if isinstance(result, socket.socket):
                result.close()


async def _connect(address: _SocketAddress) -> socket.socket:
    family, kind, proto, where = address
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)  # noqa: FBT003 - the standard library's
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


_MAX_SESSIONS = 256  # names


class ResumingContext(ssl.SSLContext):
    """A context that offers the last session of a name to the next connection to it."""

    _sessions: dict[str, ssl.SSLSession]

    @classmethod
    def convert(cls, context: ssl.SSLContext) -> ResumingContext:
        """`context` itself, which keeps sessions from now on."""
        context.__class__ = cls
        assert isinstance(context, cls)
        context._sessions = {}  # noqa: SLF001 - its own
        return context

    def remember(self, name: str, tls: ssl.SSLObject | None) -> None:
        """Keep the session of `tls`, which is complete after the first response."""
        if tls is not None and (session := tls.session) is not None and session.has_ticket:
            if len(self._sessions) >= _MAX_SESSIONS:
                self._sessions.clear()
            self._sessions[name] = session

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - ssl's signature
        server_hostname: Any = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        known = session or self._sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, known)


# Bytes. Both loops give TLS at most 256 KiB at once; of a record, at most 16 KiB, it may hold a part from before.
BUFFER = 512 * 1024
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
            exchange.failed(ExchangeError(Cause.DROPPED, "the transport is closed"))
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
        if stage is ExchangeStage.DIALING and exchange.dial is not None:
            exchange.dial.cancel()
        elif stage is ExchangeStage.SENT and connection is not None:
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
            return ExchangeError(Cause.DROPPED, "the transport was closed")
        return TimedOut(Cause.CONNECT, NO_CONNECTION_IN_TIME) if late else ExchangeError(*why_no_connection(error))

    def _release_slot(self, slots: Slots) -> None:
        """One of `slots` is free: start the next exchange."""
        slots.busy -= 1
        while slots.waiting and slots.busy < slots.limit:
            following = slots.waiting.popleft()
            if following.stage is ExchangeStage.ENDED:
                continue
            if self._closed:
                following.failed(ExchangeError(Cause.DROPPED, "the transport was closed"))
                continue
            slots.busy += 1
            self._start(following)
