"""The files that a run writes: journal and output, each with the thread that syncs it, and the folder of artifacts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b

from batchrun.core.jobs.messages import (
    Append,
    ArtifactsDiscarded,
    ArtifactsFailed,
    ArtifactsStored,
    BatchFile,
    DiscardArtifacts,
    Emit,
    Event,
    StoreArtifacts,
    Synced,
    WriteFailed,
)  # fmt: skip
from batchrun.core.journal.entries import Entry, mark
from batchrun.core.records.artifact_names import left_behind
from batchrun.core.records.artifacts import Stored
from batchrun.core.text.readable import Action, many, worded
from batchrun.edge.append_file import BatchFilesError, FileRefused, Lines, OpenFile, WriterThread
from batchrun.edge.append_file.writer_thread import Loop
from batchrun.edge.artifacts import ArtifactWriter, Folder
from batchrun.runner.opening.open import OpenBatch

# --- OUT.unreadable/: responses that could not be parsed, kept as received. They were very likely paid for ---


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def keep_unreadable(folder: str, key: str, body: bytes) -> str | None:
    """Write `body` into `folder` under a name made from the row's key; its path, or None if that failed.

    The name is a hash, because a key may hold anything. The file is always a new one, renamed over what has its name:
    nothing is written through a link. A failure loses nothing that could be parsed: the record says what happened, and
    the job can be fetched again while the service keeps it.
    """
    name = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest() + ".body"
    unfinished = f"{name}.new"
    with suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103 - paths are str in the edge
        at = os.open(folder, _FOLDER)
        try:
            with suppress(FileNotFoundError):
                os.unlink(unfinished, dir_fd=at)
            with os.fdopen(os.open(unfinished, _NEW, 0o600, dir_fd=at), "wb") as file:
                file.write(body)
            os.rename(unfinished, name, src_dir_fd=at, dst_dir_fd=at)
        finally:
            os.close(at)
        return f"{folder}/{name}"
    return None


class BatchFiles:
    """Journal and output, open. `feed` gets what is synced and what failed, `saved` how many records are."""

    def __init__(
        self,
        journal: OpenFile,
        output: OpenFile,
        loop: asyncio.AbstractEventLoop,
        feed: Callable[[Event], None],
        saved: Callable[[int], None],
    ) -> None:
        self._feed = feed
        self._saved = saved
        self._journal = self._lines(BatchFile.JOURNAL, journal, mark)
        self._output = self._lines(BatchFile.OUTPUT, output, None)
        self._threads = [WriterThread(lines.file, loop) for lines in (self._journal, self._output)]

    @property
    def output_safe(self) -> int:
        """Bytes of the output that are safely on the disk."""
        return self._output.file.synced_to

    @property
    def failure(self) -> BatchFilesError | None:
        """What could not be written, if anything."""
        return self._journal.file.failure or self._output.file.failure

    def append(self, order: Append) -> None:
        try:  # noqa: SIM105 - `suppress` takes as long as the append
            self._journal.append(order.line, lazy=order.lazy)
        except BatchFilesError:
            pass  # a file that failed has been reported

    def emit(self, order: Emit) -> None:
        try:  # noqa: SIM105 - as above
            self._output.append(order.line, lazy=False)
        except BatchFilesError:
            pass

    def note(self, entry: Entry) -> None:
        """An entry of the runner's own, which the engine does not count."""
        with suppress(BatchFilesError):
            self._journal.file.append(entry.to_line())

    def check_sizes(self) -> None:
        """Report what another process cut off the files."""
        for lines in (self._journal, self._output):
            lines.file.check_length()

    def close(self) -> None:
        """Sync what there is, and give the files back."""
        for thread in self._threads:
            thread.close()

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
            self._saved(lines)


class ArtifactFiles:
    """Carries out what the engine asks for in `folder`; what became of it is given to `feed`."""

    def __init__(self, folder: Folder, feed: Callable[[Event], None], loop: Loop) -> None:
        self._storer = ArtifactWriter(folder, loop)
        self._feed = feed
        self.close = self._storer.close

    def store(self, order: StoreArtifacts) -> None:
        job, attempt, body, found = order

        def ended(result: tuple[Stored | None, ...] | str) -> None:
            if isinstance(result, str):
                self._feed(ArtifactsFailed(job, attempt, result))
            else:
                self._feed(ArtifactsStored(job, attempt, result))

        self._storer.store(body, found, ended)

    def discard(self, order: DiscardArtifacts) -> None:
        job, attempt, names = order

        def ended(result: tuple[Stored | None, ...] | str) -> None:
            if isinstance(result, str):
                self._feed(ArtifactsFailed(job, attempt, result))
            else:
                self._feed(ArtifactsDiscarded(job, attempt, names))

        self._storer.discard(names, ended)


def find_files(batch: OpenBatch, folder: Folder) -> None:
    """Note the files that an earlier run stored for rows whose record it did not get to write; remove half written ones.

    Raises FileRefused where the folder cannot be read or written.
    """
    try:
        batch.files, halves = left_behind(folder.names(), batch.header.run_id, batch.recovery.open_journaled)
        folder.remove(halves)
        if halves:
            folder.sync()  # once its row has a record nothing would look for a half that a power cut brings back
    except OSError as error:
        message = f"expected to read and write it, but: {error}"
        raise FileRefused(folder.path, message, ("fix the cause, then ", Action.RUN_AGAIN)) from error
    if batch.files:
        count = sum(map(len, batch.files.values()))
        batch.notes.append(f"{many(count, 'file')} of {many(len(batch.files), 'open row')} found in {folder.path}")
