"""Where a connection leads and how it is made: address, TCP, TLS.

Where a name has several addresses their families are tried in turns, each address a quarter of a second after
the one before, and the first that answers is used (RFC 8305, "happy eyeballs"). asyncio's own way of doing
that, ``happy_eyeballs_delay``, is unknown to uvloop; this one runs on both.

TLS sessions are kept for the next connection: a handshake that resumes one costs half, and one round trip less in
TLS 1.2. asyncio and uvloop do not let a caller pass a session; both ask the context for the TLS object, so the
context passes it. A session belongs to its context: what was verified when it began was verified by the same
authorities and for the same name.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import httpx

from batchrun.core.settings.settings import UsageError

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
                raise ExceptionGroup("no address answers", errors) if errors else OSError("no address")
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
