"""How many bytes of answers may be in memory at once, over all exchanges of a wire.

A reader that would go beyond the budget waits until others have ended; its socket is simply not read, so the
other side waits too. The one that has been reading longest waits for no other reader, so that one always gets on;
it waits while answers that were handed over and are not on the disk fill the budget, since those leave by themselves.
The answer to a POST never waits either: it may hold a result that is paid for and cannot be asked for again.

A coroutine awaits its room (``took``); a protocol, which cannot await, is called when there is room (``hold``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Budget:
    """Counts the bytes of the answers that are being read, and holds readers back beyond `most` of them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self.handed_over = 0
        self._shares: dict[BudgetShare, None] = {}  # in the order in which they began
        self._held: dict[BudgetShare, Callable[[], None]] = {}

    def begin(self, *, can_wait: bool) -> BudgetShare:
        """A new answer; a `patient` one may be held back."""
        share = BudgetShare(self, can_wait=can_wait)
        self._shares[share] = None
        return share

    def add(self, share: BudgetShare, size: int) -> bool:
        """Count `size` bytes more of `reading`; whether the next ones have to wait."""
        share.size += size
        self.taken += size
        return self._must_wait(share)

    def hold(self, share: BudgetShare, resume: Callable[[], None]) -> None:
        """Call `resume` once the next bytes of `reading` may be read."""
        self._held[share] = resume

    def set_handed_over(self, size: int) -> None:
        """So many bytes of answers that were handed over are still in memory: on their way to a disk."""
        less, self.handed_over = size < self.handed_over, size
        if less:
            self._resume_held()

    def end(self, share: BudgetShare) -> None:
        """The answer is handed over, or given up."""
        self._held.pop(share, None)
        if self._shares.pop(share, share) is not None:
            return
        self.taken -= share.size
        self._resume_held()

    def _resume_held(self) -> None:
        for held in tuple(self._held):
            if held in self._held and not self._must_wait(held):
                self._held.pop(held)()

    def _must_wait(self, share: BudgetShare) -> bool:
        if not share.can_wait or self.taken + self.handed_over <= self.limit:
            return False
        return self.handed_over > self.limit or next(iter(self._shares)) is not share


class BudgetShare:
    """One answer that is being read."""

    __slots__ = ("_budget", "can_wait", "size")

    def __init__(self, budget: Budget, *, can_wait: bool) -> None:
        self._budget = budget
        self.can_wait = can_wait
        self.size = 0

    async def add_chunk(self, chunk: bytes) -> None:
        """Count `chunk`; returns once the next one may be read."""
        if self._budget.add(self, len(chunk)):
            room = asyncio.Event()
            self._budget.hold(self, room.set)
            await room.wait()

    def end(self) -> None:
        self._budget.end(self)
