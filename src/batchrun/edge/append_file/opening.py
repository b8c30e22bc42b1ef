"""How files are opened: regular files of our own, readable by nobody else, never through a link.

A file is looked at before it is opened, since opening a device can move it and opening a FIFO can wait for
ever, and once more through its descriptor, since what stands at a path can change in between.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from batchrun.core.text.wording import Action, Option, Text
from batchrun.edge.append_file.disk import REAL_DISK, Disk
from batchrun.edge.append_file.refusals import FileRefused

OURS = 0o600
_CHUNK = 1 << 20
_CAREFUL = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_APPEND = os.O_RDWR | os.O_APPEND | _CAREFUL
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
    errno.ENOTDIR: ("a part of its path is no folder", "name a path in a folder"),
    errno.ELOOP: ("expected a regular file, found a symbolic link", "name the file itself"),
    errno.EISDIR: ("expected a regular file, found a folder", "name a file in it"),
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
    """An open file that passed the rules. `size` is what it held when it was opened, and that is synced."""

    path: str
    descriptor: int
    size: int
    created: bool
    identity: tuple[int, int]
    disk: Disk

    def is_replaced(self) -> bool:
        """Whether the path leads elsewhere by now, or nowhere."""
        try:
            return identity_of(self.disk.look(self.path)) != self.identity
        except FileNotFoundError:
            return True

    def length(self) -> int:
        """What it holds now."""
        return self.disk.status(self.descriptor).st_size

    def close(self) -> None:
        """Give the descriptor back; once only, its number soon belongs to another file."""
        self.disk.close(self.descriptor)


def open_append(path: str, disk: Disk = REAL_DISK) -> OpenFile:
    """The file at `path`, made if it was missing, for appends and reads; mode 0600, its content synced.

    An existing file is synced, because the process that wrote it may have been killed before it could: what
    is built on its content must not outlive it. Raises FileRefused, with nothing open.
    """
    try:
        missing = not _looked(path, disk)
        descriptor = disk.open(path, _APPEND | (os.O_CREAT if missing else 0), OURS)
    except (OSError, ValueError) as error:
        raise refused(path, error) from error
    try:
        status = _checked(path, descriptor, disk)
        if missing:
            disk.sync_folder(os.path.dirname(path) or ".")  # noqa: PTH120 - paths are str in this room
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
    try:
        if not _looked(path, disk):
            return None
    except (OSError, ValueError) as error:
        raise refused(path, error) from error
    return open_append(path, disk)


def open_to_read(path: str, disk: Disk = REAL_DISK) -> OpenFile | None:
    """The file at `path` for reading alone, None where there is none. Nothing is changed and nothing synced."""
    try:
        if not _looked(path, disk):
            return None
        descriptor = disk.open(path, os.O_RDONLY | _CAREFUL, OURS)
    except PermissionError as error:
        raise FileRefused(path, "no permission to read it", "look as the user whose run it is") from error
    except (OSError, ValueError) as error:
        raise refused(path, error) from error
    try:
        status = disk.status(descriptor)
        _expect_regular(path, status)
    except FileRefused:
        disk.close(descriptor)
        raise
    return OpenFile(path, descriptor, status.st_size, False, identity_of(status), disk)  # noqa: FBT003 - created


def expect_regular(path: str, disk: Disk = REAL_DISK) -> None:
    """Raise FileRefused if something other than a regular file stands at `path`, a link included."""
    try:
        _looked(path, disk)
    except (OSError, ValueError) as error:
        raise refused(path, error) from error


def expect_folder(path: str) -> None:
    """Raise FileRefused, naming `path`, if there is no folder to hold it: not the first file that would stand beside it."""
    try:
        os.stat(f"{os.path.dirname(path) or '.'}/")  # noqa: PTH116, PTH120 - paths are str in this room
    except (OSError, ValueError) as error:
        raise refused(path, error) from error


def read_chunks(file: OpenFile, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The bytes of `file` from `start` to `end` (or to where it ends), a MiB at a time."""
    while end is None or start < end:
        chunk = file.disk.read(file.descriptor, _CHUNK if end is None else min(_CHUNK, end - start), start)
        if not chunk:
            return
        start += len(chunk)
        yield chunk


def identity_of(status: os.stat_result) -> tuple[int, int]:
    """What tells one file from another, whatever they are called."""
    return status.st_dev, status.st_ino


def refused(path: str, error: OSError | ValueError) -> FileRefused:
    """The refusal that says in words what the operating system said in a number."""
    number = error.errno if isinstance(error, OSError) else None
    found, remedy = _REASONS.get(number or 0, (str(error), "choose another path"))
    return FileRefused(path, found, remedy)


def _looked(path: str, disk: Disk) -> bool:
    try:
        status = disk.look(path)
    except FileNotFoundError:
        return False
    _expect_regular(path, status)
    return True


def _checked(path: str, descriptor: int, disk: Disk) -> os.stat_result:
    status = disk.status(descriptor)
    _expect_regular(path, status)
    if stat.S_IMODE(status.st_mode) != OURS:
        disk.restrict(descriptor, OURS)
        # vfat and some network shares accept the call and change nothing.
        mode = stat.S_IMODE(disk.status(descriptor).st_mode)
        if mode & 0o077:
            raise FileRefused(
                path, f"expected mode 0600, its file system insists on {mode:04o}", "choose a folder elsewhere"
            )
    return status


def _expect_regular(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise FileRefused(path, f"expected a regular file, found {kind}", "name a regular file, or a new one")
