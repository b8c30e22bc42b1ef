"""Rows that are submitted while a batch runs: durable in `OUT.submitted` first, then taken.

Two programs that submit the same row at once, or one that does so again after a crash, submit one row: a row whose
custom_id and content are known already is the known one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from batchrun.api.wording import error_in_python, in_python
from batchrun.core.rows.parse import Rejection, canonical
from batchrun.core.text.readable import visible
from batchrun.edge.append_file import BatchFilesError, Lines, WriterThread, cut_torn, open_append
from batchrun.edge.source import Growing
from batchrun.results.record import BatchrunError
from batchrun.results.run_errors import InputError
from batchrun.runner.opening.read import lines_of


class _Submitted:
    """A row that is not on the disk yet. Several may wait for its key, and each may be cancelled alone."""

    def __init__(self, line: bytes, name: str | None, value: bytes) -> None:
        self.line, self.name, self.value = line, name, value
        self._ended = asyncio.Event()
        self._result: str | BatchrunError | None = None

    def end(self, result: str | BatchrunError) -> None:
        """Give those who wait the row's key, or what went wrong."""
        self._result = result
        self._ended.set()

    async def key(self) -> str:
        """The row's key, once it is on the disk."""
        await self._ended.wait()
        if isinstance(self._result, str):
            return self._result
        assert self._result is not None
        raise self._result


class Submitting:
    """Takes rows for one batch; `taken` is called whenever one was stored, or could not be."""

    def __init__(self, path: str, source: Growing, taken: Callable[[], None]) -> None:
        self._source = source
        self._taken = taken
        self._path = path
        self._pending: deque[_Submitted] = deque()
        self._ids: dict[str, _Submitted] = {}
        self._lines: Lines | None = None
        self._writer: WriterThread | None = None
        self._safe_lines = 0

    @property
    def pending(self) -> int:
        """Rows that are not on the disk yet."""
        return len(self._pending)

    async def submit(self, line: bytes) -> str:
        """Store a row and return its key. Raises InputError for a row that is refused; nothing of it is kept."""
        source = self._source
        row = source.judge(line)
        if isinstance(row, Rejection):
            raise InputError(f"row: {row.code}: {in_python(row.message)}")
        name, same = row.custom_id, source.like(row)
        if name is not None and (pending := self._ids.get(name)) is not None:
            same = pending.value == canonical(row.value)
            if same:
                return await pending.key()
        if same is not None and name is not None:
            if same:
                return name
            raise InputError(
                f"row: duplicate_id: another row has the custom_id {visible(name, 60)!r}; give this one its own"
            )
        lines = self._open()
        submitted = _Submitted(line, name, b"" if name is None else canonical(row.value))
        self._pending.append(submitted)
        if name is not None:
            self._ids[name] = submitted
        try:
            lines.append(line + b"\n")
        except BatchFilesError as error:
            self._failed(error)
        return await submitted.key()

    def close(self) -> None:
        """Wait for pending rows, and close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self) -> Lines:
        if self._lines is None:
            whole = sum(len(line) for line in lines_of(self._path) if line.endswith(b"\n"))
            cut_torn(self._path, whole)
            self._lines = Lines(open_append(self._path), safe=self._safe, failed=self._failed)
            self._writer = WriterThread(self._lines.file, asyncio.get_running_loop())
        return self._lines

    def _safe(self, lines: int) -> None:
        while self._safe_lines < lines:
            self._safe_lines += 1
            submitted = self._pending.popleft()
            if submitted.name is not None:
                del self._ids[submitted.name]
            submitted.end(self._source.append(submitted.line).key)
        self._taken()

    def _failed(self, error: BatchFilesError) -> None:
        while self._pending:
            submitted = self._pending.popleft()
            self._ids.pop(submitted.name or "", None)
            submitted.end(error_in_python(error))
        self._taken()
