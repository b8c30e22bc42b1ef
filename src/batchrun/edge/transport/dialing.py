"""A new connection: name, address, TCP, TLS.

Where a name has several addresses they are tried by turns of their families, each a quarter of a second after
the one before, and the first that answers is taken (RFC 8305, "happy eyeballs"). asyncio's own way of doing
that, ``happy_eyeballs_delay``, is unknown to uvloop; this one runs on both.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain, zip_longest
from typing import Any

from batchrun.edge.transport.address import Address

ATTEMPT_DELAY = 0.25

_Address = tuple[int, int, int, Any]  # family, type, protocol, socket address


async def dial(place: Address, tls: ssl.SSLContext | None, protocol: Callable[[], asyncio.BufferedProtocol]) -> None:
    """Connect `protocol` to `place`. Raises OSError (ssl.SSLError among them), or a group of them."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    joined = await _first(by_turns([(family, kind, proto, address) for family, kind, proto, _, address in found]))
    # From here on the socket is the transport's, which closes it also where the handshake fails.
    await loop.create_connection(
        protocol, sock=joined, ssl=tls, server_hostname=place.host if tls is not None else None
    )  # fmt: skip


def by_turns(addresses: Iterable[_Address]) -> list[_Address]:
    """`addresses` in their order, but with their families taking turns."""
    families: dict[int, list[_Address]] = {}
    for one in addresses:
        families.setdefault(one[0], []).append(one)
    return [one for one in chain.from_iterable(zip_longest(*families.values())) if one is not None]


async def _first(addresses: list[_Address]) -> socket.socket:
    """A socket that is connected to the first of `addresses` that answers."""
    if len(addresses) == 1:
        return await _joined(addresses[0])
    left = deque(addresses)
    tries: list[asyncio.Task[socket.socket]] = []
    faults: list[Exception] = []
    try:
        while True:
            if left:
                tries.append(asyncio.create_task(_joined(left.popleft())))
            open_tries = [one for one in tries if not one.done()]
            if not open_tries:
                raise ExceptionGroup("no address answers", faults) if faults else OSError("no address")
            await asyncio.wait(open_tries, timeout=ATTEMPT_DELAY if left else None, return_when=asyncio.FIRST_COMPLETED)
            faults = [one.exception() for one in tries if one.done() and one.exception() is not None]  # type: ignore[misc]
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


async def _joined(address: _Address) -> socket.socket:
    family, kind, proto, place = address
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)  # noqa: FBT003 - the standard library's
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, place)
    except BaseException:
        sock.close()
        raise
    return sock
