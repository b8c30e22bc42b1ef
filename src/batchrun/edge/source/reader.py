"""Rows read again where they stand, and held to what the check saw."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from zlib import crc32

from batchrun.core.rows.parse import Admitted, Rejection, RowParser, canonical, content_key
from batchrun.core.text.wording import Option
from batchrun.edge.source.index import Index
from batchrun.edge.source.opening import InputChanged

_AHEAD, _WINDOW = 1 << 12, 1 << 18
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
        for _, line in self.lines((ordinal,)):
            return line
        raise IndexError(ordinal)

    def lines(self, ordinals: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """These rows, which rise, with their lines; as `line`. What lies ahead is read with them where rows follow closely."""
        index, limit = self.index, self.max_row + 1
        offsets, sums = index.offsets, index.sums
        window, base, end, ahead = b"", 0, 0, 0
        for ordinal in ordinals:
            at = offsets[ordinal]
            following = offsets[ordinal + 1] if ordinal + 1 < len(offsets) else index.end
            if at < base or following > end:
                ahead = min(max(4 * ahead, _AHEAD), _WINDOW) if end and at - end <= max(ahead, _AHEAD) else 0
                window = self._read(at, max(min(following - at, limit + 1), ahead))
                base, end = at, at + len(window)
            feed = window.find(b"\n", at - base)
            line = window[at - base : len(window) if feed < 0 else feed][:limit]
            if crc32(line) != sums[ordinal]:
                number = index.line_of(ordinal)
                raise InputChanged(f"{self.name}:{number}: the line changed since it was checked: run it again")
            yield ordinal, line

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

    def find_all(self, rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, int, bool]]:
        """The rows with these keys: key, ordinal, whether the row has the hash that is given with the key.

        They come in the order of the input, but for those that were first mistaken for another. A row with the mark of
        the key and that hash is the row, and is not parsed. Any other is, also where the hash is empty, since it is
        unknown; every row agrees with that.
        """
        keys, hashes, ordinals, marks, mark = list[str](), list[str](), array("I"), self.index.seen.marks, self.mark
        following, rising = 0, True
        for key, sha256_then in rows:
            of_key = mark(key)
            if following >= len(marks) or marks[following] != of_key:  # rows were mostly sent in the order of the input
                ordinal = next(self.index.seen.at(of_key), None)
                if ordinal is None:
                    continue
                rising = rising and ordinal >= following
                following = ordinal
            keys.append(key)
            hashes.append(sha256_then)
            ordinals.append(following)
            following += 1
        if not rising:
            order = sorted(range(len(ordinals)), key=ordinals.__getitem__)
            keys, hashes = [keys[place] for place in order], [hashes[place] for place in order]
            ordinals = array("I", (ordinals[place] for place in order))
        all_unlike, is_unlike = self.index.all_unlike, self.index.is_unlike
        for key, sha256_then, (ordinal, line) in zip(keys, hashes, self.lines(ordinals), strict=True):
            if sha256_then and row_sha256(line) == sha256_then and (all_unlike or is_unlike(ordinal)):
                yield key, ordinal, True
            elif self.key(ordinal, line, self.found(line)) == key:
                yield key, ordinal, sha256_then in ("", row_sha256(line))
            elif (other := self.find(key)) is not None:
                yield key, other, sha256_then in ("", row_sha256(self.line(other)))

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


def row_sha256(line: bytes) -> str:
    """The first half of the SHA-256 of a row as it is written, blanks around it apart."""
    return sha256(line.strip()).hexdigest()[:32]


def base_key(line: bytes, found: Admitted | Rejection) -> str:
    """The key of a row that has no like."""
    if found.custom_id is not None:
        return found.custom_id
    if isinstance(found, Admitted):
        return content_key(canonical(found.value))
    return content_key(line[:_KEY_BYTES], of="line")
