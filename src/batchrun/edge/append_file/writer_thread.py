"""The thread that writes an append file next to an event loop, and how the two hand work to each other.

The obvious way, a thread that takes work from a queue and reports by `call_soon_threadsafe`, can wait for
ever next to a busy loop. CPython's interpreter lock asks its holder to give way only when a waiter has waited
5 ms *without being woken*; a loop that goes through its selector more often than that releases the lock for
a microsecond each time, which wakes the waiter (its 5 ms start again) and is over before it can take the lock.
Measured: not one group in six seconds next to callbacks of 50 µs, 20 in a round. Where the rounds are longer
the thread gets the lock every 5 ms, and needs it four times per group: to wake, after the write, after the sync,
after the report.

So the loop gives way on purpose, where the thread needs it and for no longer:

* it gathers the group itself, hands it over, and waits, at most `HAND_OVER` seconds, until the thread is in
  its sync; this is a write into the page cache and some tens of microseconds;
* while the sync runs it polls again in the next round if that lasted 1 ms, else after 1, then 2, then every 4 ms, each
  time waiting at most `POLL_WAIT` seconds for the thread to end. A thread that waits for the interpreter lock gets it
  in that time;
* the next group is handed over in the same step in which the last one is reported, with all that was
  appended in response to the report: entries that follow from entries cost one round of the loop, not two.

An idle loop is woken at once, by `call_soon_threadsafe`, and does not need to poll. Shortening the switch
interval was declined: it belongs to the whole process, which may be a user's notebook. So was a sync in the loop
itself: a slow disk would delay every timer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Protocol

from batchrun.edge.append_file.append_file import AppendFile, SyncGroup

# Seconds.
HAND_OVER = 0.002
POLL_WAIT = 0.0002
_FIRST_POLL = 0.001
_LAST_POLL = 0.004


class Timer(Protocol):
    """What `call_later` returns."""

    def cancel(self) -> None: ...


class Loop(Protocol):
    """What we use of an event loop, asyncio's or uvloop's."""

    def call_soon(self, callback: Callable[..., object], *args: object) -> object: ...
    def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> object: ...
    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Timer: ...


class _WriterTask:
    """A group in the thread; each lock is free once its step is done."""

    __slots__ = ("ended", "group", "written")

    def __init__(self, group: SyncGroup) -> None:
        self.group = group
        self.written = threading.Lock()
        self.ended = threading.Lock()
        self.written.acquire()
        self.ended.acquire()


class WriterThread:
    """Writes the groups of one AppendFile in a thread of its own, for the loop that appends to it.

    The file's callbacks are called in the loop. All methods belong to the loop's thread, and `close` or
    `abandon` must be called before the loop is closed.
    """

    def __init__(self, file: AppendFile, loop: Loop) -> None:
        self._file = file
        self._loop = loop
        self._task: _WriterTask | None = None
        self._timer: Timer | None = None
        self._tasks: SimpleQueue[_WriterTask | None] = SimpleQueue()
        self._orphan: SyncGroup | None = None
        self._settling = False
        self._ended = False
        # A daemon: at exit a sync on a disk that hangs would keep the process for ever.
        self._thread = threading.Thread(target=self._work, name=f"writer {file.path}", daemon=True)
        self._thread.start()
        file.wake = self._wake
        file.flush()

    def close(self) -> None:
        """Wait until all that was appended is synced and reported, and close the file.

        It blocks for as long as the disk takes; `flush` and its report, awaited before, make it quick.
        """
        if self._ended:
            return
        while (task := self._task) is not None:
            task.ended.acquire()
            self._settle(task)  # which may start the next
        self._end()
        self._thread.join()
        self._file.close()

    def abandon(self) -> None:
        """End at once: drop what has gathered, report nothing more, wait for nothing."""
        if self._ended:
            return
        if self._task is not None:
            self._orphan = self._task.group
        self._file.abandon()
        self._task = None
        self._end()

    def _end(self) -> None:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._tasks.put(None)

    def _wake(self) -> None:
        # Not at once: what the rest of this round of the loop appends belongs to the same group.
        if not self._settling:
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        group = None if self._ended else self._file.gather()
        if group is None:
            return
        self._task = task = _WriterTask(group)
        self._tasks.put(task)
        task.written.acquire(timeout=HAND_OVER)
        self._loop.call_soon(self._first_poll, task, time.monotonic())

    def _first_poll(self, task: _WriterTask, started: float) -> None:
        if time.monotonic() - started >= _FIRST_POLL:
            self._poll(task, _FIRST_POLL)
        elif task is self._task:
            self._timer = self._loop.call_later(_FIRST_POLL, self._poll, task, _FIRST_POLL)

    def _poll(self, task: _WriterTask, waited: float) -> None:
        if task is not self._task:
            return
        if task.ended.acquire(timeout=POLL_WAIT):
            self._settle(task)
        else:
            delay = min(2 * waited, _LAST_POLL)
            self._timer = self._loop.call_later(delay, self._poll, task, delay)

    def _settle(self, task: _WriterTask) -> None:
        if task is not self._task:
            return
        self._task = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._settling = True
        try:
            self._file.settle(task.group)
        finally:
            self._settling = False
            self._start()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.group.write()
            task.written.release()
            task.group.sync()
            task.ended.release()
            with suppress(RuntimeError):  # the loop was closed: nothing waits for the report
                self._loop.call_soon_threadsafe(self._settle, task)
        if self._orphan is not None:
            self._orphan.close_file()
