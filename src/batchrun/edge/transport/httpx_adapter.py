"""Our transport as a transport of httpx, or of httpx2: whichever package a request comes from, its response goes back to.

What a client does above a transport works as usual: auth, cookies, redirects, hooks, decoding, streaming. Not
supported: proxies, HTTP/2, sending a body while it is made (it is read into memory first), reason phrases, `trace` and
`network_stream`. A POST goes over a connection that was used within the last second or over a new one; nothing is
tried twice.

A response is read piece by piece, by httpx's four limits of inactivity: for a slot in the pool, for the connection, for
the server to take a piece of the request, and for the next piece of the response. One timer serves all four.
A slow reader is not late: the connection is not read while more than `HIGH` bytes wait.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import httpx

from batchrun.core.responses.http import Cause
from batchrun.core.text.readable import visible
from batchrun.edge.exchange import DEFAULT_CONNECTIONS, Caps, ExchangeError, ResponseHead, package_of, tls_context
from batchrun.edge.transport.connection import (
    ConnectionBroke,
    Exchange,
    ExchangeStage,
    Slots,
    TimedOut,
    header_lines,
    request_head,
)
from batchrun.edge.transport.pool import Address, ConnectionPool, ResumingContext, address_of, shared_buffer

HIGH = 256 * 1024  # bytes
_MAX_POOLS = 256  # more only while their connections are in use


class StreamEnded(Exception):
    """Why there is no complete response, and at which stage; `writing`: before the whole request was sent."""

    def __init__(self, error: ExchangeError, stage: ExchangeStage, *, writing: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.stage = stage
        self.writing = writing


class StreamedExchange(Exchange):
    """One exchange; `limits` are the seconds for pool, connect, write and read, each may be None."""

    __slots__ = (
        "_complete", "_error", "_held_bytes", "_interval", "_last_progress", "_limits", "_loop", "_pieces", "_pool",
        "_response_head", "_timer", "_unwritten", "_waiter",
    )  # fmt: skip

    def __init__(
        self,
        pool: ConnectionPool,
        slots: Slots,
        head: bytes,
        body: bytes,
        method: str,
        limits: Mapping[str, float | None],
    ) -> None:
        super().__init__(slots, head, body, method)
        self.connect = limits.get("connect")
        self._pool = pool
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._response_head: asyncio.Future[tuple[int, Sequence[tuple[bytes, bytes]]]] = self._loop.create_future()
        self._pieces: deque[bytes] = deque()
        self._held_bytes = 0
        self._complete = False
        self._error: StreamEnded | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._last_progress = self._loop.time()
        self._unwritten = 0  # bytes of the request, at the last check
        limits_set = [limit for name in ("pool", "write", "read") if (limit := limits.get(name)) is not None]
        self._interval = min(limits_set, default=None)
        self._timer = None if self._interval is None else self._loop.call_later(self._interval, self._check_limits)

    async def response_head(self) -> tuple[int, Sequence[tuple[bytes, bytes]]]:
        """Status and headers of the response. Raises StreamEnded."""
        self._pool.begin(self)
        try:
            return await self._response_head
        except asyncio.CancelledError:
            self.close()
            raise

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it is received. Raises StreamEnded where it is cut off."""
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._held_bytes -= len(piece)
                if self._held_bytes <= HIGH and self.stage is ExchangeStage.SENT and self.connection is not None:
                    self.connection.resume()
                yield piece
            if self._error is not None:
                raise self._error
            if self._complete:
                return
            self._last_progress = self._loop.time()
            self._waiter = self._loop.create_future()
            await self._waiter

    def close(self) -> None:
        """No more of it is wanted."""
        if self.stage is not ExchangeStage.ENDED:
            self._pool.give_up(self, ExchangeError(Cause.DROPPED, "the response was closed before its end"))

    # called by pool and connection

    def head_received(self, status: int, head: ResponseHead, pairs: Sequence[tuple[bytes, bytes]]) -> None:  # noqa: ARG002
        if not self._response_head.done():
            self._response_head.set_result((status, tuple(pairs)))

    def body_received(self, piece: bytes) -> bool:
        self._pieces.append(piece)
        self._held_bytes += len(piece)
        self._wake()
        return False

    def must_wait(self) -> bool:
        self._last_progress = self._loop.time()  # called whenever bytes were received, of an incomplete head too
        return self._held_bytes > HIGH

    def completed(self) -> None:
        self._complete = True
        self._close()

    def failed(self, error: ExchangeError) -> None:
        self._error = StreamEnded(error, self.stage, writing=self._unwritten > 0)
        if not self._response_head.done():
            self._response_head.set_exception(self._error)
        self._close()

    def _close(self) -> None:
        self.stage = ExchangeStage.ENDED
        self.connection = None
        if self._timer is not None:
            self._timer.cancel()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _check_limits(self) -> None:
        """Give up where the limit of the current stage has run out."""
        now = self._loop.time()
        left = self.connection.unwritten if self.connection is not None else 0
        nothing_awaited = self._response_head.done() and (self._waiter is None or self._waiter.done())
        if nothing_awaited or left < self._unwritten or self.stage is ExchangeStage.DIALING:  # which has its own limit
            self._last_progress = now
        self._unwritten = left
        name = "pool" if self.stage is ExchangeStage.QUEUED else "write" if left else "read"
        limit = self._limits.get(name)
        idle = now - self._last_progress
        if limit is not None and idle >= limit:
            self._pool.give_up(self, TimedOut(Cause.TIMEOUT, f"nothing happened within {limit:g} s"))
            return
        if self._interval is not None:
            delay = self._interval if limit is None else min(self._interval, limit - idle)
            self._timer = self._loop.call_later(delay, self._check_limits)


class Transport(httpx.AsyncBaseTransport):
    """``httpx.AsyncClient(transport=Transport())``: requests on llhttp and asyncio's protocols.

    `connections` limits those to each origin. `verify` is a TLS context; without one the public certificate authorities
    and those of SSL_CERT_FILE are trusted. Raises TypeError or ValueError for other values.
    """

    def __init__(self, *, connections: int = DEFAULT_CONNECTIONS, verify: ssl.SSLContext | None = None) -> None:
        if type(connections) is not int:
            raise TypeError(f"connections: expected a whole number, got {connections!r:.100}")
        if connections < 1:
            raise ValueError(f"connections: expected 1 or more, got {connections}; without any nothing can be sent")
        if verify is not None and not isinstance(verify, ssl.SSLContext):
            raise TypeError(
                f"verify: expected an ssl.SSLContext or None, got {verify!r:.100}; "
                "to trust a certificate of your own, give ssl.create_default_context(cafile=…)"
            )
        self._connections = connections
        self._tls = verify
        self._view = shared_buffer()
        self._pools: dict[Address, tuple[ConnectionPool, Slots]] = {}

    async def handle_async_request(self, request: Any) -> Any:
        """Send `request` (httpx's, or httpx2's); the response, whose body is still to be read."""
        package = package_of(request) or httpx
        try:
            streamed = self._exchange(package, request, await request.aread())
        except ExchangeError as error:
            raise package.LocalProtocolError(visible(str(error), 300), request=request) from None
        try:
            status, headers = await streamed.response_head()
        except StreamEnded as ended:
            raise _as_package_error(package, ended, request) from None
        stream = _stream_of(package)(streamed, request)
        return package.Response(status, headers=list(headers), stream=stream, extensions={"http_version": b"HTTP/1.1"})

    async def aclose(self) -> None:
        pools = [pool for pool, _ in self._pools.values()]
        self._pools.clear()
        for pool in pools:
            await pool.aclose()

    def drop_idle(self) -> None:
        """Close idle connections, those in use when their exchange ends: after a suspension they are stale."""
        for pool, _ in self._pools.values():
            pool.drop_idle()

    def _exchange(self, package: ModuleType, request: Any, body: bytes) -> StreamedExchange:
        url = request.url
        if url.scheme not in ("http", "https") or not url.host:
            raise package.UnsupportedProtocol(
                f"expected a URL of http or https, got {visible(str(url), 100)}", request=request
            )
        pool, slots = self._pool(address_of(url.scheme, url.raw_host, url.port))
        raw = request.headers.raw
        host = next(value for name, value in raw if name.lower() == b"host")
        head = request_head(request.method.encode("ascii"), url.raw_path, host, header_lines(raw), len(body))
        limits: Mapping[str, float | None] = request.extensions.get("timeout", {})
        return StreamedExchange(pool, slots, head, body, request.method, limits)

    def _pool(self, address: Address) -> tuple[ConnectionPool, Slots]:
        found = self._pools.get(address)
        if found is None:
            if len(self._pools) >= _MAX_POOLS:
                self._pools = {
                    address: entry for address, entry in self._pools.items() if not entry[0].is_empty or entry[1].busy
                }
            found = self._pools[address] = (self._new_pool(address), Slots(self._connections))
        return found

    def _new_pool(self, address: Address) -> ConnectionPool:
        if address.secure and self._tls is None:
            self._tls = ResumingContext.convert(tls_context(os.environ))
            self._tls.set_alpn_protocols(["http/1.1"])
        tls = self._tls if address.secure else None
        return ConnectionPool(address, tls, Caps(), max_open=self._connections, view=self._view)


@cache
def _stream_of(package: ModuleType) -> Any:
    """The class of a response's body; a client checks that it is one of its own package."""
    base: Any = package.AsyncByteStream

    class Stream(base):  # type: ignore[misc]
        def __init__(self, streamed: StreamedExchange, request: Any) -> None:
            self._streamed = streamed
            self._request = request

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for piece in self._streamed.pieces():
                    yield piece
            except StreamEnded as ended:
                raise _as_package_error(package, ended, self._request) from None

        async def aclose(self) -> None:
            self._streamed.close()

    return Stream


def _as_package_error(package: ModuleType, ended: StreamEnded, request: Any) -> Exception:
    """The exception of `package` for `ended`."""
    error, unsent = ended.error, ended.stage is not ExchangeStage.SENT
    if isinstance(error, TimedOut):
        late = "PoolTimeout" if ended.stage is ExchangeStage.QUEUED else "ConnectTimeout"
        name = late if unsent else "WriteTimeout" if ended.writing else "ReadTimeout"
    elif unsent:
        name = "ConnectError"
    elif isinstance(error, ConnectionBroke):
        name = "ReadError"
    else:
        name = "RemoteProtocolError" if error.cause in (Cause.PROTOCOL, Cause.DROPPED) else "ReadError"
    exception: Exception = getattr(package, name)(visible(str(error), 300), request=request)
    return exception
