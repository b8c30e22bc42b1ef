"""Reads the files of a batch while a run may be writing them: nothing is changed, created, locked or delayed.

Each read takes what was written since the last. A line without its end is not there yet. Where a file was replaced
(`--retry-failed`, `--repair`, `--fresh`) or cut, all is read again.

The order within a read: first whether a run is alive, so that the last lines of one that is not are in the journal
for sure; then the size of the output, then the journal, then the output up to that size, so that the journal has
every entry about the rows whose records are counted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace

from batchrun.core.settings.settings import UsageError
from batchrun.core.status.snapshot import RECENT_SECONDS
from batchrun.core.status.status import BatchStatus, JournalFollower, RecordCounts, status_of
from batchrun.edge.append_file import FileNames, open_to_read
from batchrun.edge.append_file.opening import refused
from batchrun.edge.lock import Holder, holder_of
from batchrun.runner.opening.damage import edited, refuse_damage, survey
from batchrun.runner.opening.read import fold_file, no_collections, read_header, recovered

_LONG = 0.2  # seconds of reading in which so much has happened that it is worth reading on
_MOST_ROUNDS = 5
_PIECE = 1 << 20
_JUDGED_UP_TO = 64 << 20
"""Bytes of an output that is read once more where it may have been edited; of a larger one the next run tells."""


class StatusReader:
    """Reads the status of the batch at `names`, again and again."""

    def __init__(self, names: FileNames) -> None:
        self._names = names
        self._course, self._tally = JournalFollower(), RecordCounts()
        self._journal = self._output = _Growing(None)
        self._judged: tuple[int, int] | None = None  # sizes for which it is known what is odd about the output
        self._found: str | None = None

    def look(self, now: float) -> BatchStatus:
        """How the batch stands. `now` is the time of day, in seconds since 1970.

        Raises Misuse where there is no batch, and FilesError, in a run's own words, where a run would refuse the files.
        """
        begun = time.monotonic()
        holder: Holder | None = None
        for _ in range(_MOST_ROUNDS):
            round_begun = time.monotonic()
            holder = holder_of(self._names.lock)
            self._read(now + round_begun - begun)
            if time.monotonic() - round_begun < _LONG:
                break
        status = status_of(
            self._course,
            self._tally,
            now + time.monotonic() - begun,
            held=holder is not None,
            process=None if holder is None else holder.pid,
            unread=(self._output.offset, self._output.size()),
        )
        return status if holder is not None else replace(status, edited=self._edits())

    def _edits(self) -> str | None:
        """What is odd about the output, where no run is on. An output of the size that the journal tells of is taken for
        the one that was written: to read all of it takes long."""
        course, size = self._course, self._output.size()
        if course.fold.rewrite is not None or course.marked == size or size > _JUDGED_UP_TO:
            return None
        if (known := (course.marked, size)) != self._judged:
            state = fold_file(self._names.journal)
            doubts = list(recovered(self._names, state).doubts)
            self._judged, self._found = known, edited(doubts) if doubts else None
        return self._found

    def close(self) -> None:
        """Give the files back."""
        self._journal.close()
        self._output.close()

    def _read(self, now: float) -> None:
        if self._course.fold.header is None or self._is_stale():
            self._begin_anew()
        self._read_on(now)
        if self._course.trusts_too_much(self._output.size()):
            self._begin_anew(sceptical=True)
            self._read_on(now)

    def _read_on(self, now: float) -> None:
        course, tally = self._course, self._tally
        course.since = now - RECENT_SECONDS
        tally.keep_times_since(course.since)
        written = self._output.size()
        damaged = False
        with no_collections():
            course.take(self._journal.lines())
            tally.times.run_since(None if course.fold.started is None else course.fold.started.at)
            for line in self._output.lines(written):
                key = tally.take(line)
                if key is None:  # damage; or a tail that a power cut left, and that the next run cuts
                    damaged = self._output.offset < course.records_end
                    break
                course.recorded(key)
        if damaged or course.fold.corrupt:
            self._refuse_damage()

    def _is_stale(self) -> bool:
        """Whether the files no longer begin with what was read of them."""
        rewritten = (
            self._course.fold.torn and self._journal.has_changed()
        )  # its tail was cut, perhaps, and written again
        return rewritten or self._journal.is_stale() or self._output.is_stale()

    def _begin_anew(self, *, sceptical: bool = False) -> None:
        names = self._names
        while True:
            self.close()
            if read_header(names) is None:
                place = names.output or names.journal
                raise UsageError(f"{names.journal}: there is no batch here; run one with batchrun INPUT -o {place}")
            self._course, self._tally = JournalFollower(sceptical=sceptical), RecordCounts()
            self._journal = _Growing(names.journal)
            self._output = _Growing(names.output)
            if not self._is_stale():  # not caught between two renames
                return

    def _refuse_damage(self) -> None:
        state = fold_file(self._names.journal)
        damage = survey(self._names, state, recovered(self._names, state))
        if damage is not None:
            refuse_damage(self._names, damage, None)


class _Growing:
    """A file that another process appends whole lines to, each to be read once; or one that is not there yet."""

    def __init__(self, path: str | None) -> None:
        self.offset = 0  # up to here its lines were read
        self._path = path
        self._size = 0  # when they were
        self._file = None if path is None else open_to_read(path)
        self._lines = None if self._file is None else os.fdopen(self._file.descriptor, "rb", buffering=_PIECE)

    def lines(self, end: int | None = None) -> Iterator[bytes]:
        """The lines that are new, up to offset `end`. One counts as read when the next is asked for."""
        self._size = self.size()
        if self._lines is None or self._path is None:
            return
        try:
            self._lines.seek(self.offset)
            for line in self._lines:
                behind = self.offset + len(line)
                if not line.endswith(b"\n") or (end is not None and behind > end):
                    return
                yield line
                self.offset = behind
        except OSError as error:
            raise refused(self._path, error) from error

    def size(self) -> int:
        """What it holds now."""
        return 0 if self._file is None else os.fstat(self._file.descriptor).st_size

    def has_changed(self) -> bool:
        """Whether it has another size than when it was read."""
        return self.size() != self._size

    def is_stale(self) -> bool:
        """Whether it is another file by now, or was cut."""
        if self._file is None:
            return self._path is not None and os.path.lexists(self._path)
        return self._file.is_replaced() or self.size() < self.offset

    def close(self) -> None:
        if self._lines is not None:
            self._lines.close()
        self._file = self._lines = self._path = None
