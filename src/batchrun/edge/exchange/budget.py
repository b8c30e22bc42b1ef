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

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self.elsewhere = 0
        self._readers: dict[BudgetShare, None] = {}  # in the order in which they began
        self._held: dict[BudgetShare, Callable[[], None]] = {}

    def begin(self, *, patient: bool) -> BudgetShare:
        """A new answer; a `patient` one may be held back."""
        reading = BudgetShare(self, patient=patient)
        self._readers[reading] = None
        return reading

    def add(self, reading: BudgetShare, size: int) -> bool:
        """Count `size` bytes more of `reading`; whether the next ones have to wait."""
        reading.size += size
        self.taken += size
        return self._must_wait(reading)

    def hold(self, reading: BudgetShare, resume: Callable[[], None]) -> None:
        """Call `resume` once the next bytes of `reading` may be read."""
        self._held[reading] = resume

    def count_elsewhere(self, size: int) -> None:
        """So many bytes of answers that were handed over are still in memory: on their way to a disk."""
        less, self.elsewhere = size < self.elsewhere, size
        if less:
            self._let_go_on()

    def end(self, reading: BudgetShare) -> None:
        """The answer is handed over, or given up."""
        self._held.pop(reading, None)
        if self._readers.pop(reading, reading) is not None:
            return
        self.taken -= reading.size
        self._let_go_on()

    def _let_go_on(self) -> None:
        for held in tuple(self._held):
            if held in self._held and not self._must_wait(held):
                self._held.pop(held)()

    def _must_wait(self, reading: BudgetShare) -> bool:
        if not reading.patient or self.taken + self.elsewhere <= self.most:
            return False
        return self.elsewhere > self.most or next(iter(self._readers)) is not reading


class BudgetShare:
    """One answer that is being read."""

    __slots__ = ("_budget", "patient", "size")

    def __init__(self, budget: Budget, *, patient: bool) -> None:
        self._budget = budget
        self.patient = patient
        self.size = 0

    async def took(self, chunk: bytes) -> None:
        """Count `chunk`; returns once the next one may be read."""
        if self._budget.add(self, len(chunk)):
            room = asyncio.Event()
            self._budget.hold(self, room.set)
            await room.wait()

    def end(self) -> None:
        self._budget.end(self)
