"""The disk as a value: twelve functions that a test can replace one by one."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

if sys.platform == "darwin":
    import fcntl


def full_sync(descriptor: int) -> None:
    """Return when the content of the file would survive a power cut, as far as the disk is honest.

    macOS returns from fsync when the bytes are in the drive's cache; F_FULLFSYNC empties that as well.
    Where a file system (a network share) does not support it, fsync is used: that does not repeat a failed sync,
    since none was started.
    """
    if sys.platform == "darwin":
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
            os.fsync(descriptor)
    else:
        os.fdatasync(descriptor)


def sync_folder(path: str) -> None:
    """Return when the names in the folder `path` would survive a power cut.

    File systems without such a sync return EINVAL; there is no other way to ask them.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Disk:
    """The functions of an operating system that we use; signatures and errors are those of `os`.

    `read` is pread(descriptor, size, offset); `write` may write less than it was given.
    Of a stat only st_mode, st_dev, st_ino and st_size are read.
    """

    open: Callable[[str, int, int], int] = os.open
    close: Callable[[int], None] = os.close
    read: Callable[[int, int, int], bytes] = os.pread
    write: Callable[[int, memoryview], int] = os.write
    sync: Callable[[int], None] = full_sync
    truncate: Callable[[int, int], None] = os.ftruncate
    fchmod: Callable[[int, int], None] = os.fchmod
    fstat: Callable[[int], os.stat_result] = os.fstat
    lstat: Callable[[str], os.stat_result] = os.lstat
    rename: Callable[[str, str], None] = os.rename
    remove: Callable[[str], None] = os.unlink
    sync_folder: Callable[[str], None] = sync_folder

    def write_all(self, descriptor: int, data: bytes) -> None:
        """Write all of `data`, in as many writes as it takes."""
        rest = memoryview(data)
        while rest:
            written = self.write(descriptor, rest)
            if written <= 0:  # POSIX allows 0 without an error; looping on it could last for ever
                raise OSError(errno.EIO, "the disk took no byte and named no error")
            rest = rest[written:]


REAL_DISK = Disk()
