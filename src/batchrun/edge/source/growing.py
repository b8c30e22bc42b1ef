"""An input that takes rows while it runs.

Its copy (`OUT.input`) holds the rows that the batch was opened with, then those that earlier runs were given
while they ran, then those of this run. Whoever appends has made the line durable elsewhere (`OUT.submitted`):
the copy is written again by the next run, and need not be synced for a row's sake.
"""

from __future__ import annotations

from typing import Protocol

from batchrun.core.jobs.jobs import Row
from batchrun.core.rows.parse import Admitted, Rejection, canonical
from batchrun.edge.source.checked import Checked
from batchrun.edge.source.reader import Reader
from batchrun.edge.source.report import Report
from batchrun.edge.source.spool import Spool


class Takes(Protocol):
    """The check, going on with one line more."""

    def take(self, offset: int, line: bytes) -> None: ...


class Growing(Checked):
    """As `Checked`; `append` adds a row, `ended` says that none will follow."""

    def __init__(self, reader: Reader, report: Report, spool: Spool, check: Takes, size: int) -> None:
        super().__init__(reader, report, spool)
        self._copy = spool
        self._check = check
        self._size = size
        self.ended = False

    def judge(self, line: bytes) -> Admitted | Rejection:
        """What `line` is, without taking it."""
        return self._reader.found(line)

    def like(self, row: Admitted) -> bool | None:
        """Whether the row that has this row's custom_id says the same; None where no row has it."""
        at = None if row.custom_id is None else self.ordinal_of(row.custom_id)
        if at is None:
            return None
        other = self._reader.found(self._reader.line(at))
        return isinstance(other, Admitted) and canonical(other.value) == canonical(row.value)

    def append(self, line: bytes) -> Row:
        """Take a row, which `judge` found good, to the end. Raises SpoolFailed where the copy cannot be written."""
        self._copy.write(line + b"\n")
        self._check.take(self._size, line)
        self._size += len(line) + 1
        return self.row(len(self) - 1)
