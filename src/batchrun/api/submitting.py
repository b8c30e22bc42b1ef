"""Rows that are given while a batch runs: durable in `OUT.submitted` first, then taken.

Two programs that give the same row at once, or one that does so again after a crash, give one row: a row with a
custom_id that is there already and says the same is the one that is there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from batchrun.api.plain import in_python
from batchrun.core.rows.parse import Rejection, canonical
from batchrun.core.text.printable import visible
from batchrun.edge.append_file import BatchFilesError, Lines, WriterThread, cut_torn, open_append
from batchrun.edge.source import Growing
from batchrun.results.run_errors import FilesError as Unwritten
from batchrun.results.run_errors import InputError
from batchrun.runner.opening.read import lines_of


class _Submitted:
    """A row that is not safe yet. Several may wait for its key, and each may be cancelled alone."""

    def __init__(self, line: bytes, name: str | None, value: bytes) -> None:
        self.line, self.name, self.value = line, name, value
        self._ended = asyncio.Event()
        self._result: str | Unwritten | None = None

    def end(self, result: str | Unwritten) -> None:
        """Give those who wait the row's key, or what went wrong."""
        self._result = result
        self._ended.set()

    async def key(self) -> str:
        """The row's key, once it is safe."""
        await self._ended.wait()
        if isinstance(self._result, str):
            return self._result
        assert self._result is not None
        raise self._result


class Submitting:
    """Takes rows for one batch. `taken` is called when there are more of them; `close` ends it."""

    def __init__(self, path: str, source: Growing, taken: Callable[[], None]) -> None:
        self._source = source
        self._taken = taken
        self._path = path
        self._under_way: deque[_Submitted] = deque()
        self._ids: dict[str, _Submitted] = {}
        self._lines: Lines | None = None
        self._scribe: WriterThread | None = None
        self._safe_lines = 0

    @property
    def under_way(self) -> int:
        """Rows that are not safe yet."""
        return len(self._under_way)

    async def submit(self, line: bytes) -> str:
        """Take a row; gives its key. Raises InputError for a row that cannot be taken: nothing was kept of it."""
        source = self._source
        found = source.judge(line)
        if isinstance(found, Rejection):
            raise InputError(f"row: {found.code}: {in_python(found.message)}")
        name, like = found.custom_id, source.like(found)
        if name is not None and (pending := self._ids.get(name)) is not None:
            like = pending.value == canonical(found.value)
            if like:
                return await pending.key()
        if like is not None and name is not None:
            if like:
                return name
            raise InputError(
                f"row: duplicate_id: another row has the custom_id {visible(name, 60)!r}; give this one its own"
            )
        lines = self._open()
        submitted = _Submitted(line, name, b"" if name is None else canonical(found.value))
        self._under_way.append(submitted)
        if name is not None:
            self._ids[name] = submitted
        try:
            lines.append(line + b"\n")
        except BatchFilesError as error:
            self._failed(error)
        return await submitted.key()

    def close(self) -> None:
        """Wait for what is under way, and close the file."""
        if self._scribe is not None:
            self._scribe.close()
            self._scribe = None

    def _open(self) -> Lines:
        if self._lines is None:
            whole = sum(len(line) for line in lines_of(self._path) if line.endswith(b"\n"))
            cut_torn(self._path, whole)
            self._lines = Lines(open_append(self._path), safe=self._safe, failed=self._failed)
            self._scribe = WriterThread(self._lines.file, asyncio.get_running_loop())
        return self._lines

    def _safe(self, lines: int) -> None:
        while self._safe_lines < lines:
            self._safe_lines += 1
            submitted = self._under_way.popleft()
            if submitted.name is not None:
                del self._ids[submitted.name]
            submitted.end(self._source.append(submitted.line).key)
        self._taken()

    def _failed(self, error: Exception) -> None:
        while self._under_way:
            submitted = self._under_way.popleft()
            self._ids.pop(submitted.name or "", None)
            submitted.end(Unwritten(str(error)))
        self._taken()
