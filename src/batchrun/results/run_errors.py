"""The exceptions that end a run of the API early, with the records so far.

`Interrupted` is a cancellation and, like KeyboardInterrupt, not an `Exception`: ``except Exception`` in a loop around a
batch must not swallow a Ctrl-C, and asyncio's own timeouts and task groups must see that the task was cancelled.
Everything else is a `BatchrunError`.
"""

from __future__ import annotations

import asyncio
import textwrap
from pathlib import Path
from typing import Any

from batchrun.core.text.readable import many, visible
from batchrun.results.record import BatchrunError
from batchrun.results.records import NO_RECORDS, Records


class SettingsError(BatchrunError, ValueError):
    """A setting, an environment variable or a file has an invalid value. Nothing was sent."""


class InputError(BatchrunError, ValueError):
    """The rows cannot be used as they are. Nothing was sent, unless the message says otherwise."""


class FilesError(BatchrunError):
    """A file of the batch cannot be used or written. What was synced stays, and the same call resumes."""


class _Unfinished:
    """What is known of a run that ended before its rows did.

    `records` are those that are finished, `open` counts the rows that are not, `going_on` the jobs that are still
    running on the service and are billed, `path` is the output, None where nothing was kept.
    """

    records: Records
    open: int
    going_on: int
    path: Path | None

    def _message(self, how: str, records: Records, open_rows: int, going_on: int, path: Path | None) -> str:
        self.records, self.open, self.going_on, self.path = records, open_rows, going_on, path
        parts = [f"{how}; {many(len(records), 'row')} done, {open_rows:,} open"]
        if going_on:
            parts.append(f"{many(going_on, 'job')} {'goes' if going_on == 1 else 'go'} on over there, billed")
        if not records and not open_rows:
            parts.append("nothing was sent")
        elif path is None:
            parts.append("nothing was kept (out=False), so nothing can go on from here")
        else:
            parts.append("the same call goes on from here and pays nothing twice")
        return "; ".join(parts)


class Interrupted(_Unfinished, asyncio.CancelledError):
    """The run was interrupted: Ctrl-C, a stopped cell, a cancelled task. The same call resumes."""

    def __init__(
        self, records: Records = NO_RECORDS, *, open: int = 0, going_on: int = 0, path: Path | None = None  # noqa: A002
    ) -> None:  # fmt: skip
        super().__init__(self._message("interrupted", records, open, going_on, path))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: whoever stopped the cell knows where, and wants to know how it stands."""
        return textwrap.wrap(f"Interrupted: {str(self).removeprefix('interrupted; ')}", 80, subsequent_indent="  ")

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), {"records": self.records, "open": self.open, "going_on": self.going_on, "path": self.path})  # fmt: skip


class Halted(_Unfinished, BatchrunError):
    """The run submits nothing more, for a `reason` that concerns every row: quota, budget, auth, outage, …

    `advice` says what to do; the same call then resumes.
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
        message_of_run = self._message(f"halted, {reason}: {visible(message)}", records, open, going_on, path)
        super().__init__(f"{message_of_run}; {advice}")

    def __reduce__(self) -> tuple[Any, ...]:
        values = {
            name: getattr(self, name) for name in ("reason", "message", "advice", "records", "open", "going_on", "path")
        }
        return _again, (type(self), values)


def _again(kind: Any, values: dict[str, Any]) -> Any:
    return kind(**values)


for _public in (SettingsError, InputError, FilesError, Interrupted, Halted):
    _public.__module__ = "batchrun.errors"  # the public import path
