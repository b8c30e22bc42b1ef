"""Many records: a list in the order of the rows, with the summaries that people ask for first."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from batchrun.core.responses.outcome import Usage
from batchrun.core.taxonomy.rules import State
from batchrun.core.text.readable import many, visible
from batchrun.results.record import Record

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class Records(Sequence[Record]):
    """The records of a batch: a list in the order of the rows, so that ``zip(rows, records)`` fits.

    ``records["row-7"]`` finds one by its key; `ok` and `failed` are the two halves, `by_state` all parts. Printed,
    and at a prompt of IPython or a notebook, it shows what happened, what to do about it and what to type next.
    """

    __module__ = "batchrun"

    def __init__(self, records: Iterable[Record] = (), *, path: Path | None = None, running_jobs: int = 0) -> None:
        self._records = tuple(records)
        self._by_key: dict[str, Record] | None = None
        self.path = path
        """The output that holds them, None where nothing was kept."""
        self.running_jobs = running_jobs
        """The jobs that are still running on the service, billed: those of ``detach=True``."""

    @property
    def going_on(self) -> int:
        """The earlier name of `running_jobs`."""
        return self.running_jobs

    @overload
    def __getitem__(self, which: int) -> Record: ...
    @overload
    def __getitem__(self, which: str) -> Record: ...
    @overload
    def __getitem__(self, which: slice) -> Records: ...
    def __getitem__(self, which: int | str | slice) -> Record | Records:
        """A record by index or by key, or the records of a slice."""
        if isinstance(which, str):
            if self._by_key is None:
                self._by_key = {record.key: record for record in self._records}
            if which not in self._by_key:
                raise KeyError(f"none of the {many(len(self), 'record')} has the key {visible(which, 100)}")
            return self._by_key[which]
        if isinstance(which, slice):
            return self._part(self._records[which])
        try:
            index = operator.index(which)
        except TypeError:
            raise TypeError(f"records[…]: expected an index, a key or a slice, got {type(which).__name__}") from None
        if not -len(self) <= index < len(self):
            count = f"there are {many(len(self), 'record')}, from 0" if len(self) else "there are no records"
            raise IndexError(f"records[{index}]: {count}")
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Records) and self._records == other._records

    __hash__ = None  # type: ignore[assignment] # as a list's

    @property
    def ok(self) -> Records:
        """Those that succeeded."""
        return self._part(one for one in self if one.ok)

    @property
    def failed(self) -> Records:
        """Those that did not."""
        return self._part(one for one in self if not one.ok)

    @property
    def by_state(self) -> dict[State, Records]:
        """The records of each state that occurs."""
        found: dict[State, list[Record]] = {}
        for one in self:
            found.setdefault(one.state, []).append(one)
        return {state: self._part(found[state]) for state in State if state in found}

    @property
    def codes(self) -> Counter[tuple[str, str]]:
        """How many rows ended in each (state, error code); those that succeeded are left out."""
        return Counter(
            (one.state.value, error.code or error.kind)
            for one in self
            if not one.ok and (error := one.error) is not None
        )

    @property
    def usage(self) -> Usage:
        """The tokens of all records; a count that no record has is None."""
        all_of = [one.usage for one in self]
        summed: dict[str, int | None] = {}
        for each in fields(Usage):
            counted = [count for usage in all_of if (count := getattr(usage, each.name)) is not None]
            summed[each.name] = sum(counted) if counted else None
        return Usage(**summed)

    def to_pandas(self) -> pd.DataFrame:
        """A DataFrame with a row for each record, in the same order; ids are strings and times are timestamps."""
        from batchrun.results import tables  # noqa: PLC0415 - loaded only when it is used

        return tables.to_pandas(self)

    def to_arrow(self) -> pa.Table:
        """A pyarrow Table with the same columns; `metadata` as JSON."""
        from batchrun.results import tables  # noqa: PLC0415

        return tables.to_arrow(self)

    def to_csv(self, path: str | Path) -> None:
        """Write the same columns as CSV (mode 0600). What a spreadsheet would run as a formula begins with a quote."""
        from batchrun.results import tables  # noqa: PLC0415

        tables.to_csv(self, path)

    def __repr__(self) -> str:
        from batchrun.results import display  # noqa: PLC0415 - only at a prompt

        where = "" if self.path is None else f" {visible(str(self.path), 200)}"
        return f"<Records{where}: {display.headline(self)}>"

    def __str__(self) -> str:
        from batchrun.results import display  # noqa: PLC0415 - only at a prompt

        return display.text(self._lines())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: FBT001 - as IPython calls it
        """At a prompt of IPython: the lines where the records alone are shown, one line within something else."""
        printer.text(repr(self) if cycle or len(printer.stack) > 1 else str(self))

    def _repr_html_(self) -> str:
        from batchrun.results import display  # noqa: PLC0415

        return display.page(self, self._lines())

    def _lines(self) -> list[str]:
        from batchrun.results import display  # noqa: PLC0415 - only at a prompt

        return list(display.lines(self, self.usage, self.codes, self.running_jobs, self.path))

    def _part(self, records: Iterable[Record]) -> Records:
        return Records(records, path=self.path)


NO_RECORDS: Any = Records()
"""The records of a run that has none."""
