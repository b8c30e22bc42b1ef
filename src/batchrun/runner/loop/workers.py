"""Workers that take what is due: one for each exchange at a time, none for each job.

A lane has as many workers as its exchanges need at once, which follows from rate × round trip by itself: a
new one is begun when an instruction finds no idle one, and one that stays idle for a while ends. An idle
worker is one future; handing over costs its result. All idle workers share one timer: one each would cost more
than all the rest of handing over, to be cancelled nearly every time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

IDLE_FOR = 10.0

T = TypeVar("T")


class Workers(Generic[T]):
    """Carries instructions out by `work`, at most `limit` at once, the others in the order in which they came."""

    def __init__(
        self, work: Callable[[T], Awaitable[None]], limit: int, failed: Callable[[BaseException], None]
    ) -> None:
        self._work = work
        self._limit = limit
        self._failed = failed
        self._idle: dict[asyncio.Future[T | None], float] = {}  # by the time since when, the longest first
        self._timer: asyncio.TimerHandle | None = None
        self._queue: deque[T] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def workers(self) -> int:
        return len(self._tasks)

    def put(self, instruction: T) -> None:
        """Have `instruction` carried out as soon as a worker is free."""
        while self._idle:
            worker, _ = self._idle.popitem()  # the last one that became idle: the others may end
            if not worker.done():
                worker.set_result(instruction)
                return
        if len(self._tasks) < self._limit:
            task = asyncio.get_running_loop().create_task(self._live(instruction))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        else:
            self._queue.append(instruction)

    async def close(self) -> None:
        """Cancel all workers and wait for their end."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _live(self, instruction: T | None) -> None:
        loop = asyncio.get_running_loop()
        while instruction is not None:
            await self._work(instruction)
            if self._queue:
                instruction = self._queue.popleft()
                continue
            idle: asyncio.Future[T | None] = loop.create_future()
            self._idle[idle] = loop.time()
            if self._timer is None:
                self._timer = loop.call_later(IDLE_FOR, self._dismiss, loop)
            instruction = await idle

    def _dismiss(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the workers that were idle for so long, and come back for the next of them."""
        self._timer = None
        until = loop.time() - IDLE_FOR
        while self._idle:
            idle, since = next(iter(self._idle.items()))
            if since > until:
                self._timer = loop.call_at(since + IDLE_FOR, self._dismiss, loop)
                return
            del self._idle[idle]
            if not idle.done():
                idle.set_result(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)
