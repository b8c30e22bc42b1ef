"""Replacing or moving the files of a batch.

`rewrite` makes a new generation of output and journal as one operation that a crash can interrupt anywhere. Its steps,
and what a crash before each leaves:

1. `announce` is appended to the journal and synced   nothing happened
2. both new files are written and synced              old files; the journal has the announcement
3. the output is renamed, its folder synced           old files, and new ones that will be written again
4. the journal is renamed, its folder synced          new output; the old journal still has the announcement

So a run that finds the announcement in a journal repeats the operation, with `announce` None; the old journal stays
until the new output is safe. The folder is synced between the renames too: otherwise a power cut could leave the second
without the first, and a new journal next to the old output would count rows as finished that were to be opened again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress

from batchrun.core.text.readable import utc
from batchrun.edge.append_file.append_file import AppendFile
from batchrun.edge.append_file.file_names import FileNames, new_of, torn_of
from batchrun.edge.append_file.opening import PRIVATE_MODE, REAL_DISK, Disk, expect_regular, open_append, refused

_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_WRITE_BYTES = 1 << 20


def rewrite(
    names: FileNames,
    *,
    announce: bytes | None,
    output: Iterable[bytes] | None,
    journal: Iterable[bytes],
    mark: Callable[[int], bytes] | None = None,
    disk: Disk = REAL_DISK,
) -> None:
    """Replace output and journal by the bytes of `output` and `journal`; the lock must be held and neither file open.

    `announce` is the journal's entry for it, written after a `mark`; None where the journal has it already.
    `output` None leaves the output as it is. The new content may be generated from the old files, and must be the
    same if the output is already the new one: the operation is repeated after a crash.
    Raises FileRefused or AppendFailed; it is then to be repeated.
    """
    if announce is not None:
        _announce(names.journal, announce, mark, disk)
    contents = [(names.journal, journal)]
    if names.output is not None and output is not None:
        contents.insert(0, (names.output, output))
    for path, content in contents:
        _write_new(new_of(path), content, disk)
    for path, _ in contents:
        try:
            disk.rename(new_of(path), path)
        except OSError as error:
            raise refused(path, error) from error
        sync_folders([path], disk)


def write_whole(path: str, content: bytes, disk: Disk = REAL_DISK) -> None:
    """Replace the file at `path` by `content` (mode 0600): a reader finds the old one or the new one, never a part.

    Raises FileRefused, with the old one unchanged.
    """
    expect_regular(path, disk)
    temporary = f"{path}.{os.getpid()}.new"
    _write_new(temporary, [content], disk)
    try:
        disk.rename(temporary, path)
    except OSError as error:
        with suppress(OSError):
            disk.remove(temporary)
        raise refused(path, error) from error


def set_aside(names: FileNames, wall: float, disk: Disk = REAL_DISK) -> list[tuple[str, str]]:
    """Rename the files of a batch to NAME.<date>, so that a new one can start; the pairs (from, to).

    The journal is first: an output without a journal is refused by the next run, while a journal without
    its output would fetch every job again. Nothing is overwritten: if any of the new names exists, all get
    a number. The lock stays, and must be held; so does an unfinished copy of the input, which has a name of
    its own. Raises FileRefused; what was moved until then stays moved.
    """
    date = utc(wall)[:19].replace(":", "") + "Z"
    found = [
        name
        for path in names.all()
        if path != names.lock
        for name in (path, torn_of(path), new_of(path))
        if _exists(name, disk)
    ]
    suffix, number = date, 1
    while any(_exists(f"{path}.{suffix}", disk) for path in found):
        number += 1
        suffix = f"{date}-{number}"
    moved = [(path, f"{path}.{suffix}") for path in found]
    for old, new in moved:
        try:
            disk.rename(old, new)
        except OSError as error:
            raise refused(old, error) from error
    sync_folders((old for old, _ in moved), disk)
    return moved


def sync_folders(paths: Iterable[str], disk: Disk) -> None:
    """Sync the folders that hold `paths`, each once."""
    for folder in dict.fromkeys(os.path.dirname(path) or "." for path in paths):  # noqa: PTH120 - str in this package
        try:
            disk.sync_folder(folder)
        except OSError as error:
            raise refused(folder, error) from error


def _announce(path: str, line: bytes, mark: Callable[[int], bytes] | None, disk: Disk) -> None:
    journal = AppendFile(open_append(path, disk), synced=lambda _: None, failed=lambda _: None, mark=mark)
    journal.append(line)
    journal.close()
    if journal.failure is not None:
        raise journal.failure


def _write_new(path: str, content: Iterable[bytes], disk: Disk) -> None:
    try:
        with suppress(FileNotFoundError):
            disk.remove(path)
        descriptor = disk.open(path, _NEW_FLAGS, PRIVATE_MODE)
    except OSError as error:
        raise refused(path, error) from error
    try:
        pieces: list[bytes] = []
        size = 0
        for piece in content:
            pieces.append(piece)
            size += len(piece)
            if size >= _WRITE_BYTES:
                disk.write_all(descriptor, b"".join(pieces))
                pieces.clear()
                size = 0
        disk.write_all(descriptor, b"".join(pieces))
        disk.sync(descriptor)
    except OSError as error:
        # A full disk needs the space; the announcement in the journal makes the next run repeat this.
        with suppress(OSError):
            disk.remove(path)
        raise refused(path, error) from error
    finally:
        disk.close(descriptor)


def _exists(path: str, disk: Disk) -> bool:
    try:
        disk.lstat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise refused(path, error) from error
    return True
