"""The simulator as a server in a running event loop: for tests, for ``--demo``, and for the command.

async with Simulator(Scenario(seed=1)) as simulator:
    client = openai.AsyncOpenAI(base_url=simulator.base_url, api_key="any")
    …
    assert simulator.statistics.posts_of("row-1") == 1
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from batchrun.simulator.connection import ServedConnection
from batchrun.simulator.replies import CommonLines, Reply
from batchrun.simulator.request_statistics import RequestStatistics
from batchrun.simulator.scenario import Scenario
from batchrun.simulator.service import SimulatedService

_BACKLOG = 4096


_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::[0-9]*)?\Z", re.ASCII)  # with a port or without


def _is_loopback(host: str) -> bool:
    name = host.strip().removeprefix("[").removesuffix("]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def steady_wall_clock() -> Callable[[], float]:
    """A clock of seconds since 1970 that later changes of the wall clock do not affect."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


class Simulator:
    """A simulated service on a port of its own while its context is open.

    `clock` returns the service's time in seconds since 1970; the delay of an answer is real time of the
    event loop. Port 0 means any free one.
    """

    def __init__(
        self,
        scenario: Scenario | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.now = clock or steady_wall_clock()
        self.service = SimulatedService(scenario or Scenario(), self.now())
        self.statistics: RequestStatistics = self.service.statistics
        self.connections: set[ServedConnection] = set()
        self._common = CommonLines()
        self._is_local = _is_loopback(host)
        self._seen_hosts: set[bytes] = set()
        self._address = (host, port)
        self._server: asyncio.Server | None = None

    @property
    def origin(self) -> str:
        """Its URL without a path."""
        host, port = self._address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def base_url(self) -> str:
        """The base URL for clients."""
        return f"{self.origin}/v1"

    @property
    def most_body(self) -> int:
        return self.service.scenario.limits.body

    def use(self, scenario: Scenario) -> None:
        """Behave by `scenario` from now on."""
        self.service.use(scenario, self.now())

    def is_foreign(self, header: bytes) -> bool:
        """Whether a Host header names another machine than this one, to which alone we listen.

        A web page may have a name of its own lead to 127.0.0.1, and its script could then read our answers.
        """
        if not self._is_local or header in self._seen_hosts:
            return False
        if not _is_loopback(_HOST.sub(r"\1", header.decode("latin-1"))):
            return True
        if len(self._seen_hosts) < 100:
            self._seen_hosts.add(header)
        return False

    def answer(self, method: bytes, target: bytes, api_key: bytes, body: bytes, idempotency_key: bytes) -> Reply:
        return self.service.answer(method, target, api_key, body, self.now(), idempotency_key)

    def common_lines(self) -> bytes:
        return self._common.lines(self.now())

    async def __aenter__(self) -> Self:
        host, port = self._address
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: ServedConnection(self), host, port, backlog=_BACKLOG)
        self._address = (host, self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self.connections):
            connection.abort()
        with contextlib.suppress(asyncio.CancelledError):
            await self._server.wait_closed()
        self._server = None
