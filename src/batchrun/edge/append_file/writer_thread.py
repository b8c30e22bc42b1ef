"""The thread that writes a tape beside an event loop, and how the two hand over to each other.

The obvious way, a thread that takes work from a queue and answers by `call_soon_threadsafe`, can wait for
ever beside a busy loop. CPython's interpreter lock asks its holder to give way only when a waiter has waited
5 ms *without being woken*; a loop that goes through its selector more often than that lets go of the lock for
a microsecond each time, which wakes the waiter (the clock starts anew) and is over before it is there.
Measured: not one group in six seconds beside callbacks of 50 µs, 20 in a round. Where the rounds are longer
the thread gets its turn every 5 ms, and needs four turns a group: to wake, after the write, after the sync,
after the report.

So the loop gives way on purpose, where the thread needs it and for no longer:

* it gathers the group itself, hands it over, and waits, at most `HAND_OVER` seconds, until the thread is in
  its sync; this is a write into the page cache and some tens of microseconds;
* while the sync runs it looks again in the next round if that lasted 1 ms, else after 1, then 2, then every 4 ms, each
  time waiting at most `LOOK` seconds for the thread to say that it has ended. A thread that waits for the
  interpreter lock gets it in that time;
* the next group is handed over in the same step in which the last one is reported, with all that was
  appended in answer to the report: entries that follow from entries cost one round of the loop, not two.

An idle loop is told at once, by `call_soon_threadsafe`, and has nothing to look for. Shortening the switch
interval was declined: it is the whole process's, which may be a user's notebook. So was a sync in the loop
itself: a slow disk would hold up every timer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Protocol

from batchrun.edge.append_file.append_file import AppendFile, SyncGroup

HAND_OVER = 0.002
LOOK = 0.0002
_FIRST_LOOK = 0.001
_LAST_LOOK = 0.004


class Timer(Protocol):
    """What `call_later` gives."""

    def cancel(self) -> None: ...


class Loop(Protocol):
    """What is needed of an event loop; asyncio's and uvloop's have it."""

    def call_soon(self, callback: Callable[..., object], *args: object) -> object: ...
    def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> object: ...
    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Timer: ...


class _WriterTask:
    """A group on its way through the thread; each lock is free once its step is done."""

    __slots__ = ("ended", "group", "written")

    def __init__(self, group: SyncGroup) -> None:
        self.group = group
        self.written = threading.Lock()
        self.ended = threading.Lock()
        self.written.acquire()
        self.ended.acquire()


class WriterThread:
    """Carries the groups of one tape to the disk, in a thread of its own, for the loop that appends to it.

    Reports reach the tape's callbacks in the loop. All methods belong to the loop's thread, and `close` or
    `abandon` must come before the loop is closed.
    """

    def __init__(self, tape: AppendFile, loop: Loop) -> None:
        self._tape = tape
        self._loop = loop
        self._errand: _WriterTask | None = None
        self._timer: Timer | None = None
        self._errands: SimpleQueue[_WriterTask | None] = SimpleQueue()
        self._orphan: SyncGroup | None = None
        self._settling = False
        self._ended = False
        # Not waited for at exit: a sync on a disk that hangs would keep the process for ever.
        self._thread = threading.Thread(target=self._work, name=f"scribe {tape.path}", daemon=True)
        self._thread.start()
        tape.wake = self._wake
        tape.flush()

    def close(self) -> None:
        """Wait until all that was appended is synced and reported, and close the tape.

        It blocks for as long as the disk takes; `tape.flush()` and its report, awaited before, make it quick.
        """
        if self._ended:
            return
        while (errand := self._errand) is not None:
            errand.ended.acquire()
            self._settle(errand)  # which may begin the next
        self._end()
        self._thread.join()
        self._tape.close()

    def abandon(self) -> None:
        """Leave at once: what has gathered is dropped, nothing more is reported, nothing is waited for."""
        if self._ended:
            return
        if self._errand is not None:
            self._orphan = self._errand.group
        self._tape.abandon()
        self._errand = None
        self._end()

    def _end(self) -> None:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._errands.put(None)

    def _wake(self) -> None:
        # Not at once: what the rest of this round of the loop appends belongs to the same group.
        if not self._settling:
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        group = None if self._ended else self._tape.gather()
        if group is None:
            return
        self._errand = errand = _WriterTask(group)
        self._errands.put(errand)
        errand.written.acquire(timeout=HAND_OVER)
        self._loop.call_soon(self._first_look, errand, time.monotonic())

    def _first_look(self, errand: _WriterTask, begun: float) -> None:
        if time.monotonic() - begun >= _FIRST_LOOK:
            self._look(errand, _FIRST_LOOK)
        elif errand is self._errand:
            self._timer = self._loop.call_later(_FIRST_LOOK, self._look, errand, _FIRST_LOOK)

    def _look(self, errand: _WriterTask, waited: float) -> None:
        if errand is not self._errand:
            return
        if errand.ended.acquire(timeout=LOOK):
            self._settle(errand)
        else:
            delay = min(2 * waited, _LAST_LOOK)
            self._timer = self._loop.call_later(delay, self._look, errand, delay)

    def _settle(self, errand: _WriterTask) -> None:
        if errand is not self._errand:
            return
        self._errand = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._settling = True
        try:
            self._tape.settle(errand.group)
        finally:
            self._settling = False
            self._begin()

    def _work(self) -> None:
        while (errand := self._errands.get()) is not None:
            errand.group.write()
            errand.written.release()
            errand.group.sync()
            errand.ended.release()
            with suppress(RuntimeError):  # the loop was closed: whoever did that no longer listens
                self._loop.call_soon_threadsafe(self._settle, errand)
        if self._orphan is not None:
            self._orphan.close_file()
