"""The copy of an input that cannot seek: written while it is checked, kept under its name when the run begins.

It grows under a name of its own, `NAME.<random>.new`, because the lock of the output is taken only after the check:
a run that is refused there must not have touched the copy of the one that works. `keep`, under the lock, gives it
its name, and takes away what died before it came so far. Who lives is told by a flock that each maker holds on its
copy: a process id would mean nothing in another container. Without a name (a check alone) it is a file that nobody
can find and that ends with us.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from batchrun.core.text.printable import visible
from batchrun.edge.source.opening import SpoolFailed

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Spool:
    """An append file that can be read again at once; `fd` reads and writes."""

    def __init__(self, target: Path | None, *, sync: Callable[[int], None] = os.fsync) -> None:
        self.target = target
        self._sync = sync
        self._new: Path | None = None
        try:
            self.fd = self._open()
        except OSError as error:
            raise self._failed(error) from error

    def write(self, block: bytes) -> None:
        """Append all of `block`."""
        rest = memoryview(block)
        try:
            while rest:
                rest = rest[os.write(self.fd, rest) :]
        except OSError as error:
            raise self._failed(error) from error

    def keep(self) -> None:
        """Make the copy durable under its name; the lock of the output must be held.

        Standard input cannot be asked for its rows again.
        """
        if self.target is None or self._new is None:
            return
        try:
            self._sync(self.fd)
            if not _is_at(self._new, self.fd):
                raise SpoolFailed(f"{visible(str(self._new), 200)} was taken away by another program: run it again")
            self._new.rename(self.target)
            self._new = None
            folder = os.open(self.target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._sync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._failed(error) from error
        with contextlib.suppress(OSError):  # what stays is removed another time
            _sweep(self.target)

    def close(self) -> None:
        """Give up the descriptor, and the copy if it was not kept."""
        if self._new is not None:
            with contextlib.suppress(OSError):
                if _is_at(self._new, self.fd):
                    self._new.unlink()
        os.close(self.fd)

    def _open(self) -> int:
        if self.target is None:
            with tempfile.TemporaryFile(prefix="batchrun-") as file:
                return os.dup(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(self.target.lstat().st_mode):
                raise SpoolFailed(f"{visible(str(self.target), 200)} is no regular file: move it away")
        while True:
            new = self.target.with_name(f"{self.target.name}.{secrets.token_hex(4)}.new")
            try:
                fd = os.open(new, _FLAGS, 0o600)
            except FileExistsError:
                continue
            with contextlib.suppress(OSError):  # a file system without locks, where nothing is swept either
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(new, fd):
                self._new = new
                return fd
            os.close(fd)  # swept between the opening and the lock

    def _failed(self, error: OSError) -> SpoolFailed:
        where = "a temporary file" if self.target is None else visible(str(self.target), 200)
        return SpoolFailed(f"cannot keep the input in {where}: {(error.strerror or 'it failed').lower()}")


def _is_at(path: Path, fd: int) -> bool:
    """Whether `path` leads to the open file."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _sweep(target: Path) -> None:
    """Remove the copies for `target` whose makers are gone."""
    pattern = re.compile(re.escape(target.name) + r"\.[0-9a-f]{8}\.new")
    with os.scandir(target.parent) as entries:
        found = [Path(one.path) for one in entries if pattern.fullmatch(one.name)]
    for path in found:
        with contextlib.suppress(OSError):
            fd = os.open(path, _LOOK)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(path, fd) and stat.S_ISREG(os.fstat(fd).st_mode):
                    path.unlink()
            finally:
                os.close(fd)
