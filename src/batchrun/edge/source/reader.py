"""Rows read again where they stand, and held to what the check saw."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from zlib import crc32

from batchrun.core.rows.parse import Admitted, Rejection, RowParser, canonical, content_key
from batchrun.core.text.wording import Option
from batchrun.edge.source.index import Index
from batchrun.edge.source.refusals import InputChanged

_WINDOW = 1 << 18
_KEY_BYTES = 1 << 16  # of a line that is no row; the beginning tells lines apart that are too long to hold


class Reader:
    """The rows of a descriptor that can seek, by the offsets of `index`."""

    def __init__(
        self, fd: int, name: str, intake: RowParser, *, max_row: int, mark: Callable[[str], int] = hash
    ) -> None:
        self.fd, self.name, self.intake, self.max_row, self.mark = fd, name, intake, max_row, mark
        self.index = Index()
        self._last: tuple[int, bytes, Admitted | Rejection] | None = None  # found by its key

    def found(self, line: bytes) -> Admitted | Rejection:
        """What `line` holds; lines over `max_row` are cut, and known by that."""
        if len(line) > self.max_row:
            return Rejection(
                "row_too_large", (f"expected at most {self.max_row:,} bytes, came more: raise ", Option("max_row"))
            )
        return self.intake.admit(line)

    def line(self, ordinal: int) -> bytes:
        """The line of a row; raises `InputChanged` if it is not what the check saw."""
        for _, line in self.lines(ordinal, ordinal + 1):
            return line
        raise IndexError(ordinal)

    def lines(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Rows `start` to `stop` with their lines, in order; as `line`."""
        index, limit = self.index, self.max_row + 1
        offsets, sums = index.offsets, index.sums
        stop = len(offsets) if stop is None else min(stop, len(offsets))
        while start < stop:
            base = offsets[start]
            until = min(stop, max(start + 1, bisect_right(offsets, base + _WINDOW, start, stop) - 1))
            end = offsets[until] if until < len(offsets) else index.end
            window = self._read(base, min(end - base, limit + 1) if until == start + 1 else end - base)
            for ordinal in range(start, until):
                at = offsets[ordinal] - base
                feed = window.find(b"\n", at)
                line = window[at : len(window) if feed < 0 else feed][:limit]
                if crc32(line) != sums[ordinal]:
                    number = index.line_of(ordinal)
                    raise InputChanged(f"{self.name}:{number}: the line changed since it was checked: run it again")
                yield ordinal, line
            start = until

    def key(self, ordinal: int, line: bytes, found: Admitted | Rejection) -> str:
        """The key of a row: its custom_id, else a hash of it and, from the second on, which of its like it is."""
        base = base_key(line, found)
        if found.custom_id is not None and self.index.is_doubled(ordinal):
            base = content_key(base.encode(), of="id")
        which = self.index.which(ordinal)
        return base if which == 1 else f"{base}-{which}"

    def find(self, key: str) -> int | None:
        """The ordinal of the row with `key`; rows whose mark is the same by chance are read and compared."""
        for ordinal in self.index.seen.at(self.mark(key)):
            line = self.line(ordinal)
            found = self.found(line)
            if self.key(ordinal, line, found) == key:
                self._last = (ordinal, line, found)
                return ordinal
        return None

    def taken(self, ordinal: int) -> tuple[bytes, Admitted | Rejection]:
        """The line of a row and what it holds; read once for whoever has just found it by its key."""
        last, self._last = self._last, None
        if last is not None and last[0] == ordinal:
            return last[1:]
        line = self.line(ordinal)
        return line, self.found(line)

    def _read(self, at: int, size: int) -> bytes:
        data = os.pread(self.fd, size, at)
        while len(data) < size and (more := os.pread(self.fd, size - len(data), at + len(data))):
            data += more
        return data


def base_key(line: bytes, found: Admitted | Rejection) -> str:
    """The key of a row that has no like."""
    if found.custom_id is not None:
        return found.custom_id
    if isinstance(found, Admitted):
        return content_key(canonical(found.value))
    return content_key(line[:_KEY_BYTES], of="line")
