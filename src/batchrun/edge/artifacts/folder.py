"""A folder of artifacts, and how the files of one job are written into it.

A file is written under a temporary name, synced, and renamed; then the folder is synced. So under its final name it is
complete or missing, and an earlier one stays until then. No link is followed: the folder is none, and each file is
newly created.
"""

from __future__ import annotations

import os
import stat
from binascii import a2b_base64
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from batchrun.core.records.artifact_names import unfinished
from batchrun.core.records.artifacts import Found, Stored, base64_of
from batchrun.core.text.readable import Option
from batchrun.edge.append_file import REAL_DISK, Disk, FileRefused
from batchrun.edge.append_file.opening import PRIVATE_MODE, identity_of, refused

# Bytes of base64, a multiple of four. Decoding holds the interpreter's lock, about 2 ns per byte.
PIECE = 1 << 20
_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_FOLDER_MODE = 0o700


@dataclass(frozen=True, slots=True)
class Folder:
    """An open folder of artifacts. `shown` is its path in records: relative to the folder of the output."""

    path: str
    shown: str
    identity: tuple[int, int]
    disk: Disk = REAL_DISK

    def names(self) -> list[str]:
        return os.listdir(self.path)  # noqa: PTH208 - paths are str in the edge

    def remove(self, names: Iterable[str]) -> None:
        """Remove these files; a missing one is no error. Raises OSError."""
        for name in names:
            with suppress(FileNotFoundError):
                self.disk.remove(f"{self.path}/{name}")

    def sync(self) -> None:
        """Return when the names in the folder would survive a power cut. Raises OSError, also where it was replaced."""
        if identity_of(self.disk.lstat(self.path)) != self.identity:
            raise NotADirectoryError(f"{self.path} leads to another folder by now")
        self.disk.sync_folder(self.path)


def open_folder(path: str, base: str, forbidden: Iterable[str] = (), disk: Disk = REAL_DISK) -> Folder:
    """Open the folder at `path`, created if missing; `base` is the folder to which paths in records are relative.

    `forbidden` are the paths of the batch's own files. Raises FileRefused.
    """
    path = os.path.join(os.getcwd(), path).rstrip("/") or "/"  # noqa: PTH109, PTH118 - as above
    if path in forbidden:
        raise FileRefused(path, "is a file of this batch", ("name another folder with ", Option("artifacts")))
    try:
        with suppress(FileExistsError):
            os.mkdir(path, _FOLDER_MODE)  # noqa: PTH102 - as above
            disk.sync_folder(os.path.dirname(path))  # noqa: PTH120 - as above
        status = disk.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            found = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "a file"
            raise FileRefused(path, f"expected a folder, found {found}", "name a folder, or a new one")
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise FileRefused(path, "no permission to read and write it", "choose a folder of your own")
        shown = os.path.relpath(os.path.realpath(path), os.path.realpath(base))
        shown.encode()
    except UnicodeEncodeError as error:
        raise FileRefused(path, "its path is no UTF-8, and records are", "choose another folder") from error
    except (OSError, ValueError) as error:
        raise refused(path, error) from error
    return Folder(path, shown, identity_of(status), disk)


class JobFiles:
    """The files of one job: `write` them, then `publish` them, then sync the folder. Each may raise OSError.

    `stored` has what was written, None for a string that is not base64.
    """

    def __init__(self, folder: Folder, body: bytes, found: Sequence[Found]) -> None:
        self._folder = folder
        self._body = body
        self._found = found
        self.stored: list[Stored | None] = []

    def write(self) -> None:
        """Write and sync the files under their temporary names."""
        for file in self._found:
            try:
                self.stored.append(self._write(file))
            except ValueError:
                self._folder.remove([unfinished(file.name)])
                self.stored.append(None)

    def publish(self) -> None:
        """Give the files their final names."""
        folder = self._folder
        for file, stored in zip(self._found, self.stored, strict=True):
            if stored is not None:
                folder.disk.rename(f"{folder.path}/{unfinished(file.name)}", f"{folder.path}/{file.name}")

    def undo(self) -> None:
        """Remove the temporary files, as far as possible. Files with final names stay: they may be an earlier run's, and
        the only copy of a paid result."""
        for file in self._found:
            with suppress(OSError):
                self._folder.remove([unfinished(file.name)])

    def _write(self, file: Found) -> Stored:
        folder, disk = self._folder, self._folder.disk
        path = f"{folder.path}/{unfinished(file.name)}"
        try:
            descriptor = disk.open(path, _NEW_FLAGS, PRIVATE_MODE)
        except FileExistsError:  # an earlier run was killed
            disk.remove(path)
            descriptor = disk.open(path, _NEW_FLAGS, PRIVATE_MODE)
        try:
            size, digest = 0, sha256()
            for piece in _decoded(base64_of(self._body, file.start, file.end)):
                size += len(piece)
                digest.update(piece)
                disk.write_all(descriptor, piece)
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)
        return Stored(size, digest.hexdigest())


def _decoded(text: memoryview) -> Iterator[bytes]:
    """The bytes of `text` piece by piece; ValueError where it is not base64."""
    for start in range(0, len(text), PIECE):
        piece = text[start : start + PIECE]
        if start + PIECE < len(text) and piece[-1] == ord("="):
            raise ValueError("expected padding at the end alone")
        yield a2b_base64(piece, strict_mode=True)
