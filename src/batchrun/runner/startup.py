"""How the files of a batch are opened, and what they are refused for.

The order is the promise: the lock first, then the journal's header, then whatever must be refused, with both
values named. Only then is anything changed: torn tails are cut, files moved aside, a new journal begun.
"""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from batchrun.core.job import Row
from batchrun.core.ledger import VERSION, Fold, Header, Trail, fold, read_line
from batchrun.core.recovery import Readable, Recovery, recover
from batchrun.core.settings import Settings
from batchrun.edge.lock import Lock
from batchrun.edge.source.checked import Checked
from batchrun.edge.tape import (
    FileRefused,
    Names,
    Opened,
    Tape,
    cut_torn,
    open_append,
    open_to_read,
    read_chunks,
    refuse_input_as_output,
    set_aside,
)  # fmt: skip

NAMED = 10  # rows that a refusal names one by one


@dataclass(frozen=True, slots=True)
class Identity:
    """What a journal keeps of its batch, and a later run must agree with."""

    service: str
    origin: str
    account: str
    body_flags: Mapping[str, Any]
    fingerprint_of: Any  # salt -> fingerprint of the API key, or None


@dataclass(slots=True)
class Batch:
    """The files of a batch under their lock, and what an earlier run left in them."""

    names: Names
    lock: Lock
    header: Header
    state: Fold
    recovery: Recovery
    notes: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)

    @property
    def finished(self) -> dict[str, str]:
        return self.recovery.finished

    def open_rows(self, source: Checked | None) -> Iterator[tuple[Row, Trail]]:
        """The rows that are open, with their trails; what the input no longer holds goes by its key alone."""
        for key, trail in self.recovery.open_trails.items():
            ordinal = None if source is None else source.ordinal_of(key)
            if source is None or ordinal is None:
                yield Row(key), trail
            else:
                yield source.row(ordinal), trail

    def open_tapes(self) -> tuple[Opened, Opened]:
        """Journal and output, for appends."""
        assert self.names.output is not None
        return open_append(self.names.journal), open_append(self.names.output)

    def close(self) -> None:
        self.lock.release()


def open_batch(
    names: Names,
    source: Checked | None,
    identity: Identity,
    settings: Settings,
    *,
    wall: float,
) -> Batch:
    """Open the files at `names` for a run over `source` (None: collect what is open). Raises FilesError."""
    assert names.output is not None
    if source is not None and source.name != "stdin":
        refuse_input_as_output(source.name, names.all())
    lock = Lock.take(names.lock)
    try:
        notes: list[str] = []
        if settings.fresh:
            notes += [f"moved {old} to {new}" for old, new in set_aside(names, wall)]
        header = read_header(names)
        if header is None:
            return _begin(names, lock, source, identity, settings, wall, notes)
        _compare(names, header, identity, settings, notes)
        batch = _resume(names, lock, header, settings, notes)
        if source is not None:
            _compare_rows(batch, source, settings)
        _mend(batch)
    except BaseException:
        lock.release()
        raise
    return batch


# --- the header, and what it must agree with ---


def read_header(names: Names) -> Header | None:
    file = open_to_read(names.journal)
    if file is None:
        return None
    try:
        first = b"".join(read_chunks(file, 0, min(file.size, 1 << 20))).split(b"\n", 1)
    finally:
        file.close()
    entry = read_line(first[0] + b"\n") if len(first) > 1 else None
    if entry is None or entry[0] != Header.tag:
        if file.size and _size(names.output):
            _refuse(names.journal, "its first line is no header of a batch", "move it aside with --fresh")
        return None
    version = entry[1].get("version")
    if version != VERSION:
        _refuse(
            names.journal,
            f"it is of version {version}, this batchrun reads version {VERSION}",
            "use the newer batchrun",
        )
    return Header(**entry[1])


def _compare(names: Names, header: Header, identity: Identity, settings: Settings, notes: list[str]) -> None:
    if (header.origin, header.service) != (identity.origin, identity.service):
        theirs, ours = f"{header.service} at {header.origin}", f"{identity.service} at {identity.origin}"
        _refuse(
            names.journal,
            f"this batch runs on {theirs}, now it is {ours}",
            "name the same service, or begin anew with --fresh",
        )
    if header.account != identity.account:
        theirs, ours = header.account or "none", identity.account or "none"
        _refuse(
            names.journal, f"this batch runs for {theirs}, now it is {ours}", "set the same organisation and project"
        )
    if dict(header.body_flags) != dict(identity.body_flags) and not settings.accept_changes:
        _refuse(
            names.journal,
            f"this batch was begun with {_flags(header.body_flags)}, now it is {_flags(identity.body_flags)}",
            "give the same flags, or --accept-changes for the rows not yet sent",
        )
    fingerprint = identity.fingerprint_of(header.run_id.encode())
    if header.key_fingerprint and fingerprint and fingerprint != header.key_fingerprint:
        notes.append("the API key is not the one that this batch was begun with; its jobs are looked for first")


def _flags(flags: Mapping[str, Any]) -> str:
    told = [f"--model {flags['model']}"] if flags.get("model") else []
    told += [f"--set {name}={value}" for name, value in (flags.get("set") or {}).items()]
    return " ".join(told) or "no --model and no --set"


# --- a new batch ---


def _begin(
    names: Names,
    lock: Lock,
    source: Checked | None,
    identity: Identity,
    settings: Settings,
    wall: float,
    notes: list[str],
) -> Batch:
    finished: dict[str, str] = {}
    if source is None:
        raise FileRefused(names.journal, "there is no batch here", "run it first: batchrun INPUT -o OUT")
    if size := _size(names.output):
        recovery = _recovered(names, Fold(None, {}))
        finished = recovery.finished
        if not settings.new_journal:
            whose = f"{len(finished):,} records" if finished else f"{size:,} bytes that are no records"
            rows = len(source) - sum(key in finished for key in source.all_keys())
            _refuse(
                str(names.output),
                f"it holds {whose} and there is no journal beside it; {rows:,} rows of the input have no record there and "
                "may have been sent and paid for",
                "--fresh moves it aside; --new-journal keeps its records and sends the other rows (perhaps again)",
            )
        if recovery.output_good_to < size:
            cut_torn(str(names.output), recovery.output_good_to)
            notes.append(f"cut a torn line off {names.output}")
    run_id = secrets.token_hex(8)
    header = Header(
        version=VERSION,
        run_id=run_id,
        service=identity.service,
        origin=identity.origin,
        account=identity.account,
        key_fingerprint=identity.fingerprint_of(run_id.encode()) or "",
        body_flags=dict(identity.body_flags),
        input=source.name if source.name == "stdin" else os.path.abspath(source.name),  # noqa: PTH100 - str, as all paths here
        at=wall,
    )
    if _size(names.journal):
        cut_torn(names.journal, 0)  # a header that a crash cut off: nothing followed it
    _append_now(names.journal, header.to_line())
    end = _size(names.output)
    return Batch(names, lock, header, Fold(header, {}), Recovery(finished, {}, end, None), notes)


def _append_now(path: str, line: bytes) -> None:
    tape = Tape(open_append(path), synced=lambda _: None, failed=lambda _: None)
    tape.append(line)
    tape.close()
    if tape.failure is not None:
        raise tape.failure


# --- an earlier run's batch ---


def _resume(names: Names, lock: Lock, header: Header, settings: Settings, notes: list[str]) -> Batch:
    state = _fold_file(names.journal)
    if state.corrupt and not settings.repair:
        _refuse(
            names.journal,
            f"it is damaged at byte {state.good_to:,}, in a part that was safely on the disk",
            "--repair cuts it there; what the later entries said is asked of the service and of the output",
        )
    recovery = _recovered(names, state)
    if recovery.output_corrupt_at is not None and not settings.repair:
        _refuse(
            str(names.output),
            f"it is damaged at byte {recovery.output_corrupt_at:,}, before records that are known to be on the disk",
            "--repair leaves the damaged line out",
        )
    return Batch(names, lock, header, state, recovery, notes)


def _mend(batch: Batch) -> None:
    """Cut the torn tails; the first thing that changes a file."""
    if cut := cut_torn(batch.names.journal, batch.state.good_to):
        batch.notes.append(f"cut {cut:,} torn bytes off the journal; they are kept in {batch.names.journal}.torn")
    assert batch.names.output is not None
    if cut := cut_torn(batch.names.output, batch.recovery.output_good_to):
        batch.notes.append(f"cut {cut:,} torn bytes off the output; they are kept in {batch.names.output}.torn")


def _fold_file(path: str) -> Fold:
    file = open_to_read(path)
    if file is None:
        return fold([])
    with os.fdopen(file.descriptor, "rb") as journal:
        return fold(journal)


def fold_and_recover(names: Names) -> tuple[Fold, Recovery]:
    """What the two files amount to now."""
    state = _fold_file(names.journal)
    return state, _recovered(names, state)


def _recovered(names: Names, state: Fold) -> Recovery:
    with mapped_output(names) as output:
        return recover(state, output)


@contextmanager
def mapped_output(names: Names) -> Iterator[Readable]:
    """The output's bytes, for as long as the block lasts."""
    assert names.output is not None
    file = open_to_read(names.output)
    if file is None or not file.size:
        if file is not None:
            file.close()
        yield b""
        return
    try:
        with mmap.mmap(file.descriptor, file.size, access=mmap.ACCESS_READ) as output:
            yield _Mapped(output)
    finally:
        file.close()


class _Mapped(Readable):
    """A memory map with the few methods that recovery reads by."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped

    def __len__(self) -> int:
        return len(self._mapped)

    def __getitem__(self, part: slice, /) -> bytes:
        return self._mapped[part]

    def find(self, sub: bytes, start: int, /) -> int:
        return self._mapped.find(sub, start)


def _compare_rows(batch: Batch, source: Checked, settings: Settings) -> None:
    """The rows of the journal against those of the input: another input, changed rows, rows that are gone."""
    trails = batch.state.trails
    if not trails and not batch.finished:
        return
    seen, changed = 0, []
    for ordinal, row in enumerate(source.rows()):
        trail = trails.get(row.key)
        if trail is None:
            seen += row.key in batch.finished
            continue
        seen += 1
        if trail.row_sha256 and row.row_sha256 != trail.row_sha256:
            changed.append(source.line_of(ordinal))
    known = len(trails.keys() | batch.finished.keys())
    if not seen:
        told = f"none of its {known:,} rows is in {source.name}; it was begun with {batch.header.input}"
        _refuse(batch.names.journal, told, "name that input, or another output")
    if changed and not settings.accept_changes:
        lines = ", ".join(map(str, changed[:NAMED])) + (
            f" and {len(changed) - NAMED:,} more" if len(changed) > NAMED else ""
        )
        raise FileRefused(
            source.name,
            f"rows that were sent already have changed since, on line {lines}",
            "undo the changes, or go on with --accept-changes: only rows not yet sent take them",
        )
    if seen < known:
        keys = trails.keys() - set(source.all_keys())
        batch.vanished = sorted(key for key in keys if key in batch.recovery.open_trails)
        if batch.vanished:
            batch.notes.append(
                f"{len(batch.vanished):,} open rows are no longer in the input and are collected all the same: "
                + ", ".join(batch.vanished[:NAMED])
            )


def _size(path: str | None) -> int:
    file = None if path is None else open_to_read(path)
    if file is None:
        return 0
    file.close()
    return file.size


def _refuse(path: str, found: str, remedy: str) -> NoReturn:
    raise FileRefused(path, found, remedy)
