"""What can go wrong with our files. All of it ends the run (exit 4), but an input named as output (exit 2)."""

from __future__ import annotations

from typing import Literal

Step = Literal["write", "sync", "replaced", "cut"]


class BatchFilesError(Exception):
    """A file of the batch cannot be used. What was synced before stays as it is, and a later run goes on."""


class FileRefused(BatchFilesError):
    """A file is not what it must be. Nothing was changed.

    `path` is the file, `found` what is there instead, `remedy` the next step.
    """

    def __init__(self, path: str, found: str, remedy: str) -> None:
        super().__init__(f"{path}: {found}; {remedy}")
        self.path = path
        self.found = found
        self.remedy = remedy


class InputIsOutput(FileRefused):
    """The input is one of the files that the run would write: a mistake in the command (exit 2)."""


class AppendFailed(BatchFilesError):
    """Writing or syncing failed; the tape takes nothing more. Everything before `offset` is synced and stays.

    `lost` counts the bytes that were appended and are not on the disk.
    """

    def __init__(self, path: str, step: Step, offset: int, cause: Exception, lost: int = 0) -> None:
        what = {
            "write": "expected to write at",
            "sync": "expected to sync at",
            "replaced": "expected to find the open file at",
            "cut": "expected to find all that was written up to",
        }[step]
        super().__init__(
            f"{path}: {what} offset {offset}, but: {cause}; mend the cause, then run the same command again"
        )
        self.path = path
        self.step = step
        self.offset = offset
        self.cause = cause
        self.lost = lost


class AppendFileClosed(BatchFilesError):
    """An append after the tape was closed: a mistake in this program, not in its use."""
