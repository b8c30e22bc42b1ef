"""Which keys (of rows, of jobs) were seen, and where: small at ten million rows.

A Python set of ten million strings takes over a gigabyte. Here a key is a mark, 64 bits of its hash,
kept in order of arrival (8 bytes a row), and a table with open addressing leads from a mark to its
place (4 bytes a slot, at most two thirds full: 6 to 12 bytes a row).

Two keys may share a mark. The table never says that a key was seen: it names the places whose mark is
the same, and who asks compares the keys themselves.

Declined: sorting at the end (duplicates would be found only then, and a key that counts occurrences
needs to know at once); a Bloom filter (it can name no place).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

_SMALLEST = 1 << 10  # slots
_MOST_AHEAD = 1 << 23  # slots: 32 MB, however many keys are promised


class KeyIndex:
    """Marks by place: the first one added has place 0. Linear probing; an empty slot is 0, else place + 1."""

    __slots__ = ("_mask", "_room", "_slots", "marks")

    def __init__(self) -> None:
        self.marks = array("q")
        self._resize(_SMALLEST)

    def expect(self, keys: int) -> None:
        """Make room for `keys` keys at once, within reason: growing step by step costs a third more."""
        slots = min(1 << (keys * 3 // 2).bit_length(), _MOST_AHEAD)
        if slots > self._mask + 1:
            self._resize(slots)

    def __len__(self) -> int:
        return len(self.marks)

    def add(self, mark: int) -> bool:
        """Give `mark` the next place, unless a place with the same mark exists: then False, nothing is done."""
        slots, marks, mask = self._slots, self.marks, self._mask
        at = mark & mask
        while slot := slots[at]:
            if marks[slot - 1] == mark:
                return False
            at = (at + 1) & mask
        marks.append(mark)
        slots[at] = count = len(marks)
        if count > self._room:
            self._resize(2 * (mask + 1))
        return True

    def put(self, mark: int) -> None:
        """Give `mark` the next place, whatever the others are."""
        self.marks.append(mark)
        count = len(self.marks)
        if count > self._room:
            self._resize(2 * (self._mask + 1))
        else:
            self._enter(mark, count)

    def put_all(self, marks: Iterable[int]) -> None:
        """Give each of `marks` the next place, whatever the others are."""
        self.marks.extend(marks)
        slots = self._mask + 1
        while len(self.marks) > slots * 2 // 3:
            slots *= 2
        self._resize(slots)

    def __contains__(self, mark: int) -> bool:
        slots, marks, mask = self._slots, self.marks, self._mask
        at = mark & mask
        while slot := slots[at]:
            if marks[slot - 1] == mark:
                return True
            at = (at + 1) & mask
        return False

    def at(self, mark: int) -> Iterator[int]:
        """The places of `mark`, in order of arrival."""
        slots, marks, mask = self._slots, self.marks, self._mask
        at = mark & mask
        while slot := slots[at]:
            if marks[slot - 1] == mark:
                yield slot - 1
            at = (at + 1) & mask

    def _enter(self, mark: int, slot: int) -> None:
        at = mark & self._mask
        while self._slots[at]:
            at = (at + 1) & self._mask
        self._slots[at] = slot

    def _resize(self, size: int) -> None:
        self._slots = array("I")  # the old table goes before the new one comes
        self._slots = slots = array("I", [0]) * size
        self._mask = mask = size - 1
        self._room = size * 2 // 3
        for slot, mark in enumerate(self.marks, 1):
            at = mark & mask
            while slots[at]:
                at = (at + 1) & mask
            slots[at] = slot
