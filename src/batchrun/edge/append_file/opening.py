"""How files are opened: regular files of our own, readable by the owner only, never through a link.

A file is checked before it is opened, since opening a device can change its state and opening a FIFO can wait for
ever, and again through its descriptor, since the path can lead to another file by then.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from batchrun.core.settings.settings import Refusal
from batchrun.core.text.readable import Action, Option, Text
from batchrun.edge.append_file.file_names import torn_of

# --- What can go wrong with our files. All of it ends the run (exit 4), but an input named as output (exit 2) ---


Step = Literal["write", "sync", "replaced", "cut"]
_EXPECTED = {
    "write": "expected to write at",
    "sync": "expected to sync at",
    "replaced": "expected to find the open file at",
    "cut": "expected to find all that was written up to",
}


class BatchFilesError(Refusal):
    """A file of the batch cannot be used. What was synced before stays as it is, and a later run resumes."""


class FileRefused(BatchFilesError):
    """The file at `path` is not what it must be: `found` is what is there instead. Nothing was changed."""

    def __init__(self, path: str, found: Text, remedy: Text) -> None:
        super().__init__(found, remedy, path)
        self.path = path
        self.found = found


class InputIsOutput(FileRefused):
    """The input is one of the files that the run would write: a mistake in the command (exit 2)."""

    def __init__(self, path: str, source: str) -> None:
        remedy = ("choose another output with ", Option("out"))
        super().__init__(path, f"expected a file of its own, found the input {source!r}", remedy)


class AppendFailed(BatchFilesError):
    """Writing or syncing failed; the file takes nothing more. Everything before `offset` is synced and stays.

    `lost` counts the bytes that were appended and are not on the disk.
    """

    def __init__(self, path: str, step: Step, offset: int, cause: Exception, lost: int = 0) -> None:
        super().__init__(
            f"{_EXPECTED[step]} offset {offset}, but: {cause}", ("fix the cause, then ", Action.RUN_AGAIN), path
        )
        self.path = path
        self.step = step
        self.offset = offset
        self.cause = cause
        self.lost = lost


class AppendFileClosed(BatchFilesError):
    """An append after the file was closed: a mistake in this program, not in its use."""


# --- The disk as a value: twelve functions that a test can replace one by one ---


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
    Of a stat only st_mode, st_dev, st_ino, st_size and st_nlink are read.
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


PRIVATE_MODE = 0o600
_CHUNK = 1 << 20
_SAFE_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_APPEND_FLAGS = os.O_RDWR | os.O_APPEND | _SAFE_FLAGS
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_REASONS: dict[int, tuple[str, Text]] = {
    errno.ENOENT: ("its folder does not exist", "make the folder first"),
    errno.ENOTDIR: ("a part of its path is not a folder", "give a path in a folder"),
    errno.ELOOP: ("expected a regular file, found a symbolic link", "give the file itself"),
    errno.EISDIR: ("expected a regular file, found a folder", "give a file in it"),
    errno.EACCES: ("no permission to write it or its folder", "choose a folder of your own"),
    errno.EPERM: ("no permission to write it, or to make it private (mode 0600)", "choose a folder of your own"),
    errno.EROFS: ("its file system is read-only", "choose a folder elsewhere"),
    errno.EMFILE: ("this process has too many files open", ("raise `ulimit -n`, or lower ", Option("connections"))),
    errno.ENFILE: ("this machine has too many files open", "end what holds them"),
    errno.ENOSPC: ("no space left", ("free some, then ", Action.RUN_AGAIN)),
    errno.EDQUOT: ("the disk quota is used up", ("free some, then ", Action.RUN_AGAIN)),
    errno.ENAMETOOLONG: ("its name is too long", "choose a shorter one"),
}


@dataclass(frozen=True, slots=True)
class OpenFile:
    """An open file that passed the checks. `size` is its length when it was opened; that content is synced."""

    path: str
    descriptor: int
    size: int
    created: bool
    identity: tuple[int, int]
    disk: Disk

    def is_replaced(self) -> bool:
        """Whether the path leads to another file by now, or to none."""
        try:
            return identity_of(self.disk.lstat(self.path)) != self.identity
        except FileNotFoundError:
            return True

    def length(self) -> int:
        """Its length now."""
        return self.disk.fstat(self.descriptor).st_size

    def close(self) -> None:
        """Close the descriptor; once only, its number is soon used for another file."""
        self.disk.close(self.descriptor)


def open_append(path: str, disk: Disk = REAL_DISK, *, sole: bool = False) -> OpenFile:
    """Open the file at `path` for appends and reads, created if missing; mode 0600, its content synced.

    With `sole` a file with a second name is refused: what is written would be written to somebody else's file too.

    An existing file is synced, because the process that wrote it may have been killed before it could: nothing
    that relies on its content may survive without it. Raises FileRefused, with nothing open.
    """
    try:
        missing = not _exists_as_file(path, disk)
        descriptor = disk.open(path, _APPEND_FLAGS | (os.O_CREAT if missing else 0), PRIVATE_MODE)
    except (OSError, ValueError) as error:
        raise refused(path, error) from error
    try:
        if sole:
            expect_one_name(path, disk.fstat(descriptor))
        status = _made_private(path, descriptor, disk)
        if missing:
            disk.sync_folder(os.path.dirname(path) or ".")  # noqa: PTH120 - paths are str in this package
        elif status.st_size:
            disk.sync(descriptor)
        return OpenFile(path, descriptor, status.st_size, missing, identity_of(status), disk)
    except FileRefused:
        disk.close(descriptor)
        raise
    except OSError as error:
        disk.close(descriptor)
        raise refused(path, error) from error


def open_existing(path: str, disk: Disk = REAL_DISK) -> OpenFile | None:
    """As `open_append`, but None where there is no file."""
    return open_append(path, disk) if expect_regular(path, disk) else None


def open_to_read(path: str, disk: Disk = REAL_DISK) -> OpenFile | None:
    """Open the file at `path` for reading, None where there is none. Changes and syncs nothing."""
    try:
        if not _exists_as_file(path, disk):
            return None
        descriptor = disk.open(path, os.O_RDONLY | _SAFE_FLAGS, PRIVATE_MODE)
    except PermissionError as error:
        raise FileRefused(path, "no permission to read it", "run this as the user whose batch it is") from error
    except (OSError, ValueError) as error:
        raise refused(path, error) from error
    try:
        status = disk.fstat(descriptor)
        _expect_regular(path, status)
    except FileRefused:
        disk.close(descriptor)
        raise
    return OpenFile(path, descriptor, status.st_size, False, identity_of(status), disk)  # noqa: FBT003 - created


def expect_regular(path: str, disk: Disk = REAL_DISK) -> bool:
    """Whether there is a file at `path`. Raises FileRefused for anything but a regular file, a link included."""
    try:
        return _exists_as_file(path, disk)
    except (OSError, ValueError) as error:
        raise refused(path, error) from error


def expect_folder(path: str) -> None:
    """Raise FileRefused if the folder of `path` does not exist; it names `path`, and not a file next to it."""
    try:
        os.stat(f"{os.path.dirname(path) or '.'}/")  # noqa: PTH116, PTH120 - paths are str in this package
    except (OSError, ValueError) as error:
        raise refused(path, error) from error


def expect_own_folder(path: str, disk: Disk = REAL_DISK) -> None:
    """Raise FileRefused for anything at `path` but a folder, a link to one included; nothing at all will do."""
    try:
        mode = disk.lstat(path).st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise refused(path, error) from error
    if not stat.S_ISDIR(mode):
        found = "a file" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")
        raise FileRefused(path, f"expected a folder of the batch's own, found {found}", "move it away")


def read_chunks(file: OpenFile, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The bytes of `file` from `start` to `end` (or to its end), a MiB at a time."""
    while end is None or start < end:
        chunk = file.disk.read(file.descriptor, _CHUNK if end is None else min(_CHUNK, end - start), start)
        if not chunk:
            return
        start += len(chunk)
        yield chunk


def identity_of(status: os.stat_result) -> tuple[int, int]:
    """What identifies a file, whatever its names."""
    return status.st_dev, status.st_ino


def refused(path: str, error: OSError | ValueError) -> FileRefused:
    """The refusal that words an error of the operating system."""
    number = error.errno if isinstance(error, OSError) else None
    found, remedy = _REASONS.get(number or 0, (str(error), "choose another path"))
    return FileRefused(path, found, remedy)


def _exists_as_file(path: str, disk: Disk) -> bool:
    try:
        status = disk.lstat(path)
    except FileNotFoundError:
        return False
    _expect_regular(path, status)
    return True


def _made_private(path: str, descriptor: int, disk: Disk) -> os.stat_result:
    status = disk.fstat(descriptor)
    _expect_regular(path, status)
    if stat.S_IMODE(status.st_mode) != PRIVATE_MODE:
        disk.fchmod(descriptor, PRIVATE_MODE)
        # vfat and some network shares accept the call but change nothing.
        mode = stat.S_IMODE(disk.fstat(descriptor).st_mode)
        if mode & 0o077:
            raise FileRefused(
                path, f"expected mode 0600, its file system insists on {mode:04o}", "choose a folder elsewhere"
            )
    return status


def expect_one_name(path: str, status: os.stat_result) -> None:
    """Raise FileRefused for a file that has another name (a hard link)."""
    if status.st_nlink > 1:
        raise FileRefused(
            path, f"expected a file with one name, found one with {status.st_nlink} (hard links)", "move it away"
        )


def _expect_regular(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        remedy = "give a file in it" if stat.S_ISDIR(status.st_mode) else "give a regular file, or a new path"
        raise FileRefused(path, f"expected a regular file, found {kind}", remedy)


# --- Keeping what a crash left half written or a disk has damaged in PATH.torn, and cutting it off ---
#
# This can be interrupted at any point and repeated: a tail may then be kept twice, and is never lost.


def cut_torn(path: str, offset: int, disk: Disk = REAL_DISK) -> int:
    """Keep the tail of `path` from `offset` in PATH.torn, then cut it off; the number of bytes cut.

    Each tail ends with a line feed there, its own or an added one. Raises FileRefused; the tail is then
    not cut.
    """
    file = open_existing(path, disk)
    if file is None:
        return 0
    try:
        if file.size > offset:
            _keep(file, [(offset, file.size - offset)])
            disk.truncate(file.descriptor, offset)
            disk.sync(file.descriptor)
    except OSError as error:
        raise refused(path, error) from error
    finally:
        file.close()
    return max(0, file.size - offset)


def keep_torn(path: str, ranges: Iterable[tuple[int, int]], disk: Disk = REAL_DISK) -> int:
    """Keep ranges of `path`, each an offset and a length, in PATH.torn; the number of bytes kept.

    `path` itself is not changed. Raises FileRefused.
    """
    file = open_existing(path, disk)
    if file is None:
        return 0
    try:
        return _keep(file, ranges)
    except OSError as error:
        raise refused(path, error) from error
    finally:
        file.close()


def _keep(file: OpenFile, ranges: Iterable[tuple[int, int]]) -> int:
    disk = file.disk
    kept = open_append(torn_of(file.path), disk, sole=True)
    size = 0
    try:
        for offset, length in ranges:
            last = b""
            for chunk in read_chunks(file, offset, offset + length):
                disk.write_all(kept.descriptor, chunk)
                last = chunk[-1:]
                size += len(chunk)
            if last != b"\n":
                disk.write_all(kept.descriptor, b"\n")
        disk.sync(kept.descriptor)
    finally:
        kept.close()
    return size
