"""Exchanges carried out by httpx, or by a client or transport that the user brings.

Without one it uses httpx's transports and not its client: those know no cookies, redirects, netrc, environment or
retries, so there is nothing to switch off. Two pools serve the origin. A POST goes over a connection that was used
within the last second, or over a new one: a server that closes an idle connection while a submit is being sent would
leave an unconfirmed row. Polls may use older ones.

Whether a byte of the request left is *observed*, not derived from exceptions: httpcore reports when it begins to write
a request (its ``trace`` extension). Exceptions cannot tell: a ``ReadError`` can come from a proxy's response to
CONNECT, long before the request is written. Where a user's transport reports nothing, only errors of connecting count
as unsent.

Of a user's client the headers and params are sent; its cookies, auth, retries and redirects are not used. httpx2's
classes are recognised by their shape; this module does not import it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

import anyio
import httpcore
import httpx
from anyio.streams.tls import TLSStream

from batchrun.core.responses.http import NOTHING_SENT, Answer, Cause, Failure, Request
from batchrun.core.settings.settings import SHORTEST_REDACTED, UsageError
from batchrun.edge.exchange import (
    CONNECT_TIMEOUT,
    DEFAULT_BUDGET,
    DEFAULT_CONNECTIONS,
    POLL_KEEPALIVE,
    POST_KEEPALIVE,
    Body,
    Budget,
    Caps,
    ExchangeError,
    failure_text,
    package_of,
    proxy_for,
    read_headers,
    tls_context,
    why_no_connection,
)
from batchrun.edge.redaction import Redactor


class Closable(Protocol):
    async def aclose(self) -> None: ...


T = TypeVar("T", bound=Closable)


class ClientPool(Generic[T]):
    """At most `most` of what `make` makes in use at once; who comes later waits, first come first served."""

    def __init__(self, make: Callable[[], T], limit: int, keepalive: float) -> None:
        self._make = make
        self._slots = asyncio.Semaphore(limit)
        self._keepalive = keepalive
        self._idle: deque[tuple[T, float]] = deque()  # the one used last is last
        self._in_use: set[T] = set()
        self._generation = 0

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[T]:
        async with self._slots:
            item = self._idle.pop()[0] if self._idle else self._make()
            self._in_use.add(item)
            generation = self._generation
            try:
                yield item
            finally:
                self._in_use.discard(item)
                with anyio.CancelScope(shield=True):  # a cancelled scope would leave what is to be closed open
                    if generation == self._generation:
                        now = time.monotonic()
                        self._idle.append((item, now))
                        while now - self._idle[0][1] > self._keepalive:
                            await self._idle.popleft()[0].aclose()
                    else:
                        await item.aclose()

    async def drop_idle(self) -> None:
        """Close idle ones now, those in use when they are given back."""
        self._generation += 1
        while self._idle:
            await self._idle.popleft()[0].aclose()

    async def aclose(self) -> None:
        await self.drop_idle()
        for item in tuple(self._in_use):
            await item.aclose()


@dataclass(slots=True)
class ExchangeProgress:
    """How far one exchange got, as httpcore reports it while it happens."""

    exact: bool = True  # every step is reported, so no report means nothing was written; not so with a user's client
    connecting: bool = False
    writing: bool = False
    answered: bool = False
    _loop_turned: bool = False

    async def observe(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith((".connect_tcp.started", ".start_tls.started")):
            self.connecting = True
        elif event.endswith("send_request_headers.started"):
            if info["request"].method != b"CONNECT":
                self.writing = True
        elif event.endswith("receive_response_headers.started"):
            self._loop_turned = False
            asyncio.get_running_loop().call_soon(self._note_turn)
        elif event.endswith("receive_response_headers.complete") and not self._loop_turned:
            # Bytes left over from the previous response would be taken for the response to this request, and one
            # job's result for another's. A read from the network takes a turn of the loop; this did not.
            raise ExchangeError(Cause.PROTOCOL, "a response arrived before its request; the connection is closed")

    def sent(self, *, known_unsent: bool) -> bool:
        """Whether a byte of the request may have left."""
        if self.writing or self.answered:
            return True
        return not (self.exact or self.connecting or known_unsent)

    def _note_turn(self) -> None:
        self._loop_turned = True


# --- What httpcore's network streams lack: responses that come before their request is sent, and a look at what is left ---
#
# httpcore reads a response only after the whole request was written. A server that refuses a large one early, and does
# not read the rest, would never be heard, or its response would be lost with the connection. `EagerStream` reads while it
# writes, as our own transport does, and passes over empty lines before a response.
#
# A response may be followed by bytes that were read with it: they wait in h11, in the TLS layer or in anyio's queue, and
# would be read as the next response. None of the three shows them publicly; `may_hold_more` looks, and where it cannot see
# it says yes: a connection too few is used again then, never one too many.


_SMALL = 64 * 1024  # bytes of a request that any socket takes at once
_READ = 64 * 1024  # bytes


class EagerStream(httpcore.AsyncNetworkStream):
    """A network stream that reads while it writes: a response that comes early ends the writing."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._early = b""  # read while the request was written
        self._at_start = False  # nothing of the response was read yet
        self._writing: asyncio.Task[None] | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's signature
        while True:
            if self._early:
                await asyncio.sleep(0)  # what took no turn of the loop counts as left over from an earlier exchange
                piece, self._early = self._early[:max_bytes], self._early[max_bytes:]
            else:
                piece = await self._stream.read(max_bytes, timeout)
            if not self._at_start or not piece:
                return piece
            if piece := piece.lstrip(b"\r\n"):
                self._at_start = False
                return piece

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as above
        self._at_start = True
        if len(buffer) <= _SMALL:
            await self._stream.write(buffer, timeout)
            return
        self._writing = asyncio.ensure_future(self._stream.write(buffer, timeout))
        reading = asyncio.ensure_future(self._stream.read(_READ))
        try:
            await asyncio.wait((self._writing, reading), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await _end(self._writing)
            raise
        finally:
            await _end(reading)
        if not reading.cancelled() and reading.exception() is None:
            self._early = reading.result()
        if not self._writing.done() or self._early:
            # It is left as it is: TLS could not read on after a record that was sent in part.
            raise httpcore.WriteError("the response arrived before the request was sent")
        self._writing.result()

    async def aclose(self) -> None:
        if self._writing is not None:
            await _end(self._writing)
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> httpcore.AsyncNetworkStream:
        return EagerStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def holds_more(self) -> bool:
        """Whether bytes that were received wait to be read."""
        return bool(self._early) or _below(self._stream)


class EagerBackend(httpcore.AsyncNetworkBackend):
    """A backend of httpcore whose streams are eager."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend) -> None:
        self._backend = backend

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return EagerStream(await self._backend.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


def may_hold_more(response: Any) -> bool:
    """Whether more was received on the connection of `response` than the response, whose body was read.

    Nothing is known, and False returned, where httpcore did not read it by HTTP/1.
    """
    extensions = response.extensions
    stream = extensions.get("network_stream")
    if stream is None or extensions.get("http_version") not in (b"HTTP/1.1", b"HTTP/1.0"):
        return False
    state = _h11_of(response.stream)
    if state is not None and state.trailing_data[0]:
        return True
    return stream.holds_more() if isinstance(stream, EagerStream) else _below(stream)


def _h11_of(stream: Any) -> Any:
    """The state of h11 under the body of a response, through the wrappers of client, transport, pool and connection."""
    while stream is not None and not hasattr(stream, "_h11_state"):
        names = ("_connection", "_httpcore_stream", "_stream")
        stream = next((getattr(stream, name) for name in names if hasattr(stream, name)), None)
    return None if stream is None else stream._h11_state  # noqa: SLF001 - see above


def _below(stream: Any) -> bool:
    """Whether the layers under a network stream of httpcore hold bytes; True where that cannot be seen."""
    try:
        stream = stream._stream  # noqa: SLF001 - as above
        while isinstance(stream, TLSStream):
            if stream._read_bio.pending or stream._ssl_object.pending():  # noqa: SLF001 - as above
                return True
            stream = stream.transport_stream
        return bool(stream._protocol.read_queue)  # noqa: SLF001 - as above
    except AttributeError:
        return True


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# --- The transport ---


_NEVER_SENT = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol", "InvalidURL"}
)
_CAUSES = {
    "ConnectError": Cause.CONNECT,
    "ConnectTimeout": Cause.CONNECT,
    "ProxyError": Cause.CONNECT,
    "TimeoutException": Cause.TIMEOUT,
    "NetworkError": Cause.DROPPED,
    "ProtocolError": Cause.PROTOCOL,
    "DecodingError": Cause.PROTOCOL,
    "UnsupportedProtocol": Cause.PROTOCOL,
    "InvalidURL": Cause.PROTOCOL,
}
_HUNG_UP = re.compile("server disconnected|peer closed connection", re.IGNORECASE)  # httpcore has no class for it
# At debug level httpcore logs response headers, and a hostile response echoes the key in one.
_LOGGERS = tuple(
    f"httpcore{generation}.{name}" for generation in ("", "2") for name in ("connection", "http11", "http2", "proxy")
)


class HttpxTransport:
    """An HTTP transport to one `origin` (``https://host[:port]``).

    `client` may be an ``AsyncClient`` or a transport of httpx or httpx2; the user closes it. It has its own
    proxies, pools and TLS settings. `connections` limits each of the two pools.
    HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE are read from `environment`, once, here.
    Raises UsageError where one of those cannot be used.
    """

    def __init__(
        self,
        origin: str,
        *,
        redactor: Redactor | None = None,
        client: Any = None,
        connections: int = DEFAULT_CONNECTIONS,
        connect_timeout: float = CONNECT_TIMEOUT,
        caps: Caps | None = None,
        budget: Budget | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._origin = origin
        self._redactor = redactor or Redactor()
        self._proxy_redactor = Redactor()  # of what a proxy says, where no result can be
        self._caps = caps or Caps()
        self._budget = budget or Budget(DEFAULT_BUDGET)
        self._connect_timeout = connect_timeout
        self._client = client
        self._pools: dict[str, ClientPool[httpx.AsyncHTTPTransport]] = {}
        self._package: ModuleType = httpx if client is None else _package_of(client)
        self._tls: ssl.SSLContext | None = None
        self._proxy: httpx.Proxy | None = None
        if client is None:
            self._read_environment(os.environ if environment is None else environment)
            self._pools["POST"] = self._pool(POST_KEEPALIVE, connections)
            self._pools["poll"] = self._pool(POLL_KEEPALIVE, connections)
        elif getattr(client, "auth", None) is not None:
            raise UsageError(
                "client: expected a client without auth of its own (it may send a request twice); "
                "leave out auth= and give the API key to batchrun"
            )
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._redactor.filter)

    async def exchange(self, request: Request, timeout: float) -> Answer | Failure:  # noqa: ASYNC109 - invariant 1 of `exchange`
        """The response to `request` within `timeout` seconds; raises nothing but cancellation."""
        progress = ExchangeProgress()
        try:
            async with asyncio.timeout(timeout) as alarm:
                return await self._carry_out(request, timeout, progress)
        except Exception as error:  # noqa: BLE001 - the one border where foreign exceptions end
            late = alarm.expired() and isinstance(error, TimeoutError)
            return self._failure(error, progress, f"no complete response within {timeout:g} s" if late else None)

    async def drop_idle(self) -> None:
        for pool in self._pools.values():
            await pool.drop_idle()

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._redactor.filter)

    def __repr__(self) -> str:
        return f"<HttpxTransport to {self._origin}>"

    def _read_environment(self, environment: Mapping[str, str]) -> None:
        # For http a context without authorities: loading them takes 20 ms, and verifies nothing.
        secure = self._origin.startswith("https:")
        self._tls = tls_context(environment) if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        proxy = proxy_for(self._origin, environment)
        if proxy is not None:
            for value in _passwords_of(proxy):
                if len(value) >= SHORTEST_REDACTED:
                    self._redactor.learn_value(value)
                self._proxy_redactor.learn_value(value)
            try:
                self._proxy = httpx.Proxy(proxy, ssl_context=self._tls if proxy.startswith("https:") else None)
            except (httpx.InvalidURL, ValueError):
                raise UsageError(
                    "HTTPS_PROXY: expected http://HOST:PORT or https://HOST:PORT; set it so, or unset it"
                ) from None

    async def _carry_out(self, request: Request, timeout: float, progress: ExchangeProgress) -> Answer:  # noqa: ASYNC109 - as above
        if not request.path.startswith("/"):
            raise ExchangeError(
                Cause.PROTOCOL, f"expected a path from the root of {self._origin}, got {request.path!r}"
            )
        # Twice this is below the timeout: a TLS handshake then ends by its own timeout, which closes its socket.
        connect = min(self._connect_timeout, timeout * 0.45)
        extensions = {
            "timeout": {"connect": connect, "read": None, "write": None, "pool": None},
            "trace": progress.observe,
        }
        url = self._origin + request.path
        headers = {"accept-encoding": "identity", **request.headers}
        if hasattr(self._client, "send"):
            return await self._with_client(request, url, headers, extensions, progress)
        http_request = self._package.Request(
            request.method, url, headers=headers, content=request.body, extensions=extensions
        )
        if self._client is not None:
            progress.exact = False
            return await self._read(request, await self._client.handle_async_request(http_request), progress)
        async with self._pools["POST" if request.method == "POST" else "poll"].lease() as transport:
            return await self._read(request, await transport.handle_async_request(http_request), progress)

    async def _with_client(
        self,
        request: Request,
        url: str,
        headers: Mapping[str, str],
        extensions: dict[str, Any],
        progress: ExchangeProgress,
    ) -> Answer:
        client = self._client
        http_request = client.build_request(
            request.method, url, headers=headers, content=request.body, timeout=None, extensions=extensions
        )
        http_request.headers.pop("cookie", None)
        if str(http_request.url.copy_with(raw_path=b"/")) != str(self._package.URL(self._origin + "/")):
            raise ExchangeError(Cause.PROTOCOL, f"the client would send this to another address than {self._origin}")
        progress.exact = False
        return await self._read(
            request, await client.send(http_request, stream=True, auth=None, follow_redirects=False), progress
        )

    async def _read(self, request: Request, response: Any, progress: ExchangeProgress) -> Answer:
        progress.answered = True
        share = self._budget.begin(can_wait=request.method != "POST")
        try:
            head = read_headers(response.headers.raw, self._caps)
            body = Body(response.status_code, head.coding, self._caps)
            async for chunk in response.stream:
                if body.take(chunk):
                    break  # the rest of an error's body; closing the response closes the connection
                await share.add_chunk(chunk)
            complete = body.complete()
        finally:
            share.end()
            more = may_hold_more(response)
            with anyio.CancelScope(shield=True):  # a cancelled scope would leave the connection open
                await response.aclose()
                if more:
                    await response.extensions["network_stream"].aclose()
        return Answer(response.status_code, self._redactor.headers(head.headers), self._redactor.raw(complete))

    def _pool(self, keepalive: float, connections: int) -> ClientPool[httpx.AsyncHTTPTransport]:
        tls = self._tls
        assert tls is not None
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=keepalive)
        proxy = self._proxy

        def make() -> httpx.AsyncHTTPTransport:
            transport = httpx.AsyncHTTPTransport(verify=tls, trust_env=False, limits=limits, proxy=proxy)
            pool = transport._pool  # noqa: SLF001 - httpx passes no backend on
            pool._network_backend = EagerBackend(pool._network_backend)  # noqa: SLF001 - as above
            return transport

        return ClientPool(make, connections, keepalive)

    def _failure(self, error: Exception, progress: ExchangeProgress, message: str | None) -> Failure:
        names = [cls.__name__ for cls in type(error).__mro__]
        if isinstance(error, ExchangeError):
            cause = error.cause
        else:
            cause = next((_CAUSES[name] for name in names if name in _CAUSES), Cause.DROPPED)
        if message is not None:
            cause = Cause.TIMEOUT
        elif cause is Cause.CONNECT:
            cause, message = why_no_connection(error)
        sent = progress.sent(known_unsent=not _NEVER_SENT.isdisjoint(names))
        text = message or str(error) or names[0]
        if cause is Cause.PROTOCOL and _HUNG_UP.search(text):
            cause = Cause.DROPPED
        proxy = None if self._proxy is None else str(self._proxy.url)
        text = failure_text(self._origin, cause, self._proxy_redactor.text(text), sent=sent, proxy=proxy)
        return Failure(sent, cause, self._redactor.shown(text) + ("" if sent else NOTHING_SENT))


def _passwords_of(proxy: str) -> set[str]:
    """What must not be shown of the user info in a proxy's URL: the password and all of it, as written and as sent."""
    written = urlsplit(proxy).netloc.rpartition("@")[0]
    user, _, password = written.partition(":")
    return {one for one in (password, unquote(password)) if one} | {
        one for one in (written, f"{unquote(user)}:{unquote(password)}") if password
    }


def _package_of(client: Any) -> ModuleType:
    package = package_of(client)
    if package is not None:
        return package
    if hasattr(client, "send") or hasattr(client, "handle_async_request"):
        return httpx
    raise UsageError(f"client: expected an httpx.AsyncClient or an asynchronous transport, got {type(client).__name__}")
