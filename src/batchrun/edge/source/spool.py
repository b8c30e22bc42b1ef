"""The copy of an input that cannot seek: written while it is checked, kept under its name when the run begins.

It grows under `NAME.new`, so that the copy of an earlier run stands until the new one is whole, and is
readable by its owner alone. Who gives a name holds the output's lock: a `NAME.new` that is there was left by
a run that died. Without a name (a check alone) it is a file that nobody can find and that ends with us.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from batchrun.core.visible import visible
from batchrun.edge.source.refusals import SpoolFailed

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Spool:
    """An append file that can be read again at once; `fd` reads and writes."""

    def __init__(self, target: Path | None, *, sync: Callable[[int], None] = os.fsync) -> None:
        self.target = target
        self._sync = sync
        self._new = None if target is None else target.with_name(target.name + ".new")
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
        """Make the copy durable under its name. Standard input cannot be asked for its rows again."""
        if self.target is None or self._new is None:
            return
        try:
            self._sync(self.fd)
            self._new.rename(self.target)
            folder = os.open(self.target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._sync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._failed(error) from error
        self._new = None

    def close(self) -> None:
        """Give up the descriptor, and the copy if it was not kept."""
        os.close(self.fd)
        if self._new is not None:
            with contextlib.suppress(OSError):
                self._new.unlink()

    def _open(self) -> int:
        if self.target is None or self._new is None:
            with tempfile.TemporaryFile(prefix="batchrun-") as file:
                return os.dup(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(self.target.lstat().st_mode):
                raise SpoolFailed(f"{visible(str(self.target), 200)} is no regular file: move it away")
        self._new.unlink(missing_ok=True)
        return os.open(self._new, _FLAGS, 0o600)

    def _failed(self, error: OSError) -> SpoolFailed:
        where = "a temporary file" if self.target is None else visible(str(self.target), 200)
        return SpoolFailed(f"cannot keep the input in {where}: {(error.strerror or 'it failed').lower()}")
