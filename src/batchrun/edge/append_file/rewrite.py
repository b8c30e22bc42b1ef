"""A new generation of output and journal, as one operation that a crash can interrupt anywhere.

The order, and what a crash before each step leaves:

1. the journal is told (`announce`) and synced      before: nothing happened
2. both new files are written and synced            before: old files; the journal says what was wanted
3. the output is renamed, its folder synced         before: old files, with leftovers that are written anew
4. the journal is renamed, its folder synced        before: new output, old journal that still says what was wanted

So whoever finds the announcement in a journal does the operation again, with `announce` None, and the old
journal is there for it until the new output is safe. The folder is synced between the renames too: nothing
else keeps a power cut from leaving the second one without the first, and a new journal beside the old output
would hold rows as finished that it was told to open again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress

from batchrun.core.text.dates import utc
from batchrun.edge.append_file.append_file import AppendFile
from batchrun.edge.append_file.disk import REAL_DISK, Disk
from batchrun.edge.append_file.file_names import FileNames, new_of, torn_of
from batchrun.edge.append_file.opening import OURS, expect_regular, open_append, refused

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_PIECE = 1 << 20


def rewrite(
    names: FileNames,
    *,
    announce: bytes | None,
    output: Iterable[bytes] | None,
    journal: Iterable[bytes],
    mark: Callable[[int], bytes] | None = None,
    disk: Disk = REAL_DISK,
) -> None:
    """Replace output and journal by the bytes of `output` and `journal`; the lock must be held and no tape open.

    `announce` is the journal's entry for it, put after a `mark`; None where the journal says it already.
    `output` None leaves the output as it is. The new content may be read from the old files while it is
    asked for, and must come out the same if the output is already the new one: the operation is done again
    after a crash. Raises FileRefused or TapeFailed; then it is to be done again.
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
    """Make `content` the file at `path` (0600): whoever reads it finds the old one or the new one, never a part.

    Raises FileRefused, with the old one as it was.
    """
    expect_regular(path, disk)
    new = f"{path}.{os.getpid()}.new"
    _write_new(new, [content], disk)
    try:
        disk.rename(new, path)
    except OSError as error:
        with suppress(OSError):
            disk.remove(new)
        raise refused(path, error) from error


def set_aside(names: FileNames, wall: float, disk: Disk = REAL_DISK) -> list[tuple[str, str]]:
    """Rename the files of a batch to NAME.<date>, so that a new one can begin; the pairs (from, to).

    The journal goes first: an output without a journal is refused by the next run, while a journal without
    its output would fetch every job again. Nothing is overwritten: if any of the new names is taken, all get
    a number. The lock stays, and must be held; so does the copy of an input that is being made, which has a name of
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
    for folder in dict.fromkeys(os.path.dirname(path) or "." for path in paths):  # noqa: PTH120 - str in this room
        try:
            disk.sync_folder(folder)
        except OSError as error:
            raise refused(folder, error) from error


def _announce(path: str, line: bytes, mark: Callable[[int], bytes] | None, disk: Disk) -> None:
    tape = AppendFile(open_append(path, disk), synced=lambda _: None, failed=lambda _: None, mark=mark)
    tape.append(line)
    tape.close()
    if tape.failure is not None:
        raise tape.failure


def _write_new(path: str, content: Iterable[bytes], disk: Disk) -> None:
    try:
        with suppress(FileNotFoundError):
            disk.remove(path)
        descriptor = disk.open(path, _NEW, OURS)
    except OSError as error:
        raise refused(path, error) from error
    try:
        gathered: list[bytes] = []
        size = 0
        for piece in content:
            gathered.append(piece)
            size += len(piece)
            if size >= _PIECE:
                disk.write_all(descriptor, b"".join(gathered))
                gathered.clear()
                size = 0
        disk.write_all(descriptor, b"".join(gathered))
        disk.sync(descriptor)
    except OSError as error:
        # A full disk needs the room; the journal's announcement is what brings us back here.
        with suppress(OSError):
            disk.remove(path)
        raise refused(path, error) from error
    finally:
        disk.close(descriptor)


def _exists(path: str, disk: Disk) -> bool:
    try:
        disk.look(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise refused(path, error) from error
    return True
