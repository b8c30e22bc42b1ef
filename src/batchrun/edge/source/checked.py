"""An input that was checked: its findings, its rows again, and their bodies for as long as the run needs them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from batchrun.core.jobs.job import About, Row
from batchrun.core.responses.error import Problem, our_problem
from batchrun.core.rows.estimate import input_tokens, result_tokens
from batchrun.core.rows.parse import Admitted, Rejection, canonical, metadata
from batchrun.core.rows.prepare import Prepared
from batchrun.core.text.printable import visible
from batchrun.core.text.wording import worded
from batchrun.edge.source.index import READ
from batchrun.edge.source.reader import Reader, row_sha256
from batchrun.edge.source.report import Report
from batchrun.edge.source.spool import Spool


class Checked:
    """The rows of an input by ordinal, which counts every row from 0, the bad ones included.

    Reading again raises `InputChanged` where a line is not what the check saw. Calls may come from any
    thread; none keeps a place in the file.
    """

    def __init__(self, reader: Reader, report: Report, spool: Spool | None) -> None:
        self._reader = reader
        self._spool = spool
        self._closed = False
        self._abouts: dict[str, About] = {}
        self.report = report
        self.name = reader.name

    def __len__(self) -> int:
        return len(self._reader.index)

    def __repr__(self) -> str:
        return f"<Checked {self.name}: {len(self):,} rows, {self.report.problems.total:,} bad>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def rows(self, start: int = 0, *, tokens: bool = False) -> Iterator[Row]:
        """All rows from the ordinal `start` on, in order, the bad ones with their problem.

        With `tokens` each has an estimate of the tokens that it and its answer will take.
        """
        return self.rows_at(range(start, len(self)), tokens=tokens)

    def rows_at(self, ordinals: Iterable[int], *, tokens: bool = False) -> Iterator[Row]:
        """The rows with these ordinals, which rise; as `rows`."""
        reader = self._reader
        for ordinal, line in reader.lines(ordinals):
            found = reader.found(line)
            key = reader.key(ordinal, line, found)
            if not isinstance(found, Admitted) or reader.index.is_bad(ordinal):
                yield Row(key, problem=self._problem(ordinal, found))
                continue
            own = metadata(found, line)
            if own is None and not tokens:
                about = self._about(found.model)
            else:
                about = About(found.model, own, input_tokens(len(line)) + result_tokens(found.body) if tokens else 0)
            yield Row(key, about, row_sha256(line))

    def row(self, ordinal: int) -> Row:
        """The row with this ordinal."""
        return next(self.rows_at((ordinal,)))

    def about(self, ordinal: int) -> About | None:
        """What a record needs of a row that has no metadata of its own; None where the row must be read for it."""
        index = self._reader.index
        number = index.model_of[ordinal]
        return None if number == READ else self._about(index.names[number - 1])

    def find_all(self, rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, int, bool]]:
        """The rows with these keys, in order: key, ordinal, and whether the row has the hash that is given with the key.

        Where the hash is empty, it is unknown, and any row agrees with it.
        """
        return self._reader.find_all(rows)

    def all_keys(self) -> Iterator[str]:
        """The key of every row in order, bad ones included: place n has ordinal n."""
        reader = self._reader
        for ordinal, line in reader.lines(range(len(self))):
            yield reader.key(ordinal, line, reader.found(line))

    def body(self, ordinal: int) -> Prepared:
        """What is sent for a good row."""
        line, found = self._reader.taken(ordinal)
        if not isinstance(found, Admitted) or self._reader.index.is_bad(ordinal):
            raise ValueError(f"row {ordinal} was rejected: it has no body to send")
        return self._reader.intake.prepare(found, line)

    def ordinal_of(self, key: str) -> int | None:
        """The row with `key`, good or bad; None if there is none."""
        return self._reader.find(key)

    def line_of(self, ordinal: int) -> int:
        """The number of a row's line, from 1."""
        return self._reader.index.line_of(ordinal)

    def is_bad(self, ordinal: int) -> bool:
        """Whether the check refused the row."""
        return self._reader.index.is_bad(ordinal)

    def keep(self) -> None:
        """Make the copy of an input that cannot seek durable under its name, before the first submit."""
        if self._spool is not None:
            self._spool.keep()

    def close(self) -> None:
        """Give up the input; a copy that was not kept is gone."""
        if self._closed:
            return
        self._closed = True
        if self._spool is None:
            os.close(self._reader.fd)
        else:
            self._spool.close()

    def _about(self, model: str) -> About:
        """What rows of that model share."""
        return self._abouts.get(model) or self._abouts.setdefault(model, About(model))

    def _problem(self, ordinal: int, found: Admitted | Rejection) -> Problem:
        if isinstance(found, Admitted):
            first = self._reader.find(found.custom_id or "")
            code, message = "duplicate_id", doubled_message(found.custom_id or "", self.line_of(first or 0))
        else:
            code, message = found.code, worded(found.message)
        number = self.line_of(ordinal)
        return our_problem(code, f"{self.name}:{number}: {message}")


class Growing(Checked):
    """An input that takes rows while it runs: `append` adds one, `ended` says that none will follow.

    Its copy (`OUT.input`) holds the rows that the batch was opened with, then those that earlier runs were given
    while they ran, then those of this run. Whoever appends has made the line durable elsewhere (`OUT.submitted`):
    the copy is written again by the next run, and need not be synced for a row's sake.

    `take` is the check, going on with one line more: its offset and the line.
    """

    def __init__(self, reader: Reader, report: Report, spool: Spool, take: Callable[[int, bytes], None]) -> None:
        super().__init__(reader, report, spool)
        self._copy = spool
        self._take = take
        self._size = report.size
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
        self._take(self._size, line)
        self._size += len(line) + 1
        return self.row(len(self) - 1)


def doubled_message(custom_id: str, first: int) -> str:
    """The message for a row whose id an earlier row has."""
    return f"custom_id {visible(custom_id, 60)!r} stands on line {first:,} already: give one of the two another"
