"""A server on a raw socket that sends exactly the bytes it was told to, when it was told to.

`async with HostileServer(script) as server` listens on a free port of this machine; `server.origin` is its
address and `server.received` what came. A script is bytes (sent after each request, then the connection is
closed), or an async function of a `Conversation`, called once for each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self


@dataclass
class Received:
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key == name]
        assert len(found) < 2, f"{name} was sent {len(found)} times"
        return found[0] if found else None


class Conversation:
    """One connection, seen from the server."""

    def __init__(self, server: HostileServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer

    async def request(self) -> Received | None:
        """The next request in full, or None at the end of the connection."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        received = Received(method, path, headers, b"")
        self.server.bytes_seen += len(head)
        received.body = await self.reader.readexactly(int(received.header("content-length") or 0))
        self.server.received.append(received)
        self.server.arrival.set()
        return received

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def drip(self, data: bytes, pause: float) -> None:
        """`data` byte by byte, with a pause before each."""
        for byte in data:
            await asyncio.sleep(pause)
            await self.send(bytes([byte]))

    async def hold(self) -> None:
        """Say nothing until the other side or the test ends."""
        while data := await self.reader.read(65_536):
            self.server.bytes_seen += len(data)
        await asyncio.Event().wait()

    def reset(self) -> None:
        """End the connection with RST instead of FIN."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = bytes | Callable[[Conversation], Awaitable[None]]


class HostileServer:
    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.script = script
        self.tls = tls
        self.host = host
        self.received: list[Received] = []
        self.connections = 0
        self.bytes_seen = 0  # of requests
        self.arrival = asyncio.Event()
        self._talks: set[asyncio.Task[None]] = set()
        self._over = False

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._talk, self.host, 0, ssl=self.tls, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._over = True
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        await self._server.wait_closed()

    async def wait_received(self, count: int) -> None:
        while len(self.received) < count:
            self.arrival.clear()
            await self.arrival.wait()

    async def wait_connected(self, count: int) -> None:
        while self.connections < count:
            self.arrival.clear()
            await self.arrival.wait()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._over:  # accepted before, begun only now; nobody would end it any more
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        self.connections += 1
        self.arrival.set()
        talk = Conversation(self, reader, writer)
        try:
            # A client that hangs up in the middle is what these tests provoke.
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
                if isinstance(self.script, bytes):
                    if await talk.request():
                        await talk.send(self.script)
                else:
                    await self.script(talk)
        except asyncio.CancelledError:
            pass  # the end of the test
        finally:
            writer.transport.abort() if self.tls else writer.close()
            self._talks.discard(task)


def answer(status: int = 200, body: bytes | dict | list = b"", **headers: str) -> bytes:
    """A well-formed answer; names of headers with `_` for `-`."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Word", f"content-length: {len(raw)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + raw


def always(data: bytes) -> Callable[[Conversation], Awaitable[None]]:
    """The same bytes for every request, on connections that stay open."""

    async def script(talk: Conversation) -> None:
        while await talk.request():
            await talk.send(data)

    return script
