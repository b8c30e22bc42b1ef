"""What is kept of each row: where it stands, what it was, and the mark of its key. No text.

A row costs 8 bytes for its offset, 4 for its checksum, 1 for its model, 8 for its mark and 6 to 12 for the
table that finds it: 27 to 33, and 4 more where rows are alike. What is rare (blank lines, bad rows) has lists of its own,
in the order of the file, so that one search finds a row in them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right

from batchrun.core.rows.key_index import KeyIndex

READ = 0  # instead of the number of a model: the row must be read again to know what its record needs
_MODELS = 255
_FIRST = 1 << 31  # on the first of rows that are alike, with their number; the others hold which one they are


class Index:
    """The rows of an input by ordinal, the bad ones included: they are rows too, and have records."""

    def __init__(self) -> None:
        self.offsets = array("Q")
        self.sums = array("I")
        self.seen = KeyIndex()
        self.bad = array("I")  # ordinals
        self.doubled = bytearray()  # beside `bad`: its id stood on an earlier row
        self.model_of = bytearray()  # of good rows without metadata: 1 + the place in `names`; else READ
        self.names: list[str] = []
        self._models: dict[str, int] = {}
        self.end = 0  # where the last row ends, at most
        self._alike = array("I")  # grows as far as the last row that has a like
        self._blank_at = array("I")  # before this ordinal there are …
        self._blanks = array("I")  # … so many blank lines

    def __len__(self) -> int:
        return len(self.offsets)

    def model(self, name: str) -> int:
        """What stands for a model in `model_of`; READ for the rare ones beyond the first 255."""
        if name not in self._models and len(self.names) < _MODELS:
            self.names.append(name)
            self._models[name] = len(self.names)
        return self._models.get(name, READ)

    def line_of(self, ordinal: int) -> int:
        """The number of the line that holds the row, from 1."""
        at = bisect_right(self._blank_at, ordinal)
        return ordinal + 1 + (self._blanks[at - 1] if at else 0)

    def blank_before(self, ordinal: int) -> None:
        """A blank line stands before the row `ordinal`, which comes next."""
        if self._blank_at and self._blank_at[-1] == ordinal:
            self._blanks[-1] += 1
        else:
            self._blanks.append((self._blanks[-1] if self._blanks else 0) + 1)
            self._blank_at.append(ordinal)

    def is_bad(self, ordinal: int) -> bool:
        at = bisect_left(self.bad, ordinal)
        return at < len(self.bad) and self.bad[at] == ordinal

    def is_doubled(self, ordinal: int) -> bool:
        """Whether the row has an id that an earlier row has."""
        at = bisect_left(self.bad, ordinal)
        return at < len(self.bad) and self.bad[at] == ordinal and bool(self.doubled[at])

    def is_unlike(self, ordinal: int) -> bool:
        """Whether the row is good and the check met no other like it: its bytes then tell its key."""
        return not (ordinal < len(self._alike) and self._alike[ordinal]) and not self.is_bad(ordinal)

    @property
    def all_unlike(self) -> bool:
        """Whether that is so for every row."""
        return not self._alike and not self.bad

    def which(self, ordinal: int) -> int:
        """1 for the first of rows that are alike, 2 for the second, and so on."""
        number = self._alike[ordinal] if ordinal < len(self._alike) else 0
        return number if 0 < number < _FIRST else 1

    def alike(self, first: int) -> int:
        """How many rows are like `first`, itself included."""
        number = self._alike[first] if first < len(self._alike) else 0
        return number - _FIRST if number >= _FIRST else 1

    def set_alike(self, first: int, ordinal: int, number: int) -> None:
        """The row `ordinal` is number `number` of the rows like `first`."""
        missing = ordinal + 1 - len(self._alike)
        if missing > 0:
            self._alike.extend(array("I", [0]) * missing)
        self._alike[first] = _FIRST + number
        self._alike[ordinal] = number
