"""How many bytes of responses may be in memory at once, over all exchanges of a transport.

A reader that would go beyond the budget waits until others have ended; its socket is not read, so the
server waits too. The oldest reader waits for no other, so that one always progresses;
it waits while responses that were handed over and are not on the disk yet fill the budget, since those drain anyway.
The response to a POST never waits: it may hold a result that is paid for and cannot be fetched again.

A coroutine awaits (``add_chunk``); a protocol, which cannot await, is called back (``hold``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass


class Budget:
    """Counts the bytes of the responses being read, and holds readers back beyond `limit` of them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self.handed_over = 0
        self._shares: dict[BudgetShare, None] = {}  # in the order in which they began
        self._held: dict[BudgetShare, Callable[[], None]] = {}

    def begin(self, *, can_wait: bool) -> BudgetShare:
        """A new response; one that `can_wait` may be held back."""
        share = BudgetShare(self, can_wait)
        self._shares[share] = None
        return share

    def add(self, share: BudgetShare, size: int) -> bool:
        """Count `size` more bytes of `share`; whether the next ones have to wait."""
        share.size += size
        self.taken += size
        return self._must_wait(share)

    def hold(self, share: BudgetShare, resume: Callable[[], None]) -> None:
        """Call `resume` once the next bytes of `share` may be read."""
        self._held[share] = resume

    def set_handed_over(self, size: int) -> None:
        """Set how many bytes of responses were handed over and are still in memory, waiting for the disk."""
        is_less, self.handed_over = size < self.handed_over, size
        if is_less:
            self._resume_held()

    def end(self, share: BudgetShare) -> None:
        """The response is handed over, or given up."""
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


@dataclass(slots=True, eq=False)
class BudgetShare:
    """One response that is being read."""

    _budget: Budget
    can_wait: bool
    size: int = 0

    async def add_chunk(self, chunk: bytes) -> None:
        """Count `chunk`; returns once the next one may be read."""
        if self._budget.add(self, len(chunk)):
            may_continue = asyncio.Event()
            self._budget.hold(self, may_continue.set)
            await may_continue.wait()

    def end(self) -> None:
        self._budget.end(self)
