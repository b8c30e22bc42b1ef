"""What can go wrong with our files. All of it ends the run (exit 4), but an input named as output (exit 2)."""

from __future__ import annotations

from typing import Literal

from batchrun.core.settings.settings import Refusal
from batchrun.core.text.readable import Action, Option, Text

Step = Literal["write", "sync", "replaced", "cut"]
_EXPECTED = {
    "write": "expected to write at",
    "sync": "expected to sync at",
    "replaced": "expected to find the open file at",
    "cut": "expected to find all that was written up to",
}


class BatchFilesError(Refusal):
    """A file of the batch cannot be used. What was synced before stays as it is, and a later run resumes."""


class FileRefused(BatchFilesError):
    """The file at `path` is not what it must be: `found` is what is there instead. Nothing was changed."""

    def __init__(self, path: str, found: Text, remedy: Text) -> None:
        super().__init__(found, remedy, path)
        self.path = path
        self.found = found


class InputIsOutput(FileRefused):
    """The input is one of the files that the run would write: a mistake in the command (exit 2)."""

    def __init__(self, path: str, source: str) -> None:
        remedy = ("choose another output with ", Option("out"))
        super().__init__(path, f"is the same file as the input {source!r}", remedy)


class AppendFailed(BatchFilesError):
    """Writing or syncing failed; the file takes nothing more. Everything before `offset` is synced and stays.

    `lost` counts the bytes that were appended and are not on the disk.
    """

    def __init__(self, path: str, step: Step, offset: int, cause: Exception, lost: int = 0) -> None:
        super().__init__(
            f"{_EXPECTED[step]} offset {offset}, but: {cause}", ("mend the cause, then ", Action.RUN_AGAIN), path
        )
        self.path = path
        self.step = step
        self.offset = offset
        self.cause = cause
        self.lost = lost


class AppendFileClosed(BatchFilesError):
    """An append after the file was closed: a mistake in this program, not in its use."""
