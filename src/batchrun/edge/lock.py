"""One run at a time on one output: OUT.lock, locked by the operating system.

flock, because the lock goes with the open file: it ends with the process, however that ended, so that there
is no stale lock to judge. lockf (fcntl) was declined: it is dropped as soon as *any* descriptor of the file is
closed. The file is never renamed and never removed, for whoever opens the path next would lock another file;
for the same reason it is not the output itself, which a rewrite replaces.

Whether a run is on can be asked without taking anything (`holder_of`), because a question that takes the lock,
however briefly, could make a run that starts in that moment give up. flock has no such question on Linux, locks of
open file descriptions (OFD) have one: so a run holds one of those too. It goes with the open file as well, and keeps
nobody out.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct

from batchrun.edge.append_file import BatchFilesError, FileRefused, OpenFile, open_append, open_to_read
from batchrun.edge.append_file.opening import refused

_TRIES = 20
_FLOCK = Struct("hhqqi4x")  # of Linux: type, whence, start, length (0: all of it), pid
_PAUSE = 0.01  # between writing its pid and taking the lock the first run needs microseconds


class LockHeld(BatchFilesError):
    """Another run has the output. `pid` is its process, None where it did not say."""

    def __init__(self, path: str, pid: int | None) -> None:
        who = (
            "another run, or a process forked from one that is over," if pid is None else f"another run, process {pid},"
        )
        super().__init__(f"{path}: {who} works on this output; wait for it, or end it first")
        self.path = path
        self.pid = pid


class Lock:
    """The lock of one output, held from `take` to `release` or to the end of the process."""

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self._held = True
        self._owner = os.getpid()

    @classmethod
    def take(cls, path: str) -> Lock:
        """Take the lock at `path` and write this process's id into it.

        Raises LockHeld where another run has it, FileRefused where the file cannot be what it must be.
        """
        while True:
            file = open_append(path)
            try:
                fcntl.flock(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not file.is_replaced():
                    _show(file)
                    os.ftruncate(file.descriptor, 0)
                    os.write(file.descriptor, b"%d\n" % os.getpid())
                    return cls(file)
            except BlockingIOError:
                pid = _holder(file)
                file.close()
                raise LockHeld(path, pid) from None
            except OSError as error:
                file.close()
                if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                    raise FileRefused(path, "its file system has no locks", "choose a folder elsewhere") from error
                raise refused(path, error) from error
            file.close()  # someone removed the file between our opening and our locking it

    def is_lost(self) -> bool:
        """Whether the path no longer leads to the locked file, so that a second run could start."""
        return not self._held or self._file.is_replaced()

    def release(self) -> None:
        """Let the next run in; harmless when called again.

        Closing would not do: a process that was forked meanwhile has the same open file, and would hold the locks on.
        In such a process it does nothing but close: the run is its parent's.
        """
        if self._held:
            self._held = False
            if self._owner == os.getpid():
                with suppress(OSError):  # a pid that stays misleads nobody: it is read only where the lock is held
                    os.ftruncate(self._file.descriptor, 0)
                with suppress(OSError):
                    fcntl.flock(self._file.descriptor, fcntl.LOCK_UN)
                _hide(self._file)
            self._file.close()


class Locks:
    """The locks of all that one run must have for itself: its output, and a journal that has a place of its own."""

    def __init__(self, held: list[Lock]) -> None:
        self._held = held

    @classmethod
    def take(cls, paths: Iterable[str]) -> Locks:
        """Take them all, or none; raises as `Lock.take`."""
        locks = cls([])
        try:
            for path in paths:
                locks._held.append(Lock.take(path))
        except BatchFilesError:
            locks.release()
            raise
        return locks

    def is_lost(self) -> bool:
        """Whether any of them is."""
        return any(lock.is_lost() for lock in self._held)

    def release(self) -> None:
        """Let go of all."""
        for lock in self._held:
            lock.release()


@dataclass(frozen=True, slots=True)
class Holder:
    """Who works on an output; `pid` is None where it did not say."""

    pid: int | None


def holder_of(path: str) -> Holder | None:
    """Who holds the lock at `path`, None if nobody does. Changes nothing, takes nothing, keeps nobody waiting.

    Where the system has no such question, the process that is named in the file is looked for: after a kill its
    number may be another process's by now.
    """
    file = open_to_read(path)
    if file is None:
        return None
    try:
        pid = _pid_in(file)
        return Holder(pid) if _is_shown(file, pid) else None
    finally:
        file.close()


def _show(file: OpenFile) -> None:
    """Hold what `holder_of` asks for; where that cannot be had, it looks for the process."""
    _set_shown(file, fcntl.F_WRLCK)


def _hide(file: OpenFile) -> None:
    _set_shown(file, fcntl.F_UNLCK)


def _set_shown(file: OpenFile, kind: int) -> None:
    if sys.platform == "linux":
        with suppress(OSError):
            fcntl.fcntl(file.descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0))


def _is_shown(file: OpenFile, pid: int | None) -> bool:
    if sys.platform == "linux":
        question = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        with suppress(OSError):
            answer = fcntl.fcntl(file.descriptor, fcntl.F_OFD_GETLK, question)
            return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
    return pid is not None and _is_alive(pid)


def _pid_in(file: OpenFile) -> int | None:
    text = os.pread(file.descriptor, 32, 0)
    return int(text) if text.endswith(b"\n") and text[:-1].isdigit() else None


def _holder(file: OpenFile) -> int | None:
    """The pid in the lock, waited for a moment where the holder has not written it yet."""
    pid = None
    for _ in range(_TRIES):
        pid = _pid_in(file) or pid
        if pid is not None and _is_alive(pid):
            return pid
        time.sleep(_PAUSE)
    return pid  # of a process that cannot be seen from here: another container, another machine


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
