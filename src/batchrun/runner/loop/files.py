"""The two files that a run appends to: the journal and the output, each with the thread that syncs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from batchrun.core.jobs.messages import Append, BatchFile, Emit, Event, Synced, WriteFailed
from batchrun.core.journal.entries import Entry, mark
from batchrun.core.text.wording import worded
from batchrun.edge.append_file import BatchFilesError, Lines, OpenFile, WriterThread


class BatchFiles:
    """Journal and output, open. `feed` is told what is synced and what failed; `reported` how many records are safe."""

    def __init__(
        self,
        journal: OpenFile,
        output: OpenFile,
        loop: asyncio.AbstractEventLoop,
        feed: Callable[[Event], None],
        reported: Callable[[int], object],
    ) -> None:
        self._feed = feed
        self._reported = reported
        self._journal = self._lines(BatchFile.JOURNAL, journal, mark)
        self._output = self._lines(BatchFile.OUTPUT, output, None)
        self._scribes = [WriterThread(lines.tape, loop) for lines in (self._journal, self._output)]

    @property
    def output_safe(self) -> int:
        """Bytes of the output that are safely on the disk."""
        return self._output.tape.synced_to

    @property
    def failure(self) -> BatchFilesError | None:
        """What could not be written, if anything."""
        return self._journal.tape.failure or self._output.tape.failure

    def append(self, order: Append) -> None:
        with suppress(BatchFilesError):  # a tape that failed has said so already
            self._journal.give(order.line, lazy=order.lazy)

    def emit(self, order: Emit) -> None:
        with suppress(BatchFilesError):
            self._output.give(order.line, lazy=False)

    def note(self, entry: Entry) -> None:
        """An entry of the runner's own, which the engine does not count."""
        with suppress(BatchFilesError):
            self._journal.tape.append(entry.to_line())

    def look(self) -> None:
        """Report what was cut off the files by someone else."""
        for lines in (self._journal, self._output):
            lines.tape.look()

    def close(self) -> None:
        """Sync what there is, and give the files back."""
        for scribe in self._scribes:
            scribe.close()

    def _lines(self, kind: BatchFile, file: OpenFile, first: Callable[[int], bytes] | None) -> Lines:
        return Lines(
            file,
            mark=first,
            safe=lambda lines: self._safe(kind, lines),
            failed=lambda error: self._feed(WriteFailed(kind, worded(error.problem))),
        )

    def _safe(self, kind: BatchFile, lines: int) -> None:
        self._feed(Synced(kind, lines))
        if kind is BatchFile.OUTPUT:
            self._reported(lines)
