"""One run at a time on one output: OUT.lock, locked by the operating system.

flock, because the lock belongs to the open file: it ends with the process, however that ended, so that there
are no stale locks. lockf (fcntl) was declined: it is released as soon as *any* descriptor of the file is
closed. The file is never renamed or removed, since the next process to open the path would lock another file;
for the same reason it is not the output itself, which a rewrite replaces.

Its name follows from the output's, so that a file of somebody else's may be there: `-o poetry` finds `poetry.lock`.
Only what a run can have left there is taken, and a second name of the file would be somebody else's too; everything
else is refused before so much as its mode is changed.

`holder_of` tells whether a run is alive without taking the lock: taking it, however briefly, could make a run that
starts at that time give up. flock has no such query on Linux, locks of open file descriptions (OFD) have one: so a run
holds one of those too. It belongs to the open file as well, and excludes nobody.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct

from batchrun.core.text.readable import Option
from batchrun.edge.append_file import BatchFilesError, FileRefused, OpenFile, open_append, open_to_read
from batchrun.edge.append_file.opening import expect_one_name, refused

_TRIES = 20
_FLOCK = Struct("hhqqi4x")  # on Linux: type, whence, start, length (0: all), pid
_OURS = re.compile(rb"[0-9]{0,20}\n?|\0{1,21}")  # a pid; or what a power cut leaves of one
_MOST = 32  # bytes that are read of it
_PAUSE = 0.01  # seconds; a run writes its pid microseconds after it took the lock


class LockHeld(BatchFilesError):
    """Another run has the output. `pid` is its process, None if unknown."""

    def __init__(self, path: str, pid: int | None) -> None:
        holder = (
            "another run, or a process forked from one that has ended,"
            if pid is None
            else f"another run, process {pid},"
        )
        super().__init__(f"{path}: {holder} is using this output; wait for it, or stop it first")
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
            _refuse_foreign_file(path)
            file = open_append(path, sole=True)
            try:
                fcntl.flock(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not file.is_replaced():
                    _refuse_foreign(file)  # it may be another file than the one that was looked at
                    _set_ofd_lock(file, fcntl.F_WRLCK)  # which `holder_of` queries
                    os.ftruncate(file.descriptor, 0)
                    os.write(file.descriptor, b"%d\n" % os.getpid())
                    return cls(file)
            except BlockingIOError:
                pid = _holder_pid(file)
                file.close()
                raise LockHeld(path, pid) from None
            except FileRefused:
                file.close()
                raise
            except OSError as error:
                file.close()
                if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                    raise FileRefused(path, "its file system has no locks", "choose a folder elsewhere") from error
                raise refused(path, error) from error
            file.close()  # the file was removed after we opened it

    def is_lost(self) -> bool:
        """Whether the path no longer leads to the locked file, so that a second run could start."""
        return not self._held or self._file.is_replaced()

    def release(self) -> None:
        """Release the lock; may be called again.

        Closing is not enough: a process that was forked meanwhile has the same open file, and would keep the locks.
        In such a process this only closes: the run is its parent's.
        """
        if self._held:
            self._held = False
            if self._owner == os.getpid():
                with suppress(OSError):  # a pid that stays does no harm: it is read only where the lock is held
                    os.ftruncate(self._file.descriptor, 0)
                with suppress(OSError):
                    fcntl.flock(self._file.descriptor, fcntl.LOCK_UN)
                _set_ofd_lock(self._file, fcntl.F_UNLCK)
            self._file.close()


class Locks(list[Lock]):
    """All locks of one run: of its output, and of a journal that is not next to it."""

    @classmethod
    def take(cls, paths: Iterable[str]) -> Locks:
        """Take them all, or none; raises as `Lock.take`."""
        locks = cls()
        try:
            for path in paths:
                locks.append(Lock.take(path))
        except BatchFilesError:
            locks.release()
            raise
        return locks

    def is_lost(self) -> bool:
        return any(lock.is_lost() for lock in self)

    def release(self) -> None:
        for lock in self:
            lock.release()


@dataclass(frozen=True, slots=True)
class Holder:
    """The run that works on an output; `pid` is None if unknown."""

    pid: int | None


def holder_of(path: str) -> Holder | None:
    """Who holds the lock at `path`, None if nobody does. Changes, locks and delays nothing.

    Where the system has no such query, the process named in the file is looked up: after a kill its
    number may be another process's by now.
    """
    file = open_to_read(path)
    if file is None:
        return None
    try:
        pid = _pid_in(file)
        return Holder(pid) if _is_held(file, pid) else None
    finally:
        file.close()


def _refuse_foreign_file(path: str) -> None:
    """Raise FileRefused where the file at `path` cannot be a run's lock. Changes nothing."""
    file = open_to_read(path)
    if file is not None:
        try:
            _refuse_foreign(file)
        finally:
            file.close()


def _refuse_foreign(file: OpenFile) -> None:
    expect_one_name(file.path, os.fstat(file.descriptor))
    if _OURS.fullmatch(os.pread(file.descriptor, _MOST, 0)) is None:
        raise FileRefused(
            file.path,
            "expected a lock of batchrun (empty, or a process id), found another file's content",
            ("choose another output with ", Option("out")),
        )


def _set_ofd_lock(file: OpenFile, kind: int) -> None:
    if sys.platform == "linux":
        with suppress(OSError):
            fcntl.fcntl(file.descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0))


def _is_held(file: OpenFile, pid: int | None) -> bool:
    if sys.platform == "linux":
        query = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        with suppress(OSError):
            result = fcntl.fcntl(file.descriptor, fcntl.F_OFD_GETLK, query)
            return bool(_FLOCK.unpack(result)[0] != fcntl.F_UNLCK)
    return pid is not None and _is_alive(pid)


def _pid_in(file: OpenFile) -> int | None:
    text = os.pread(file.descriptor, _MOST, 0)
    return int(text) if text.endswith(b"\n") and text[:-1].isdigit() else None


def _holder_pid(file: OpenFile) -> int | None:
    """The pid in the lock file, after a short wait where the holder has not written it yet."""
    pid = None
    for _ in range(_TRIES):
        pid = _pid_in(file) or pid
        if pid is not None and _is_alive(pid):
            return pid
        time.sleep(_PAUSE)
    return pid  # of a process that is not visible from here: in another container, on another machine


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
