"""The threads that write artifacts next to an event loop.

There are two, so that one decodes while the other waits for the disk. Each takes what is queued, writes it, and syncs
the folder once for all of it. The first error is the last: nothing is written after it, since a repeated sync can
report success falsely.

A thread that wants the interpreter's lock may wait for ever next to a busy loop (see `append_file.writer_thread`), so
while tasks are unfinished the loop gives way every few milliseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from batchrun.core.records.artifacts import Found, Stored
from batchrun.edge.append_file.writer_thread import POLL_WAIT, Loop, Timer
from batchrun.edge.artifacts.folder import Folder, JobFiles

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
