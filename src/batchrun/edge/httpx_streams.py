"""What httpcore's network streams lack: responses that come before their request is sent, and a look at what is left.

httpcore reads a response only after the whole request was written. A server that refuses a large one early, and does
not read the rest, would never be heard, or its response would be lost with the connection. `EagerStream` reads while it
writes, as our own transport does, and passes over empty lines before a response.

A response may be followed by bytes that were read with it: they wait in h11, in the TLS layer or in anyio's queue, and
would be read as the next response. None of the three shows them publicly; `may_hold_more` looks, and where it cannot see
it says yes: a connection too few is used again then, never one too many.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
from anyio.streams.tls import TLSStream

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
            raise httpcore.WriteError("the answer came before the request was sent")
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
    return None if stream is None else stream._h11_state  # noqa: SLF001 - see the module's docstring


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
