"""What ends a run of the API before its time, with all that is known by then.

`Interrupted` is a cancellation and no `Exception`, as KeyboardInterrupt is none: ``except Exception`` in a loop
around a batch must not swallow a Ctrl-C, and asyncio's own timeouts and task groups must see that the task was
cancelled. Everything else is a `BatchrunError`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from batchrun.core.text.printable import visible
from batchrun.core.text.units import many
from batchrun.results.record import BatchrunError
from batchrun.results.records import NO_RECORDS, Records


class SettingsError(BatchrunError, ValueError):
    """A setting, a variable or a file says something that cannot be. Nothing was sent."""


class InputError(BatchrunError, ValueError):
    """The rows cannot be used as they are. Nothing was sent, unless the text says otherwise."""


class FilesError(BatchrunError):
    """A file of the batch cannot be used or written. What was synced stays, and the same call goes on."""


class _Unfinished:
    """What is known of a run that ended before its rows did.

    `records` are those that are finished, `open` counts the rows that are not, `going_on` the jobs that run on over
    there and are billed, `path` is the output, None where nothing was kept.
    """

    records: Records
    open: int
    going_on: int
    path: Path | None

    def _tell(self, how: str, records: Records, open_rows: int, going_on: int, path: Path | None) -> str:
        self.records, self.open, self.going_on, self.path = records, open_rows, going_on, path
        said = [f"{how}; {many(len(records), 'row')} done, {open_rows:,} open"]
        if going_on:
            said.append(f"{many(going_on, 'job')} {'goes' if going_on == 1 else 'go'} on over there, billed")
        if not records and not open_rows:
            said.append("nothing was sent")
        elif path is None:
            said.append("nothing was kept (out=False), so nothing can go on from here")
        else:
            said.append("the same call goes on from here and pays nothing twice")
        return "; ".join(said)


class Interrupted(_Unfinished, asyncio.CancelledError):
    """The run was interrupted: Ctrl-C, a stopped cell, a cancelled task. The same call goes on with it."""

    def __init__(
        self, records: Records = NO_RECORDS, *, open: int = 0, going_on: int = 0, path: Path | None = None  # noqa: A002
    ) -> None:  # fmt: skip
        super().__init__(self._tell("interrupted", records, open, going_on, path))

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), {"records": self.records, "open": self.open, "going_on": self.going_on, "path": self.path})  # fmt: skip


class Halted(_Unfinished, BatchrunError):
    """The run submits nothing more, for a `reason` that concerns every row: quota, budget, auth, outage, …

    `advice` says what to do; the same call then goes on.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        advice: str,
        records: Records = NO_RECORDS,
        *,
        open: int = 0,  # noqa: A002 - as the attribute
        going_on: int = 0,
        path: Path | None = None,
    ) -> None:
        self.reason, self.message, self.advice = reason, message, advice
        told = self._tell(f"halted, {reason}: {visible(message)}", records, open, going_on, path)
        super().__init__(f"{told}; {advice}")

    def __reduce__(self) -> tuple[Any, ...]:
        told = {
            name: getattr(self, name) for name in ("reason", "message", "advice", "records", "open", "going_on", "path")
        }
        return _again, (type(self), told)


def _again(kind: Any, told: dict[str, Any]) -> Any:
    return kind(**told)


for _of in (SettingsError, InputError, FilesError, Interrupted, Halted):
    _of.__module__ = "batchrun.errors"  # where people find them
