"""Reading an output: all of it, or record by record while it grows."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path

import orjson

from batchrun.core.text.readable import visible
from batchrun.edge.append_file import BatchFilesError, open_to_read
from batchrun.results.record import Record
from batchrun.results.records import Records
from batchrun.results.run_errors import InputError
from batchrun.runner.opening.read import lines_of

_PIECE = 1 << 20


def read(path: str | os.PathLike[str]) -> Records:
    """The records of an output, in the order in which the rows ended.

    A run may be writing it: an incomplete last line is left out. Raises InputError where there is no such file, or it
    holds something else.
    """
    file, shown = Path(path), visible(os.fspath(path), 200) or '""'
    if file.is_dir():
        raise InputError(
            f"{shown}: expected an output of batchrun, found a folder; give the file in it, such as out.jsonl"
        )
    if not file.is_file():
        raise InputError(f"{shown}: expected an output of batchrun, but there is no such file")
    try:
        found = (record for _, record in _records(lines_of(os.fspath(path)), file.parent, shown))
        return Records(found, path=file)
    except BatchFilesError as error:
        raise InputError(str(error)) from error


read.__module__ = "batchrun"  # the public import path


def records_in(path: Path, keys: Iterable[str] | None, *, kept: bool, running_jobs: int = 0) -> Records:
    """The records at `path`; with `keys` in their order, and those alone."""
    found = _records(lines_of(str(path)), path.parent, str(path))
    if keys is None:
        records = [record for _, record in found]
    else:
        by_key = dict(found)
        records = [by_key[key] for key in keys if key in by_key]
    return Records(records, path=path if kept else None, running_jobs=running_jobs)


def _records(lines: Iterable[bytes], folder: Path, name: str) -> Iterator[tuple[str, Record]]:
    """Each record with its key; what was parsed for that is not kept."""
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            return
        try:
            record = orjson.loads(line)
            key = record["custom_id"] if record["id"] and record["state"] else None
        except (orjson.JSONDecodeError, TypeError, KeyError):
            key = None
        if not isinstance(key, str):
            shown = visible(line.decode("utf-8", "replace"), 60)
            raise InputError(f"{name}:{number:,}: expected a record of batchrun, got {shown!r}")
        yield key, Record(line.rstrip(b"\n"), folder)


class RecordStream:
    """The records of an output that grows, each once it is synced.

    `more(safe, seen)` waits until more than `safe` bytes are synced and returns their number; None when the run is
    over. It is called once all records before were returned: `seen` of them. `ended` raises what cut the run short.
    """

    def __init__(
        self, path: Path, more: Callable[[int, int], Awaitable[int | None]], ended: Callable[[], None]
    ) -> None:
        self._path = path
        self._more = more
        self._ended = ended
        self._at = self._safe = self._seen = 0
        self._over = False
        self._ready: deque[bytes] = deque()

    def __aiter__(self) -> RecordStream:
        return self

    async def __anext__(self) -> Record:
        while not self._ready:
            if self._at < self._safe or self._over:
                self._read()
                if not self._ready and self._over:
                    self._ended()
                    raise StopAsyncIteration
                continue
            safe = await self._more(self._safe, self._seen)
            if safe is None:
                self._over = True
            else:
                self._safe = safe
        self._seen += 1
        return Record(self._ready.popleft(), self._path.parent)

    def _read(self) -> None:
        """The next whole lines; the file is open for no longer than that."""
        file = open_to_read(str(self._path))
        if file is None:
            self._at = self._safe
            return
        try:
            end = file.size if self._over else self._safe
            size = min(_PIECE, end - self._at)
            piece = os.pread(file.descriptor, size, self._at)
            while piece and b"\n" not in piece and self._at + len(piece) < end:
                piece += os.pread(file.descriptor, _PIECE, self._at + len(piece))
        finally:
            file.close()
        whole = piece.rfind(b"\n") + 1
        self._ready.extend(piece[:whole].split(b"\n")[:-1])
        self._at = self._at + whole if whole else end
