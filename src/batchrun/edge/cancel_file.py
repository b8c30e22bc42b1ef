"""OUT.requests: what other processes want of a run, one JSON object a line.

A wish is synced before `wish` returns, so whoever made it may go. Writers exclude each other by a lock on the
file itself; the run reads without one, complete lines only, from where it stopped. A line that was left torn
by a writer that died was never acknowledged: the next writer cuts it off.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from typing import Any

from batchrun.edge.append_file import AppendFile, OpenFile, open_append, open_to_read, read_chunks
from batchrun.edge.append_file.opening import refused

LINE_BYTES = 1 << 20


def wish(path: str, wanted: Mapping[str, Any]) -> int:
    """Append `wanted` to the requests at `path`; it is synced when this returns. Returns the offset after it.

    Raises FileRefused or TapeFailed, and ValueError for a wish longer than a line may be; nothing was wished then.
    """
    line = json.dumps(wanted, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    if len(line) > LINE_BYTES:
        raise ValueError(f"expected a wish of at most {LINE_BYTES} bytes, got {len(line)}; split it")
    file = _cut(_open_locked(path))
    tape = AppendFile(file, synced=lambda _: None, failed=lambda _: None)
    tape.append(line)
    tape.close()  # and with the file the lock
    if tape.failure is not None:
        raise tape.failure
    return file.size + len(line)


class CancelFile:
    """The wishes at a path, read from `offset` on; `unreadable` counts lines that were no JSON object."""

    def __init__(self, path: str, offset: int = 0) -> None:
        self.path = path
        self.offset = offset
        self.unreadable = 0
        self._identity: tuple[int, int] | None = None
        self._in_long_line = False

    def read_new(self) -> list[dict[str, Any]]:
        """The wishes that were completed since the last call, in their order; `offset` is after them.

        Raises FileRefused where the file is none of ours.
        """
        file = open_to_read(self.path)
        if file is None:
            return []
        try:
            if self._identity not in (None, file.identity) or file.size < self.offset or not self._goes_on(file):
                self.offset = 0  # another file: moved aside, begun anew
            self._identity = file.identity
            return self._read(file)
        finally:
            file.close()

    def _goes_on(self, file: OpenFile) -> bool:
        """Whether a line begins where an earlier process read to."""
        known = self._identity is not None or not self.offset
        return known or file.disk.read(file.descriptor, 1, self.offset - 1) == b"\n"

    def _read(self, file: OpenFile) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        rest = b""
        for chunk in read_chunks(file, self.offset):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self.offset += len(line) + 1
                if self._in_long_line:
                    self._in_long_line = False
                elif (read := _object(line)) is not None:
                    found.append(read)
                else:
                    self.unreadable += 1
            if len(rest) >= LINE_BYTES:  # nobody of ours wrote that; it is not kept in memory
                self.unreadable += not self._in_long_line
                self._in_long_line = True
                self.offset += len(rest)
                rest = b""
        return found


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _open_locked(path: str) -> OpenFile:
    while True:
        file = open_append(path)
        try:
            fcntl.flock(file.descriptor, fcntl.LOCK_EX)
            if not file.is_replaced():
                return file
        except OSError as error:
            file.close()
            raise refused(path, error) from error
        file.close()  # `--fresh` moved it aside while we waited


def _cut(file: OpenFile) -> OpenFile:
    """The file as it is now that we hold its lock, without a torn line at its end."""
    end = size = file.disk.status(file.descriptor).st_size
    tail = b""
    while end and b"\n" not in tail:
        start = max(0, end - LINE_BYTES)
        tail = file.disk.read(file.descriptor, end - start, start)
        kept = start + tail.rfind(b"\n") + 1
        if kept > start or not start:
            if kept < size:
                file.disk.truncate(file.descriptor, kept)
                size = kept
            break
        end = start
    return OpenFile(file.path, file.descriptor, size, file.created, file.identity, file.disk)
