"""The simulator as a server in a running event loop: for tests, for ``--demo``, and for the command.

async with Simulator(Scenario(seed=1)) as simulator:
    client = openai.AsyncOpenAI(base_url=simulator.base_url, api_key="any")
    …
    assert simulator.statistics.posts_of("row-1") == 1
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from batchrun.simulator.connection import ServedConnection
from batchrun.simulator.replies import CommonLines, Reply
from batchrun.simulator.request_statistics import Books
from batchrun.simulator.scenario import Scenario
from batchrun.simulator.service import SimulatedService

_BACKLOG = 4096


def steady_wall_clock() -> Callable[[], float]:
    """Seconds since 1970 that no change of the wall clock touches, from now on."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


class Simulator:
    """A simulated service on a port of its own while its context is open.

    `clock` gives the service's time in seconds since 1970; what takes real time, the delay of an answer,
    is waited for on the event loop. Port 0 takes any free one.
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
        self.books: Books = self.service.books
        self.connections: set[ServedConnection] = set()
        self._common = CommonLines()
        self._address = (host, port)
        self._server: asyncio.Server | None = None

    @property
    def origin(self) -> str:
        """Where it listens, as a URL without a path."""
        host, port = self._address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def base_url(self) -> str:
        """What clients take as base URL."""
        return f"{self.origin}/v1"

    @property
    def most_body(self) -> int:
        return self.service.scenario.limits.body

    def use(self, scenario: Scenario) -> None:
        """Behave by `scenario` from now on."""
        self.service.use(scenario, self.now())

    def answer(self, method: bytes, target: bytes, api_key: bytes, body: bytes) -> Reply:
        return self.service.answer(method, target, api_key, body, self.now())

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
