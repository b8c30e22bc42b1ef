"""A pool of transports with one connection each: taking and giving back cost the same for one and for a thousand.

httpcore has a pool of its own, and asks each of its connections whether it is readable, at every request and
again at every answer: at a hundred connections that is most of the work. So each transport here is given one
connection, and this stack hands them out, the one used last first. What lies at the bottom unused grows old
and is closed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

import anyio


class Closable(Protocol):
    async def aclose(self) -> None: ...


T = TypeVar("T", bound=Closable)


class ClientPool(Generic[T]):
    """At most `most` of what `make` makes in use at once; who comes later waits, first come first served."""

    def __init__(self, make: Callable[[], T], most: int, keepalive: float) -> None:
        self._make = make
        self._slots = asyncio.Semaphore(most)
        self._keepalive = keepalive
        self._idle: deque[tuple[T, float]] = deque()  # the one used last stands last
        self._in_use: set[T] = set()
        self._generation = 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[T]:
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
                        await self._close_old(now)
                    else:
                        await item.aclose()

    async def drop_idle(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        self._generation += 1
        while self._idle:
            await self._idle.popleft()[0].aclose()

    async def aclose(self) -> None:
        await self.drop_idle()
        for item in tuple(self._in_use):
            await item.aclose()

    async def _close_old(self, now: float) -> None:
        while self._idle and now - self._idle[0][1] > self._keepalive:
            await self._idle.popleft()[0].aclose()
