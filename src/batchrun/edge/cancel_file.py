"""OUT.requests: cancel requests of other processes to a run, one JSON object per line.

A request is synced before `append_request` returns, so its process may end. Writers exclude each other by a lock on the
file itself; the run reads without one, complete lines only, from where it stopped. A torn line of a writer that was
killed was never acknowledged: the next writer cuts it off.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeGuard

from batchrun.core.jobs.job import CancelReason
from batchrun.core.jobs.messages import CancelRequested
from batchrun.core.journal.fold import JournaledRow
from batchrun.edge.append_file import (
    AppendFile,
    BatchFilesError,
    FileNames,
    OpenFile,
    open_append,
    open_to_read,
    read_chunks,
)
from batchrun.edge.append_file.opening import refused

LINE_BYTES = 1 << 20


def append_request(path: str, request: Mapping[str, Any]) -> int:
    """Append `request` to the file at `path` and sync it. Returns the offset after it.

    Raises FileRefused or AppendFailed, and ValueError where it is too long for a line; nothing was requested then.
    """
    line = _line(request)
    if len(line) > LINE_BYTES:
        raise ValueError(f"expected a request of at most {LINE_BYTES} bytes, got {len(line)}; split it")
    file = _cut_torn_line(_open_locked(path))
    requests = AppendFile(file, synced=lambda _: None, failed=lambda _: None)
    requests.append(line)
    requests.close()  # closing the file releases the lock
    if requests.failure is not None:
        raise requests.failure
    return file.size + len(line)


def withdraw_request(path: str, request: Mapping[str, Any], end: int) -> None:
    """Take back the `request` that ends at the offset `end`; no run may be alive. What stands behind it stays in place.

    Raises FileRefused. Where the file was replaced meanwhile there is nothing to take back.
    """
    line = _line(request)
    start = end - len(line)
    file = _open_locked(path)
    try:
        if file.disk.read(file.descriptor, len(line), start) == line:
            if file.size > end:
                _blank(file, start, len(line))
            else:
                file.disk.truncate(file.descriptor, start)
            file.disk.sync(file.descriptor)
        if file.disk.fstat(file.descriptor).st_size == 0:
            file.disk.remove(path)
    except OSError as error:
        raise refused(path, error) from error
    finally:
        file.close()


def _blank(file: OpenFile, start: int, size: int) -> None:
    """Write an object that asks for nothing in the place of a line."""
    flags = fcntl.fcntl(file.descriptor, fcntl.F_GETFL)
    fcntl.fcntl(file.descriptor, fcntl.F_SETFL, flags & ~os.O_APPEND)  # which would write at the end
    os.pwrite(file.descriptor, b"{%b}\n" % (b" " * (size - 3)), start)


def _line(request: Mapping[str, Any]) -> bytes:
    return json.dumps(request, allow_nan=False, separators=(",", ":")).encode() + b"\n"


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


# --- What other processes want of a run, between the file of requests and the engine ---
#
# A cancel request is one line of OUT.requests: ``{"cancel": ["row-7", …] or "all", "run_id": "…", "at": …}``. Rows are
# named by their keys or by their jobs' ids. A request for another batch, whose files once were here, is ignored.


ALL = "all"


class CancelRequestReader:
    """Reads the cancel requests for one batch, each once. `heard_to` is how far an earlier run had read and accepted them;
    with `everything` one of those asked to end all rows."""

    def __init__(
        self, names: FileNames, run_id: str, heard_to: int, *, everything: bool, noted: Callable[[str], None]
    ) -> None:
        self._file = CancelFile(names.requests, heard_to)
        self._run_id = run_id
        self._everything = everything
        self._noted = noted
        self._already_noted: set[str] = set()
        self._names: frozenset[str] = frozenset()
        self._odd = 0

    @property
    def wanted(self) -> frozenset[str] | None:
        """The names that were read last; None once it was all rows."""
        return None if self._everything else self._names

    def new(self, are_to_come: Callable[[str], bool]) -> list[CancelRequested]:
        """The requests since the last call, as events. What cannot be read is noted once and does no harm."""
        try:
            requests = self._file.read_new()
        except BatchFilesError as error:
            self._note_once(f"requests of `batchrun cancel` cannot be received: {error}")
            return []
        wanted = [one.get("cancel") for one in requests if one.get("run_id") == self._run_id]
        lists = [one for one in wanted if _is_list_of_names(one)]
        self._names = frozenset(name for one in lists for name in one)
        everything = ALL in (one for one in wanted if isinstance(one, str))
        self._odd += sum(one != ALL and not _is_list_of_names(one) for one in wanted)
        self._everything |= everything
        if self._odd + self._file.unreadable:
            self._note_once(f"{self._file.path} holds lines that `batchrun cancel` did not write; they are ignored")
        offset, events = self._file.offset, []
        if self._names or (requests and not everything):  # one for another batch is accepted too
            unread = frozenset(filter(are_to_come, self._names))
            events.append(CancelRequested(self._names, CancelReason.USER, unread, offset))
        if everything:
            events.append(CancelRequested(None, CancelReason.USER, read_to=offset))
        return events

    def concerns(self, key: str, journaled: JournaledRow) -> bool:
        """Whether the row is to end: by what was read last, or by an earlier request that was journaled."""
        wanted = self.wanted
        return journaled.cancel is not None or wanted is None or key in wanted or journaled.job_id in wanted

    def _note_once(self, text: str) -> None:
        if text not in self._already_noted:
            self._already_noted.add(text)
            self._noted(text)


def _is_list_of_names(wanted: Any) -> TypeGuard[list[str]]:
    return isinstance(wanted, list) and all(isinstance(name, str) for name in wanted)


def cancel_request(names: Iterable[str] | None, run_id: str, at: float) -> dict[str, Any]:
    """The line that asks for the end of the rows with these names; None asks for all."""
    return {"cancel": ALL if names is None else list(names), "run_id": run_id, "at": at}
