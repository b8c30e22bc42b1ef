"""An answer taken piece by piece, by limits of inactivity: for clients that stream.

The four limits are httpx's: for a place in the pool, for the connection, for the other side to take a piece of
the request, and for the next piece of the answer. One timer serves them all, and looks how it stands.
Who reads slowly is not late: the connection is not read while more than `HIGH` bytes wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from batchrun.core.responses.http import Cause
from batchrun.edge.exchange.reading import Broken, ResponseHead
from batchrun.edge.transport.exchange import Exchange, ExchangeStage, Late, Slots
from batchrun.edge.transport.pool import ConnectionPool

HIGH = 256 * 1024


class StreamEnded(Exception):
    """Why there is no complete answer, and at which stage that was; `writing`: before the request was sent in full."""

    def __init__(self, fault: Broken, stage: ExchangeStage, *, writing: bool = False) -> None:
        super().__init__(str(fault))
        self.fault = fault
        self.stage = stage
        self.writing = writing


class Streamed(Exchange):
    """One exchange; `limits` names the seconds for pool, connect, write and read, each may be None."""

    __slots__ = (
        "_ended", "_fault", "_held", "_left", "_limits", "_loop", "_moved", "_pieces", "_pool", "_tick", "_timer", "_waiter",
        "head_came",
    )  # fmt: skip

    def __init__(
        self,
        pool: ConnectionPool,
        lane: Slots,
        head: bytes,
        body: bytes,
        method: str,
        limits: Mapping[str, float | None],
    ) -> None:
        super().__init__(lane, head, body, method)
        self.connect = limits.get("connect")
        self._pool = pool
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self.head_came: asyncio.Future[tuple[int, Sequence[tuple[bytes, bytes]]]] = self._loop.create_future()
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._ended = False
        self._fault: StreamEnded | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._moved = self._loop.time()
        self._left = 0  # of the request, when the timer last looked
        given = [limit for name in ("pool", "write", "read") if (limit := limits.get(name)) is not None]
        self._tick = min(given, default=None)
        self._timer = None if self._tick is None else self._loop.call_later(self._tick, self._look)

    async def answered(self) -> tuple[int, Sequence[tuple[bytes, bytes]]]:
        """Status and headers of the answer. Raises Ended."""
        self._pool.begin(self)
        try:
            return await self.head_came
        except asyncio.CancelledError:
            self.close()
            raise

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises Ended where it is cut off."""
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._held -= len(piece)
                if self._held <= HIGH and self.stage is ExchangeStage.SENT and self.carrier is not None:
                    self.carrier.resume()
                yield piece
            if self._fault is not None:
                raise self._fault
            if self._ended:
                return
            self._moved = self._loop.time()
            self._waiter = self._loop.create_future()
            await self._waiter

    def close(self) -> None:
        """No more of it is wanted."""
        if self.stage is not ExchangeStage.OVER:
            self._pool.give_up(self, Broken(Cause.DROPPED, "the answer was closed before its end"))

    # for pool and connection

    def headed(self, status: int, head: ResponseHead, pairs: Sequence[tuple[bytes, bytes]]) -> None:  # noqa: ARG002
        if not self.head_came.done():
            self.head_came.set_result((status, tuple(pairs)))

    def took(self, piece: bytes) -> bool:
        self._pieces.append(piece)
        self._held += len(piece)
        self._wake()
        return False

    def waits(self) -> bool:
        self._moved = self._loop.time()  # asked whenever bytes came, those of a head that is not whole yet too
        return self._held > HIGH

    def ended(self) -> None:
        self._ended = True
        self._close()

    def failed(self, fault: Broken) -> None:
        self._fault = StreamEnded(fault, self.stage, writing=self._left > 0)
        if not self.head_came.done():
            self.head_came.set_exception(self._fault)
        self._close()

    def _close(self) -> None:
        self.stage = ExchangeStage.OVER
        self.carrier = None
        if self._timer is not None:
            self._timer.cancel()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _look(self) -> None:
        """Whether the limit of the present stage has run out."""
        now = self._loop.time()
        left = self.carrier.unwritten if self.carrier is not None else 0
        nobody_waits = self.head_came.done() and (self._waiter is None or self._waiter.done())
        if nobody_waits or left < self._left or self.stage is ExchangeStage.DIALING:  # which has a limit of its own
            self._moved = now
        self._left = left
        name = "pool" if self.stage is ExchangeStage.QUEUED else "write" if left else "read"
        limit = self._limits.get(name)
        idle = now - self._moved
        if limit is not None and idle >= limit:
            self._pool.give_up(self, Late(Cause.TIMEOUT, f"nothing happened within {limit:g} s"))
            return
        assert self._tick is not None
        rest: Any = self._tick if limit is None else min(self._tick, limit - idle)
        self._timer = self._loop.call_later(rest, self._look)
