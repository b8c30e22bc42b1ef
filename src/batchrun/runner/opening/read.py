"""What the files of a batch hold, read without changing anything: the header, the fold, the records."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NoReturn

import orjson

from batchrun.core.journal.entries import VERSION, Header
from batchrun.core.journal.fold import JournalState, fold
from batchrun.core.journal.recover import Readable, Recovery, recover
from batchrun.core.taxonomy.rules import State
from batchrun.core.text.readable import Option, Text
from batchrun.edge.append_file import FileNames, FileRefused, OpenFile, open_to_read, read_chunks

_LONGEST_HEADER = 16 << 20  # --set may put whole schemas into it
_BLOCK = 1 << 20


def refuse(path: str, found: str, remedy: Text) -> NoReturn:
    """Raise FileRefused: nothing was changed."""
    raise FileRefused(path, found, remedy)


def read_header(names: FileNames) -> Header | None:
    """The journal's first line; None where there is no journal, or one whose first line a crash cut off.

    Nothing was sent before the header was on the disk, so that a journal with more than a torn header in it
    is one that was damaged, and is not overwritten. Raises FileRefused.
    """
    file = open_to_read(names.journal)
    if file is None:
        return None
    first = b""
    try:
        for chunk in read_chunks(file, 0, min(file.size, _LONGEST_HEADER)):
            end = chunk.find(b"\n") + 1
            first += chunk[:end] if end else chunk
            if end:
                break
    finally:
        file.close()
    state = fold([first] if first else [])
    if state.newer_version is not None:
        refuse(
            names.journal,
            f"it has version {state.newer_version}, this batchrun reads version {VERSION}",
            "use the newer batchrun",
        )
    if not _is_whole(state.header) and first.endswith(b"\n"):
        refuse(
            names.journal,
            "it is damaged at byte 0, in the header that says which batch this is",
            ("put a copy of it back; ", Option("fresh"), " moves the files aside and sends every row again"),
        )
    return state.header


def _is_whole(header: Header | None) -> bool:
    """Whether it is there, with texts where texts belong: a journal may be anybody's."""
    names = ("run_id", "service", "origin", "account", "key_fingerprint", "input")
    return header is not None and all(isinstance(getattr(header, name), str) for name in names)


def size_of(path: str | None) -> int:
    """The size of the file at `path`, 0 where there is none."""
    file = None if path is None else open_to_read(path)
    if file is None:
        return 0
    file.close()
    return file.size


def lines_of(path: str | None, start: int = 0) -> Iterator[bytes]:
    """The lines of a file from the offset `start` on, each with its line end; none where there is no file."""
    file = None if path is None else open_to_read(path)
    if file is not None:
        with os.fdopen(file.descriptor, "rb", buffering=1 << 20) as lines:
            lines.seek(start)
            while part := lines.readlines(_BLOCK):
                yield from part
                if part[-1][-1:] != b"\n":  # the end, even where the file grows meanwhile
                    return


def fold_file(path: str, past_damage_to: int = 0) -> JournalState:
    """What the journal at `path` amounts to."""
    with no_collections():
        return fold(lines_of(path), past_damage_to)


def recovered(names: FileNames, state: JournalState) -> Recovery:
    """The fold of the journal joined with the records of the output."""
    with output_of(names) as output, no_collections():
        return recover(state, output)


_RECENT = 1 << 20  # bytes at the end of an output


def recent_durations(path: str | None) -> list[float]:
    """How long the jobs of the last records of an output took, in seconds: of those that were polled to their end."""
    size = size_of(path)
    lines = list(lines_of(path, max(0, size - _RECENT)))
    durations = []
    for line in lines if size <= _RECENT else lines[1:]:
        try:
            record = orjson.loads(line)
            if record["polls"] and record["state"] in _ENDED_BY_SERVICE:
                ended, began = map(datetime.fromisoformat, (record["finished_at"], record["submitted_at"]))
                durations.append(max(0.0, (ended - began).total_seconds()))
        except (ValueError, KeyError, TypeError):
            continue  # no record, or torn: others say so
    return durations


@contextmanager
def output_of(names: FileNames) -> Iterator[Readable]:
    """The output's bytes, for as long as the block lasts."""
    file = None if names.output is None else open_to_read(names.output)
    if file is None:
        yield b""
        return
    try:
        yield _InBlocks(file)
    finally:
        file.close()


@contextmanager
def no_collections() -> Iterator[None]:
    """Millions of objects are about to be made, and none of them is garbage: to look for it costs half of the time.

    At the end they count as old, as if they had been looked at; else the next collection would look at all of them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if not gc.get_freeze_count():  # else somebody froze objects, and they must stay so
                gc.freeze()
                gc.unfreeze()
            gc.enable()


_ENDED_BY_SERVICE = frozenset({State.SUCCEEDED, State.INCOMPLETE, State.FAILED})


class _InBlocks(Readable):
    """A file as bytes, a block of it in memory: recovery goes through it in order. A memory map was declined: what
    was read of it counts as memory of this process."""

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self._start = 0
        self._block = b""

    def __len__(self) -> int:
        return self._file.size

    def __getitem__(self, part: slice, /) -> bytes:
        start, end = part.start, min(part.stop, self._file.size)
        if start < self._start or end > self._start + len(self._block):
            self._load(start, max(_BLOCK, end - start))
        return self._block[start - self._start : end - self._start]

    def find(self, sub: bytes, start: int, /) -> int:
        size = _BLOCK
        while True:
            if self._start <= start < self._start + len(self._block):
                found = self._block.find(sub, start - self._start)
                if found >= 0:
                    return self._start + found
                if self._start + len(self._block) >= self._file.size:
                    return -1
            elif start >= self._file.size:
                return -1
            self._load(start, size)
            size *= 2

    def _load(self, start: int, size: int) -> None:
        self._start = start
        self._block = b"".join(read_chunks(self._file, start, min(start + size, self._file.size)))
