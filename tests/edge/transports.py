"""Every HTTP transport, by name: most tests run on all of them."""

import asyncio
import contextlib
import ssl

import httpx
import httpx2

from batchrun.core.responses.http import Request
from batchrun.edge.httpx_transport import HttpxTransport
from batchrun.edge.redaction import Redactor
from batchrun.edge.transport import OwnTransport
from tests.edge.hostile_server import HostileServer

_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody; made once, because authorities take 30 ms to load

GET = Request("GET", "/v1/responses/resp_1", {})
POST = Request("POST", "/v1/responses", {"content-type": "application/json"}, b'{"model": "m"}')


@contextlib.asynccontextmanager
async def _closed_after(http):
    try:
        yield http
    finally:
        await http.aclose()


def own(origin, **options):
    return _closed_after(OwnTransport(origin, environment=options.pop("environment", {}), **options))


def by_httpx(origin, **options):
    return _closed_after(HttpxTransport(origin, environment=options.pop("environment", {}), **options))


@contextlib.asynccontextmanager
async def _brought(client, origin, **options):
    options.pop("environment", None)
    async with client, by_httpx(origin, client=client, **options) as http:
        yield http


def users_client(origin, **options):
    return _brought(httpx.AsyncClient(follow_redirects=True, trust_env=False, verify=_TLS), origin, **options)


def users_transport(origin, **options):
    return _brought(httpx.AsyncHTTPTransport(trust_env=False, verify=_TLS), origin, **options)


def users_httpx2(origin, **options):
    return _brought(httpx2.AsyncClient(follow_redirects=True, trust_env=False, verify=_TLS), origin, **options)


OURS = {"own": own, "httpx": by_httpx}  # those that batchrun makes itself
TRANSPORTS = OURS | {"client": users_client, "transport": users_transport, "httpx2": users_httpx2}


def exchanged(open_transport, server, *requests, timeout=30.0, redactor=None, **options):
    """What becomes of `requests`, one after the other, on one transport to `server`."""

    async def main():
        async with server, open_transport(server.origin, redactor=redactor or Redactor(), **options) as http:
            return [await http.exchange(request, timeout) for request in requests or (GET,)]

    return asyncio.run(main())


def late(open_transport, script, request=POST, *, limit=0.1, **options):
    """What becomes of a request whose answer does not come within `limit` seconds.

    Where this machine was too slow for the server to see any of it within that time a longer limit is tried.
    """
    for timeout in (limit, 10 * limit, 100 * limit):
        server = HostileServer(script)
        (failure,) = exchanged(open_transport, server, request, timeout=timeout, **options)
        if server.bytes_seen:
            break
    return failure


def to_origin(open_transport, origin, request=POST, *, timeout=30.0, **options):
    async def main():
        async with open_transport(origin, **options) as http:
            return await http.exchange(request, timeout)

    return asyncio.run(main())
