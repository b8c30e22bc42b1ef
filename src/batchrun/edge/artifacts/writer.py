"""The threads that write artifacts beside an event loop.

Two of them, so that one decodes while the other waits for its disk. Each takes what is queued, writes it, and syncs
the folder once for all of it. The first error is the last: nothing is written after it, as a sync that is tried again
can report success falsely.

A thread that wants the interpreter's lock may wait for ever beside a busy loop (`tape/scribe` tells why), so while
something is on its way the loop gives way every few milliseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from batchrun.core.records.artifacts import Found, Stored
from batchrun.edge.append_file.writer_thread import LOOK, Loop, Timer
from batchrun.edge.artifacts.folder import Folder, Writing

WRITERS = 2
TOGETHER = 8
"""Errands that may share one sync of the folder."""
_GIVES_WAY_EVERY = 0.004

Report = Callable[["tuple[Stored | None, ...] | str"], None]
"""Told what became of an errand: what was stored (nothing, for a removal), or what went wrong."""


class _StoreTask:
    __slots__ = ("error", "report", "surplus", "writing")

    def __init__(self, report: Report, writing: Writing | None, surplus: Sequence[str]) -> None:
        self.report = report
        self.writing = writing
        self.surplus = surplus
        self.error: str | None = None

    def result(self) -> tuple[Stored | None, ...] | str:
        return self.error or (() if self.writing is None else tuple(self.writing.stored))


class ArtifactWriter:
    """Writes and removes files in `folder`. Reports come in the loop; all methods belong to the loop's thread."""

    def __init__(self, folder: Folder, loop: Loop) -> None:
        self._folder = folder
        self._loop = loop
        self._errands: SimpleQueue[_StoreTask | None] = SimpleQueue()
        self._ended: SimpleQueue[_StoreTask] = SimpleQueue()
        self._out = 0
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
        self._send(_StoreTask(report, Writing(self._folder, body, found), ()))

    def discard(self, names: Sequence[str], report: Report) -> None:
        """Remove these files; `report` is called when they would stay away after a power cut."""
        self._send(_StoreTask(report, None, names))

    def close(self) -> None:
        """Finish the files that are being written, leave the others, and report nothing more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        with suppress(Empty):
            while True:
                self._errands.get_nowait()
        for _ in self._threads:
            self._errands.put(None)
        for thread in self._threads:
            thread.join()

    def _send(self, errand: _StoreTask) -> None:
        if self._closed:
            return
        self._out += 1
        self._errands.put(errand)
        if self._timer is None:
            self._timer = self._loop.call_later(_GIVES_WAY_EVERY, self._give_way)

    def _give_way(self) -> None:
        self._timer = None
        with suppress(Empty):
            self._told(self._ended.get(timeout=LOOK))
        if self._out and not self._closed and self._timer is None:
            self._timer = self._loop.call_later(_GIVES_WAY_EVERY, self._give_way)

    def _collect(self) -> None:
        with suppress(Empty):
            while True:
                self._told(self._ended.get_nowait())

    def _told(self, errand: _StoreTask) -> None:
        if not self._closed:
            self._out -= 1
            errand.report(errand.result())

    # --- in the threads ---

    def _work(self) -> None:
        while (errand := self._errands.get()) is not None:
            together = [errand]
            self._begin(errand)
            last = False
            with suppress(Empty):
                while len(together) < TOGETHER and not last:
                    more = self._errands.get_nowait()
                    if more is None:
                        last = True
                    else:
                        together.append(more)
                        self._begin(more)
            self._end(together)
            for one in together:
                self._ended.put(one)
            with suppress(RuntimeError):  # the loop was closed: whoever did that no longer listens
                self._loop.call_soon_threadsafe(self._collect)
            if last:
                return

    def _begin(self, errand: _StoreTask) -> None:
        """Write, or remove; the names are not on the disk yet."""
        try:
            if self._failure is None:
                if errand.writing is not None:
                    errand.writing.write()
                    errand.writing.publish()
                self._folder.remove(errand.surplus)
        except Exception as error:  # noqa: BLE001 - whatever it was, the files are not on the disk
            self._fail(error)
        errand.error = self._failure

    def _end(self, together: Sequence[_StoreTask]) -> None:
        if any(errand.error is None for errand in together):
            try:
                self._folder.sync()
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(error)
                for errand in together:
                    errand.error = self._failure
        for errand in together:
            if errand.error is not None and errand.writing is not None:
                errand.writing.undo()

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = f"{self._folder.path}: expected to write results there, but: {error}"
