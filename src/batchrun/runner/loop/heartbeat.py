"""Time as the runner sees it: a clock that counts suspension, and what happens by itself a few times a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

ROUNDS_A_SECOND = 4
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_GAP_OF_A_SUSPENSION = 5.0


def clock() -> float:
    """Seconds on a clock that counts suspension where the system has one."""
    return time.clock_gettime(_CLOCK)


class Heartbeat:
    """Calls `each(round)` in every round, and `woke(gap)` before it where the process had been suspended for so long.

    `broke` is told what either of them raised; the pulse has stopped then.
    """

    def __init__(
        self,
        woke: Callable[[float], Awaitable[None]],
        each: Callable[[int], None],
        broke: Callable[[BaseException], None],
    ) -> None:
        self._woke = woke
        self._each = each
        self._broke = broke
        self._task = asyncio.get_running_loop().create_task(self._beat())
        self._task.add_done_callback(self._stopped)

    def stop(self) -> None:
        self._task.cancel()

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        behind = clock() - loop.time()
        rounds = 0
        while True:
            await asyncio.sleep(1 / ROUNDS_A_SECOND)
            rounds += 1
            gap = clock() - loop.time() - behind
            behind += gap
            if gap > _GAP_OF_A_SUSPENSION:
                await self._woke(gap)
            self._each(rounds)

    def _stopped(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broke(error)
