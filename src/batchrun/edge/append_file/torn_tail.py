"""Keeping what a crash left half written or a disk has spoiled, cutting it off, and moving a finished batch out of the way.

Both can be interrupted at any point and begun again: a tail may then be kept twice, and is never lost.
"""

from __future__ import annotations

from collections.abc import Iterable

from batchrun.edge.append_file.disk import REAL_DISK, Disk
from batchrun.edge.append_file.file_names import torn_of
from batchrun.edge.append_file.opening import OpenFile, open_append, open_existing, read_chunks, refused


def cut_torn(path: str, offset: int, disk: Disk = REAL_DISK) -> int:
    """Keep the tail of `path` from `offset` in PATH.torn, then cut it off; the number of bytes cut.

    Each tail ends with a line feed there, its own or an added one. Raises FileRefused; the tail then still
    stands where it stood.
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


def keep_torn(path: str, stretches: Iterable[tuple[int, int]], disk: Disk = REAL_DISK) -> int:
    """Keep stretches of `path`, each an offset and a length, in PATH.torn; the number of bytes kept.

    `path` itself is left as it is. Raises FileRefused.
    """
    file = open_existing(path, disk)
    if file is None:
        return 0
    try:
        return _keep(file, stretches)
    except OSError as error:
        raise refused(path, error) from error
    finally:
        file.close()


def _keep(file: OpenFile, stretches: Iterable[tuple[int, int]]) -> int:
    disk = file.disk
    kept = open_append(torn_of(file.path), disk)
    size = 0
    try:
        for offset, length in stretches:
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
