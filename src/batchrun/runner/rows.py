"""The rows of the input, read on as the engine asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from batchrun.core.job import Row
from batchrun.edge.source import Checked


class Rows:
    """Reads a checked input once, in order. Without a `source` there are none. `tokens`: as `Checked.rows`."""

    def __init__(self, source: Checked | None, *, tokens: bool) -> None:
        self._source = source
        self._tokens = tokens
        self._rows: Iterator[Row] | None = None
        self._read = 0
        self.ended = source is None

    def read(self, most: int) -> Iterator[Row]:
        """Up to `most` rows more; `ended` where there were fewer. Raises InputChanged."""
        if self._source is None:
            return
        if self._rows is None:
            self._rows = self._source.rows(tokens=self._tokens)
        for row in islice(self._rows, most):
            self._read += 1
            most -= 1
            yield row
        self.ended = most > 0

    def are_to_come(self, key: str) -> bool:
        """Whether the input holds a row with this key that was not read yet."""
        ordinal = None if self._source is None else self._source.ordinal_of(key)
        return ordinal is not None and ordinal >= self._read
