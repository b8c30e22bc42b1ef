"""When a row that is refused again and again is at fault itself.

A row that is refused for a rate or an overload waits its own delay (1, 2, 4, 8, 16, 16 … s) behind others. It ends as
what it was refused for only where its class of rows shows that the row is the reason: REFUSALS refusals of its own; since
the first of them at least ACCEPTED others were accepted, one of them at least as large; and with p, the share of the
others' submits that were refused since then, p^REFUSALS < CHANCE. At half of all submits refused at random no row ends so.

The same counts show whose refusal it is when a row is refused again: where few of the others' submits were refused in the
meantime, its refusal says nothing of the rate and nothing of other rows, and does not count for them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from batchrun.core.limits.adaptive import LimitKind

REFUSALS = 8
ACCEPTED = 20
CHANCE = 1e-6
FEW = 0.1
LONGEST_DELAY = 16.0


@dataclass(slots=True)
class RefusedRow:
    """A row that was refused, and what had become of the other rows of its class by then."""

    refusals: int
    accepted_before: int
    refused_before: int
    counted: int = 1  # of its refusals, those that count for others
    cut: tuple[LimitKind, ...] = ()  # the limits that were cut for it

    @property
    def delay(self) -> float:
        """Seconds that it waits after its last refusal, at least."""
        return min(LONGEST_DELAY, 2.0 ** (self.refusals - 1))

    def refused_again(self) -> None:
        self.refusals += 1

    def counts(self) -> None:
        """Its last refusal counts for the other rows, too."""
        self.counted += 1

    def cut_for(self, kinds: tuple[LimitKind, ...]) -> None:
        """These limits were cut for its sake; none, where that was taken back."""
        self.cut = kinds


class ClassCounts:
    """What became of the submits of one class of rows."""

    def __init__(self) -> None:
        self._accepted = self._refused = 0
        # of the accepted ones: which one it was and how large, each larger than all after it
        self._largest: deque[tuple[int, int]] = deque()

    def accepted(self, tokens: int) -> None:
        self._accepted += 1
        largest = self._largest
        while largest and largest[-1][1] <= tokens:
            largest.pop()
        largest.append((self._accepted, tokens))

    def refused(self, row: RefusedRow | None) -> RefusedRow:
        """A row was refused, whose earlier refusals are `row`."""
        if row is None:
            self._refused += 1
            return RefusedRow(1, self._accepted, self._refused)
        row.refused_again()
        if not self.is_alone(row):
            self._refused += 1
            row.counts()
        return row

    def accepted_since(self, row: RefusedRow) -> int:
        """Submits that were accepted since the row's first refusal."""
        return self._accepted - row.accepted_before

    def is_alone(self, row: RefusedRow) -> bool:
        """Whether the row is refused again while few of the others' submits are."""
        return row.refusals > 1 and self.accepted_since(row) > 0 and self._share_refused(row) <= FEW

    def is_at_fault(self, row: RefusedRow, tokens: int) -> bool:
        """Whether the row, of so many `tokens`, is refused for its own sake."""
        if row.refusals < REFUSALS or self.accepted_since(row) < ACCEPTED:
            return False
        largest = next((size for which, size in self._largest if which > row.accepted_before), -1)
        return largest >= tokens and self._share_refused(row) ** REFUSALS < CHANCE

    def _share_refused(self, row: RefusedRow) -> float:
        """The share of the others' submits that were refused since the row's first refusal."""
        refused = self._refused - row.refused_before - (row.counted - 1)
        answered = refused + self.accepted_since(row)
        return refused / answered if answered else 1.0
