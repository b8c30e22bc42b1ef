"""One client of the benchmark `wire.py`, in a process of its own: polls one URL over and over, and counts.

    python benchmarks/wire_peers.py PEER URL CONNECTIONS SECONDS LOOP [AUTHORITY]

Every client is one object with a pool of CONNECTIONS, asked by as many workers; each reads the body and parses
it. It prints one line of JSON: polls, failed ones, seconds, processor seconds, bytes of memory that the connections
took, and how many of those there were.
Exit code 3: the client is not installed here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

sys.path[:0] = [str(Path(__file__).parent.parent / "src")]

import orjson  # noqa: E402 - after the path

Poll = Callable[[], Awaitable[object]]
TIMEOUT = 30.0
NOT_HERE = 3


@contextlib.asynccontextmanager
async def seam(url: str, connections: int, authority: str | None) -> AsyncIterator[Poll]:
    from batchrun.core.responses.http import Answer, Request
    from batchrun.edge.transport import OwnTransport

    parts = urlsplit(url)
    wire = OwnTransport(
        f"{parts.scheme}://{parts.netloc}",
        connections=connections,
        environment={"SSL_CERT_FILE": authority} if authority else {},
    )
    request = Request("GET", parts.path, {"user-agent": "batchrun", "authorization": "Bearer none"})

    async def poll() -> object:
        answer = await wire.exchange(request, TIMEOUT)
        assert isinstance(answer, Answer), answer
        return orjson.loads(answer.body)

    yield poll
    await wire.aclose()


@contextlib.asynccontextmanager
async def transport(url: str, connections: int, authority: str | None) -> AsyncIterator[Poll]:
    import httpx

    from batchrun.transport import Transport

    async with httpx.AsyncClient(
        transport=Transport(connections=connections, verify=_context(authority)), timeout=TIMEOUT
    ) as client:
        yield _of_httpx(client, url)


@contextlib.asynccontextmanager
async def httpx(url: str, connections: int, authority: str | None) -> AsyncIterator[Poll]:
    import httpx as package

    limits = package.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with package.AsyncClient(
        limits=limits, verify=_context(authority) or True, timeout=TIMEOUT, trust_env=False
    ) as client:
        yield _of_httpx(client, url)


@contextlib.asynccontextmanager
async def httpx2(url: str, connections: int, authority: str | None) -> AsyncIterator[Poll]:
    import httpx2 as package

    limits = package.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with package.AsyncClient(
        limits=limits, verify=_context(authority) or True, timeout=TIMEOUT, trust_env=False
    ) as client:
        yield _of_httpx(client, url)


@contextlib.asynccontextmanager
async def httpx_aiohttp(url: str, connections: int, authority: str | None) -> AsyncIterator[Poll]:
    import httpx as package
    from httpx_aiohttp import AiohttpTransport

    limits = package.Limits(max_connections=connections, max_keepalive_connections=connections)
    made = AiohttpTransport(limits=limits, verify=_context(authority) or True)
    async with package.AsyncClient(transport=made, timeout=TIMEOUT) as client:
        yield _of_httpx(client, url)


@contextlib.asynccontextmanager
async def aiohttp(url: str, connections: int, authority: str | None) -> AsyncIterator[Poll]:
    import aiohttp as package

    connector = package.TCPConnector(limit=connections, ssl=_context(authority) or True)
    timeout = package.ClientTimeout(total=TIMEOUT)
    async with package.ClientSession(connector=connector, timeout=timeout) as session:

        async def poll() -> object:
            async with session.get(url) as answer:
                assert answer.status == 200
                return orjson.loads(await answer.read())

        yield poll


@contextlib.asynccontextmanager
async def openai(url: str, connections: int, authority: str | None) -> AsyncIterator[Poll]:
    import openai as package

    limits = package.DefaultAsyncHttpxClient().__class__  # the class of its own choice: httpx's or httpx2's
    home = sys.modules[next(cls.__module__ for cls in limits.__mro__ if "openai" not in cls.__module__).split(".")[0]]
    client = package.DefaultAsyncHttpxClient(
        limits=home.Limits(max_connections=connections, max_keepalive_connections=connections),
        verify=_context(authority) or True,
        trust_env=False,
    )
    base, _, job = url.rpartition("/responses/")
    async with package.AsyncOpenAI(
        api_key="none", base_url=base, http_client=client, timeout=TIMEOUT, max_retries=0
    ) as sdk:
        yield lambda: sdk.responses.retrieve(job)


PEERS = {
    "seam": seam,
    "transport": transport,
    "aiohttp": aiohttp,
    "httpx_aiohttp": httpx_aiohttp,
    "httpx2": httpx2,
    "openai": openai,
    "httpx": httpx,
}


def _of_httpx(client: object, url: str) -> Poll:
    async def poll() -> object:
        answer = await client.get(url)  # type: ignore[attr-defined]
        assert answer.status_code == 200
        return orjson.loads(answer.content)

    return poll


def _context(authority: str | None) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=authority) if authority else None


def _resident() -> int:
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return 0


def _descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


async def measure(peer: str, url: str, connections: int, seconds: float, authority: str | None) -> dict[str, float]:
    async with PEERS[peer](url, connections, authority) as poll:
        await poll()
        await poll()
        before, descriptors = _resident(), _descriptors()
        polls = failed = 0

        async def worker() -> None:
            nonlocal polls, failed
            while True:
                try:
                    await poll()
                    polls += 1
                except Exception as error:
                    failed += 1
                    if not polls:
                        raise
                    print(repr(error), file=sys.stderr)

        workers = [asyncio.create_task(worker()) for _ in range(connections)]
        await asyncio.sleep(min(1.0, seconds / 2) + connections / 1000)  # all are connected
        begun, cpu, first = time.perf_counter(), time.process_time(), (polls, failed)
        await asyncio.sleep(seconds)
        took, used = time.perf_counter() - begun, time.process_time() - cpu
        result = {"polls": polls - first[0], "failed": failed - first[1], "seconds": took, "cpu": used}
        result["memory"], result["open"] = _resident() - before, _descriptors() - descriptors + 1
        for one in workers:
            one.cancel()
        for fault in await asyncio.gather(*workers, return_exceptions=True):
            if isinstance(fault, Exception):
                raise fault
    return result


def main(arguments: list[str]) -> int:
    peer, url, connections, seconds, loop = arguments[:5]
    authority = arguments[5] if len(arguments) > 5 else None
    work = measure(peer, url, int(connections), float(seconds), authority)
    try:
        factory = None
        if loop == "uvloop":
            import uvloop

            factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            print(json.dumps(runner.run(work)))
    except ImportError as error:
        print(error, file=sys.stderr)
        return NOT_HERE
    return 0


if __name__ == "__main__":
    sys.path[:1] = []  # modules here are named as what they measure
    raise SystemExit(main(sys.argv[1:]))
