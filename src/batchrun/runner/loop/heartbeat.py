"""Time as the runner sees it: a clock that counts suspension, and what happens by itself a few times a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import anyio

ROUNDS_A_SECOND = 4
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_GAP_OF_A_SUSPENSION = 5.0


def clock() -> float:
    """Seconds on a clock that counts suspension where the system has one."""
    return time.clock_gettime(_CLOCK)


async def beat(woke: Callable[[float], Awaitable[None]], each: Callable[[int], None]) -> None:
    """Call `each(round)` in every round, and `woke(gap)` before it where the process was suspended for `gap` seconds."""
    loop = asyncio.get_running_loop()
    behind = clock() - loop.time()
    rounds = 0
    while True:
        await anyio.sleep(1 / ROUNDS_A_SECOND)
        rounds += 1
        gap = clock() - loop.time() - behind
        behind += gap
        if gap > _GAP_OF_A_SUSPENSION:
            await woke(gap)
        each(rounds)
