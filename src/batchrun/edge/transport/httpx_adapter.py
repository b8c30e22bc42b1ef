"""The wire as a transport of httpx, or of httpx2: whichever package a request comes from, its answer goes back to.

What a client does above a transport works as ever: auth, cookies, redirects, hooks, decoding, streaming. What
this transport does not: proxies, HTTP/2, sending a body while it is made (it is read into memory first), reason
phrases, `trace` and `network_stream`. A POST goes over a connection that was used within the last second or over
a new one; nothing is tried twice.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Mapping
from functools import cache
from types import ModuleType
from typing import Any

import httpx

from batchrun.core.responses.http import Cause
from batchrun.core.text.printable import visible
from batchrun.edge.exchange import DEFAULT_CONNECTIONS, LOOK_KEEPALIVE, POST_KEEPALIVE, Caps
from batchrun.edge.exchange.packages import package_of
from batchrun.edge.exchange.reading import Broken
from batchrun.edge.exchange.surroundings import tls_context
from batchrun.edge.transport.address import Address, place_at
from batchrun.edge.transport.exchange import ExchangeStage, Late, Slots, Torn
from batchrun.edge.transport.pool import ConnectionPool, shared_buffer
from batchrun.edge.transport.sessions import Remembering
from batchrun.edge.transport.streamed import Streamed, StreamEnded
from batchrun.edge.transport.writing import lines_of, written

_MOST_PLACES = 256  # kept without a connection


class Transport(httpx.AsyncBaseTransport):
    """``httpx.AsyncClient(transport=Transport())``: requests on llhttp and asyncio's protocols.

    `connections` bounds those to each origin. `verify` is a context for TLS; without one the public authorities
    are trusted, and those of SSL_CERT_FILE. Raises TypeError or ValueError for what is neither.
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
        """Send `request` (httpx's, or httpx2's); its answer, whose body is still to be read."""
        package = package_of(request) or httpx
        try:
            streamed = self._exchange(package, request, await request.aread())
        except Broken as fault:
            raise package.LocalProtocolError(visible(str(fault), 300), request=request) from None
        try:
            status, headers = await streamed.answered()
        except StreamEnded as ended:
            raise _as_in(package, ended, request) from None
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

    def _exchange(self, package: ModuleType, request: Any, body: bytes) -> Streamed:
        url = request.url
        if url.scheme not in ("http", "https") or not url.host:
            raise package.UnsupportedProtocol(
                f"expected a URL of http or https, got {visible(str(url), 100)}", request=request
            )
        pool, lane = self._pool(place_at(url.scheme, url.raw_host, url.port))
        raw = request.headers.raw
        named = next(value for name, value in raw if name.lower() == b"host")
        head = written(request.method.encode("ascii"), url.raw_path, named, lines_of(raw), len(body))
        limits: Mapping[str, float | None] = request.extensions.get("timeout", {})
        return Streamed(pool, lane, head, body, request.method, limits)

    def _pool(self, place: Address) -> tuple[ConnectionPool, Slots]:
        found = self._pools.get(place)
        if found is None:
            if len(self._pools) >= _MOST_PLACES:
                self._pools = {place: one for place, one in self._pools.items() if not one[0].is_empty or one[1].busy}
            found = self._pools[place] = (self._new_pool(place), Slots(self._connections))
        return found

    def _new_pool(self, place: Address) -> ConnectionPool:
        if place.secure and self._tls is None:
            self._tls = Remembering.made_of(tls_context(os.environ))
            self._tls.set_alpn_protocols(["http/1.1"])
        return ConnectionPool(
            place,
            self._tls if place.secure else None,
            Caps(),
            most=self._connections,
            post_keepalive=POST_KEEPALIVE,
            keepalive=LOOK_KEEPALIVE,
            view=self._view,
        )


@cache
def _stream_of(package: ModuleType) -> Any:
    """The class of an answer's body; a client asks whether it is one of its own package."""
    base: Any = package.AsyncByteStream

    class Stream(base):  # type: ignore[misc]
        def __init__(self, streamed: Streamed, request: Any) -> None:
            self._streamed = streamed
            self._request = request

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for piece in self._streamed.pieces():
                    yield piece
            except StreamEnded as ended:
                raise _as_in(package, ended, self._request) from None

        async def aclose(self) -> None:
            self._streamed.close()

    return Stream


def _as_in(package: ModuleType, ended: StreamEnded, request: Any) -> Exception:
    """What `package` raises in such a case."""
    fault, unsent = ended.fault, ended.stage is not ExchangeStage.SENT
    if isinstance(fault, Late):
        late = "PoolTimeout" if ended.stage is ExchangeStage.QUEUED else "ConnectTimeout"
        name = late if unsent else "WriteTimeout" if ended.writing else "ReadTimeout"
    elif unsent:
        name = "ConnectError"
    elif isinstance(fault, Torn):
        name = "ReadError"
    else:
        name = "RemoteProtocolError" if fault.cause in (Cause.PROTOCOL, Cause.DROPPED) else "ReadError"
    error: Exception = getattr(package, name)(visible(str(fault), 300), request=request)
    return error
