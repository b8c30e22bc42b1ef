"""The tasks of a run: one group for all of them, and workers that take what is due, none for each job.

There are as many workers of a kind as its exchanges need at once, which follows from rate × round trip by itself: a
new one is started when an instruction finds no idle one, and one that stays idle for a while ends. An idle
worker is one future of asyncio; handing over costs its result. All idle workers share one timer: one each would cost
more than all the rest of handing over, to be cancelled nearly every time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

IDLE_FOR = 10.0

T = TypeVar("T")


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """A task group that raises what its body or a task raised first as it is: a caller writes `except Halted`."""
    first: BaseException | None = None
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as several:
        first = several
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
    if first is not None:  # outside of the handler, where the group would become its context
        raise first


class Workers(Generic[T]):
    """Carries instructions out by `work`, at most `limit` at once, the others in order; `serve` is a task of its group.

    anyio starts tasks from tasks alone and an instruction may come from a callback, so `serve` starts the workers.
    """

    def __init__(self, group: TaskGroup, work: Callable[[T], Awaitable[None]], limit: int) -> None:
        self.workers = 0
        self._group = group
        self._work = work
        self._limit = limit
        self._idle: dict[asyncio.Future[T | None], float] = {}  # by the time since when, the longest first
        self._timer: asyncio.TimerHandle | None = None
        self._queue: deque[T] = deque()  # for the next worker that is free
        self._unstarted: deque[T] = deque()  # each for a worker of its own
        self._wanted = asyncio.Event()

    def put(self, instruction: T) -> None:
        """Have `instruction` carried out as soon as a worker is free."""
        while self._idle:
            worker, _ = self._idle.popitem()  # the last one that became idle: the others may end
            if not worker.done():
                worker.set_result(instruction)
                return
        if self.workers < self._limit:
            self.workers += 1
            self._unstarted.append(instruction)
            self._wanted.set()
        else:
            self._queue.append(instruction)

    async def serve(self) -> None:
        """Start workers as they are needed, until cancelled."""
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                while self._unstarted:
                    self._group.start_soon(self._live, self._unstarted.popleft())
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def _live(self, instruction: T | None) -> None:
        loop = asyncio.get_running_loop()
        try:
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
        finally:
            self.workers -= 1

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
