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

    `records` are those that are finished, `remaining` counts the rows that are not, `running_jobs` the jobs that are
    still running on the service and are billed, `path` is the output, None where nothing was kept.
    """

    records: Records
    remaining: int
    running_jobs: int
    path: Path | None

    @property
    def open(self) -> int:
        """The earlier name of `remaining`."""
        return self.remaining

    @property
    def going_on(self) -> int:
        """The earlier name of `running_jobs`."""
        return self.running_jobs

    def _message(self, how: str, records: Records, remaining: int, running_jobs: int, path: Path | None) -> str:
        self.records, self.remaining, self.running_jobs, self.path = records, remaining, running_jobs, path
        parts = [f"{how}; {many(len(records), 'row')} done, {remaining:,} left"]
        if running_jobs:
            verb = "is" if running_jobs == 1 else "are"
            parts.append(f"{many(running_jobs, 'job')} {verb} still running on the service and will be billed")
        if not records and not remaining:
            parts.append("nothing was sent")
        elif path is None:
            parts.append("nothing was kept (out=False), so this batch cannot be resumed")
        else:
            parts.append("the same call resumes and pays nothing twice")
        return "; ".join(parts)


class Interrupted(_Unfinished, asyncio.CancelledError):
    """The run was interrupted: Ctrl-C, a stopped cell, a cancelled task. The same call resumes."""

    def __init__(
        self, records: Records = NO_RECORDS, *, remaining: int = 0, running_jobs: int = 0, path: Path | None = None
    ) -> None:
        super().__init__(self._message("interrupted", records, remaining, running_jobs, path))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: whoever stopped the cell knows where, and wants to know how it stands."""
        return textwrap.wrap(f"Interrupted: {str(self).removeprefix('interrupted; ')}", 80, subsequent_indent="  ")

    def __reduce__(self) -> tuple[Any, ...]:
        values = {name: getattr(self, name) for name in ("records", "remaining", "running_jobs", "path")}
        return _again, (type(self), values)


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
        remaining: int = 0,
        running_jobs: int = 0,
        path: Path | None = None,
    ) -> None:
        self.reason, self.message, self.advice = reason, message, advice
        message_of_run = self._message(f"halted, {reason}: {visible(message)}", records, remaining, running_jobs, path)
        super().__init__(f"{message_of_run}; {advice}")

    def __reduce__(self) -> tuple[Any, ...]:
        values = {
            name: getattr(self, name)
            for name in ("reason", "message", "advice", "records", "remaining", "running_jobs", "path")
        }
        return _again, (type(self), values)


def _again(kind: Any, values: dict[str, Any]) -> Any:
    """An exception from its values; an earlier version pickled two of them by other names."""
    names = {"open": "remaining", "going_on": "running_jobs"}
    return kind(**{names.get(name, name): value for name, value in values.items()})


for _public in (SettingsError, InputError, FilesError, Interrupted, Halted):
    _public.__module__ = "batchrun.errors"  # the public import path
