"""The folder of results that are files: `Folder` writes files into it, `ArtifactWriter` does so in threads."""

from __future__ import annotations

import os
import stat
import threading
from binascii import a2b_base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from queue import Empty, SimpleQueue

from batchrun.core.records.artifact_names import unfinished
from batchrun.core.records.artifacts import Found, Stored, base64_of
from batchrun.core.text.readable import Option
from batchrun.edge.append_file import REAL_DISK, Disk, FileRefused
from batchrun.edge.append_file.opening import PRIVATE_MODE, identity_of, refused
from batchrun.edge.append_file.writer_thread import POLL_WAIT, Loop, Timer

__all__ = ["ArtifactWriter", "Folder", "JobFiles", "open_folder"]


# --- A folder of artifacts, and how the files of one job are written into it ---
#
# A file is written under a temporary name, synced, and renamed; then the folder is synced. So under its final name it
# is complete or missing, and an earlier one stays until then. No link is followed: the folder is none, and each file is
# newly created.


# Bytes of base64, a multiple of four. Decoding holds the interpreter's lock, about 2 ns per byte.
PIECE = 1 << 20
_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_FOLDER_MODE = 0o700


@dataclass(frozen=True, slots=True)
class Folder:
    """An open folder of artifacts. `shown` is its path in records: relative to the folder of the output."""

    path: str
    shown: str
    identity: tuple[int, int]
    disk: Disk = REAL_DISK

    def names(self) -> list[str]:
        return os.listdir(self.path)  # noqa: PTH208 - paths are str in the edge

    def remove(self, names: Iterable[str]) -> None:
        """Remove these files; a missing one is no error. Raises OSError."""
        for name in names:
            with suppress(FileNotFoundError):
                self.disk.remove(f"{self.path}/{name}")

    def sync(self) -> None:
        """Return when the names in the folder would survive a power cut. Raises OSError, also where it was replaced."""
        if identity_of(self.disk.lstat(self.path)) != self.identity:
            raise NotADirectoryError(f"{self.path} now leads to another folder")
        self.disk.sync_folder(self.path)


def open_folder(path: str, base: str, forbidden: Iterable[str] = (), disk: Disk = REAL_DISK) -> Folder:
    """Open the folder at `path`, created if missing; `base` is the folder to which paths in records are relative.

    `forbidden` are the paths of the batch's own files. Raises FileRefused.
    """
    path = os.path.join(os.getcwd(), path).rstrip("/") or "/"  # noqa: PTH109, PTH118 - as above
    if path in forbidden:
        raise FileRefused(path, "is a file of this batch", ("give another folder with ", Option("artifacts")))
    try:
        with suppress(FileExistsError):
            os.mkdir(path, _FOLDER_MODE)  # noqa: PTH102 - as above
            disk.sync_folder(os.path.dirname(path))  # noqa: PTH120 - as above
        status = disk.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            found = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "a file"
            raise FileRefused(path, f"expected a folder, found {found}", "give a folder, or a new path")
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise FileRefused(path, "no permission to read and write it", "choose a folder of your own")
        shown = os.path.relpath(os.path.realpath(path), os.path.realpath(base))
        shown.encode()
    except UnicodeEncodeError as error:
        raise FileRefused(path, "its path is not UTF-8, and records are", "choose another folder") from error
    except (OSError, ValueError) as error:
        raise refused(path, error) from error
    return Folder(path, shown, identity_of(status), disk)


class JobFiles:
    """The files of one job: `write` them, then `publish` them, then sync the folder. Each may raise OSError.

    `stored` has what was written, None for a string that is not base64.
    """

    def __init__(self, folder: Folder, body: bytes, found: Sequence[Found]) -> None:
        self._folder = folder
        self._body = body
        self._found = found
        self.stored: list[Stored | None] = []

    def write(self) -> None:
        """Write and sync the files under their temporary names."""
        for file in self._found:
            try:
                self.stored.append(self._write(file))
            except ValueError:
                self._folder.remove([unfinished(file.name)])
                self.stored.append(None)

    def publish(self) -> None:
        """Give the files their final names."""
        folder = self._folder
        for file, stored in zip(self._found, self.stored, strict=True):
            if stored is not None:
                folder.disk.rename(f"{folder.path}/{unfinished(file.name)}", f"{folder.path}/{file.name}")

    def undo(self) -> None:
        """Remove the temporary files, as far as possible. Files with final names stay: they may be an earlier run's, and
        the only copy of a paid result."""
        for file in self._found:
            with suppress(OSError):
                self._folder.remove([unfinished(file.name)])

    def _write(self, file: Found) -> Stored:
        folder, disk = self._folder, self._folder.disk
        path = f"{folder.path}/{unfinished(file.name)}"
        try:
            descriptor = disk.open(path, _NEW_FLAGS, PRIVATE_MODE)
        except FileExistsError:  # an earlier run was killed
            disk.remove(path)
            descriptor = disk.open(path, _NEW_FLAGS, PRIVATE_MODE)
        try:
            size, digest = 0, sha256()
            for piece in _decoded(base64_of(self._body, file.start, file.end)):
                size += len(piece)
                digest.update(piece)
                disk.write_all(descriptor, piece)
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)
        return Stored(size, digest.hexdigest())


def _decoded(text: memoryview) -> Iterator[bytes]:
    """The bytes of `text` piece by piece; ValueError where it is not base64."""
    for start in range(0, len(text), PIECE):
        piece = text[start : start + PIECE]
        if start + PIECE < len(text) and piece[-1] == ord("="):
            raise ValueError("expected padding only at the end")
        yield a2b_base64(piece, strict_mode=True)


# --- The threads that write artifacts next to an event loop ---
#
# There are two, so that one decodes while the other waits for the disk. Each takes what is queued, writes it, and syncs
# the folder once for all of it. The first error is the last: nothing is written after it, since a repeated sync can
# report success falsely.
#
# A thread that wants the interpreter's lock may wait for ever next to a busy loop (see `append_file.writer_thread`), so
# while tasks are unfinished the loop gives way every few milliseconds.


WRITERS = 2
MAX_TOGETHER = 8  # tasks that may share one sync of the folder
_YIELD_EVERY = 0.004  # seconds

Report = Callable[["tuple[Stored | None, ...] | str"], None]
"""Gets the result of a task: what was stored (nothing, for a removal), or what went wrong."""


@dataclass(slots=True)
class _StoreTask:
    report: Report
    files: JobFiles | None
    surplus: Sequence[str]
    error: str | None = None

    def result(self) -> tuple[Stored | None, ...] | str:
        return self.error or (() if self.files is None else tuple(self.files.stored))


class ArtifactWriter:
    """Writes and removes files in `folder`. Reports are called in the loop; all methods belong to the loop's thread."""

    def __init__(self, folder: Folder, loop: Loop) -> None:
        self._folder = folder
        self._loop = loop
        self._tasks: SimpleQueue[_StoreTask | None] = SimpleQueue()
        self._ended: SimpleQueue[_StoreTask] = SimpleQueue()
        self._unreported = 0
        self._timer: Timer | None = None
        self._failure: str | None = None
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"storer {number}", daemon=True) for number in range(WRITERS)
        ]
        for thread in self._threads:
            thread.start()

    def store(self, body: bytes, found: Sequence[Found], report: Report) -> None:
        """Write these files; `report` is called when they would survive a power cut."""
        self._send(_StoreTask(report, JobFiles(self._folder, body, found), ()))

    def discard(self, names: Sequence[str], report: Report) -> None:
        """Remove these files; `report` is called when they would stay away after a power cut."""
        self._send(_StoreTask(report, None, names))

    def close(self) -> None:
        """Finish the files that are being written, drop the others, and report nothing more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        with suppress(Empty):
            while True:
                self._tasks.get_nowait()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _send(self, task: _StoreTask) -> None:
        if self._closed:
            return
        self._unreported += 1
        self._tasks.put(task)
        if self._timer is None:
            self._timer = self._loop.call_later(_YIELD_EVERY, self._yield)

    def _yield(self) -> None:
        self._timer = None
        with suppress(Empty):
            self._report(self._ended.get(timeout=POLL_WAIT))
        if self._unreported and not self._closed and self._timer is None:
            self._timer = self._loop.call_later(_YIELD_EVERY, self._yield)

    def _collect(self) -> None:
        with suppress(Empty):
            while True:
                self._report(self._ended.get_nowait())

    def _report(self, task: _StoreTask) -> None:
        if not self._closed:
            self._unreported -= 1
            task.report(task.result())

    # --- in the threads ---

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            batch = [task]
            self._write(task)
            last = False
            with suppress(Empty):
                while len(batch) < MAX_TOGETHER and not last:
                    following = self._tasks.get_nowait()
                    if following is None:
                        last = True
                    else:
                        batch.append(following)
                        self._write(following)
            self._sync(batch)
            for task in batch:
                self._ended.put(task)
            with suppress(RuntimeError):  # the loop was closed: nothing waits for the report
                self._loop.call_soon_threadsafe(self._collect)
            if last:
                return

    def _write(self, task: _StoreTask) -> None:
        """Write or remove files. Their names are not synced yet."""
        try:
            if self._failure is None:
                if task.files is not None:
                    task.files.write()
                    task.files.publish()
                self._folder.remove(task.surplus)
        except Exception as error:  # noqa: BLE001 - whatever it was, the files are not on the disk
            self._fail(error)
        task.error = self._failure

    def _sync(self, batch: Sequence[_StoreTask]) -> None:
        if any(task.error is None for task in batch):
            try:
                self._folder.sync()
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(error)
                for task in batch:
                    task.error = self._failure
        for task in batch:
            if task.error is not None and task.files is not None:
                task.files.undo()

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = f"{self._folder.path}: expected to write results there, but: {error}"
