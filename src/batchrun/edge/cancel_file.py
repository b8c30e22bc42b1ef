"""OUT.requests: cancel requests of other processes to a run, one JSON object per line.

A request is synced before `append_request` returns, so its process may end. Writers exclude each other by a lock on the
file itself; the run reads without one, complete lines only, from where it stopped. A torn line of a writer that was
killed was never acknowledged: the next writer cuts it off.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from typing import Any

from batchrun.edge.append_file import AppendFile, OpenFile, open_append, open_to_read, read_chunks
from batchrun.edge.append_file.opening import refused

LINE_BYTES = 1 << 20


def append_request(path: str, request: Mapping[str, Any]) -> int:
    """Append `request` to the file at `path` and sync it. Returns the offset after it.

    Raises FileRefused or AppendFailed, and ValueError where it is too long for a line; nothing was requested then.
    """
    line = json.dumps(request, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    if len(line) > LINE_BYTES:
        raise ValueError(f"expected a request of at most {LINE_BYTES} bytes, got {len(line)}; split it")
    file = _cut_torn_line(_open_locked(path))
    requests = AppendFile(file, synced=lambda _: None, failed=lambda _: None)
    requests.append(line)
    requests.close()  # closing the file releases the lock
    if requests.failure is not None:
        raise requests.failure
    return file.size + len(line)


class CancelFile:
    """The requests at a path, read from `offset` on; `unreadable` counts lines that were not a JSON object."""

    def __init__(self, path: str, offset: int = 0) -> None:
        self.path = path
        self.offset = offset
        self.unreadable = 0
        self._identity: tuple[int, int] | None = None
        self._in_long_line = False

    def read_new(self) -> list[dict[str, Any]]:
        """The requests appended since the last call, in order; `offset` is after them.

        Raises FileRefused where the path is not a regular file.
        """
        file = open_to_read(self.path)
        if file is None:
            return []
        try:
            if self._identity not in (None, file.identity) or file.size < self.offset or not self._continues(file):
                self.offset = 0  # another file: the old one was moved aside
            self._identity = file.identity
            return self._read(file)
        finally:
            file.close()

    def _continues(self, file: OpenFile) -> bool:
        """Whether a line begins at the offset that an earlier process read to."""
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
                elif (parsed := _object(line)) is not None:
                    found.append(parsed)
                else:
                    self.unreadable += 1
            if len(rest) >= LINE_BYTES:  # not written by batchrun; not kept in memory
                self.unreadable += not self._in_long_line
                self._in_long_line = True
                self.offset += len(rest)
                rest = b""
        return found


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


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


def _cut_torn_line(file: OpenFile) -> OpenFile:
    """The file as it is now that we hold its lock, without a torn line at its end."""
    end = size = file.disk.fstat(file.descriptor).st_size
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
