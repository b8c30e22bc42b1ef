"""Every wire there is, by name: what a test says of one it says of all."""

import asyncio
import contextlib
import ssl

import httpx
import httpx2

from batchrun.core.responses.http import Request
from batchrun.edge.exchange.redaction import Redactor
from batchrun.edge.httpx_transport import HttpxTransport
from batchrun.edge.transport import OwnTransport
from tests.edge.hostile_server import HostileServer

_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody; made once, because authorities take 30 ms to load

GET = Request("GET", "/v1/responses/resp_1", {})
POST = Request("POST", "/v1/responses", {"content-type": "application/json"}, b'{"model": "m"}')


@contextlib.asynccontextmanager
async def _closed_after(wire):
    try:
        yield wire
    finally:
        await wire.aclose()


def own(origin, **options):
    return _closed_after(OwnTransport(origin, environment=options.pop("environment", {}), **options))


def by_httpx(origin, **options):
    return _closed_after(HttpxTransport(origin, environment=options.pop("environment", {}), **options))


@contextlib.asynccontextmanager
async def _brought(client, origin, **options):
    options.pop("environment", None)
    async with client, by_httpx(origin, client=client, **options) as wire:
        yield wire


def users_client(origin, **options):
    return _brought(httpx.AsyncClient(follow_redirects=True, trust_env=False, verify=_TLS), origin, **options)


def users_transport(origin, **options):
    return _brought(httpx.AsyncHTTPTransport(trust_env=False, verify=_TLS), origin, **options)


def users_httpx2(origin, **options):
    return _brought(httpx2.AsyncClient(follow_redirects=True, trust_env=False, verify=_TLS), origin, **options)


OURS = {"own": own, "httpx": by_httpx}  # those that batchrun makes itself
WIRES = OURS | {"client": users_client, "transport": users_transport, "httpx2": users_httpx2}


def exchanged(open_wire, server, *requests, timeout=30.0, redactor=None, **options):
    """What becomes of `requests`, one after the other, on one wire to `server`."""

    async def main():
        async with server, open_wire(server.origin, redactor=redactor or Redactor(), **options) as wire:
            return [await wire.exchange(request, timeout) for request in requests or (GET,)]

    return asyncio.run(main())


def late(open_wire, script, request=POST, *, limit=0.1, **options):
    """What becomes of a request whose answer does not come within `limit` seconds.

    Where this machine was too slow for the server to see any of it within that time a longer limit is tried.
    """
    for timeout in (limit, 10 * limit, 100 * limit):
        server = HostileServer(script)
        (failure,) = exchanged(open_wire, server, request, timeout=timeout, **options)
        if server.bytes_seen:
            break
    return failure


def to_origin(open_wire, origin, request=POST, *, timeout=30.0, **options):
    async def main():
        async with open_wire(origin, **options) as wire:
            return await wire.exchange(request, timeout)

    return asyncio.run(main())
