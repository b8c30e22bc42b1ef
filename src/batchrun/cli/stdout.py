"""``-o -``: records to standard output, each after it was synced to a file.

With ``--journal FILE`` that file is FILE.records, and the run can be resumed: what it held before is not
printed again. Without, the files are in a temporary folder and are deleted with the run.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable

from batchrun.core.text.readable import visible

_CHUNK = 1 << 20


class Copy:
    """Copies the synced part of the records at `path` to stdout.

    The file is `kept` after the run, or not.
    """

    def __init__(self, path: str, *, kept: bool) -> None:
        self.path = path
        self.kept = kept
        self._closed: Callable[[str | None], None] | None = None
        self._offset: int | None = None
        self._broken = False

    def begin(self, closed: Callable[[str | None], None]) -> None:
        """Skip what the file holds already.

        `closed` is called once stdout can no longer be written: with None where its reader is gone, which is how
        ``| head`` ends, else with a message.
        """
        self._closed = closed
        self._offset = os.path.getsize(self.path) if os.path.exists(self.path) else 0  # noqa: PTH110, PTH202 - str, as in edge

    def upto(self, synced: int) -> None:
        """Print what was synced since the last call."""
        if self._offset is None or self._broken or synced <= self._offset:
            return
        with open(self.path, "rb") as records:  # noqa: PTH123 - as above
            records.seek(self._offset)
            while self._offset < synced and not self._broken:
                chunk = records.read(min(_CHUNK, synced - self._offset))
                self._offset += len(chunk)
                self._print(chunk)

    def _print(self, chunk: bytes) -> None:
        try:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        except (OSError, ValueError, AttributeError) as error:  # no reader, no room, no stdout at all
            self._broken = True
            # So that the interpreter does not complain at its exit about what it cannot flush.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            assert self._closed is not None
            self._closed(None if isinstance(error, BrokenPipeError) else self._message(error))

    def _message(self, error: Exception) -> str:
        why = error.strerror if isinstance(error, OSError) else "it is closed"
        where = (
            f"all records are in {visible(self.path, 2000)}; a later run prints only new ones"
            if self.kept
            else "what was not printed is lost; give --journal FILE, which keeps all records in FILE.records"
        )
        return f"stdout: expected to write records, but: {why}; {where}"


class StdoutFiles:
    """The files of a run to stdout, for as long as the block lasts."""

    def __init__(self, journal: str | None) -> None:
        self.journal = journal
        self._folder: str | None = None

    def __enter__(self) -> str:
        if self.journal is not None:
            return f"{self.journal}.records"
        self._folder = tempfile.mkdtemp(prefix="batchrun-")
        return os.path.join(self._folder, "records.jsonl")  # noqa: PTH118 - as above

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
