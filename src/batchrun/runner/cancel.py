"""Cancelling rows from another process: a request that is on the disk at once, and what became of its rows.

The request is recorded first. A run that is alive reads it within a second and its journal says so; where none is,
the caller may carry it out with a run of its own (``Task.only_cancels``).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from batchrun.core.journal.entries import RequestsAccepted, read_line
from batchrun.core.journal.fold import JournaledRow
from batchrun.core.settings.settings import UsageError
from batchrun.core.taxonomy.rules import State
from batchrun.edge.append_file import FileNames
from batchrun.edge.cancel_file import append_request, cancel_request, withdraw_request
from batchrun.edge.lock import LockHeld, Locks
from batchrun.runner.opening.read import fold_file, lines_of, read_header, recovered, size_of

_LOOK_EVERY = 0.1
_AT_ONCE = 10_000  # names in one request


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request that is on the disk. A run has accepted it when its journal says that it has read up to `heard_at`.

    `lines` are its lines, each with the offset after it.
    """

    names: FileNames
    wanted: tuple[str, ...] | None
    heard_at: int
    journal_size: int
    lines: tuple[tuple[dict[str, Any], int], ...]


@dataclass(slots=True)
class CancelResult:
    """What became of the rows that were to be cancelled.

    `cancelled` counts those whose record says so, `open` those without a record, `sent` those of them that the service
    may have been given. `over` are rows that had ended otherwise, by their state, `names_over` those of them that were
    named; `unknown` are names that the files do not know, `untouched` counts rows that never were, where that is known.
    `collecting`: who worked on the batch last had no input, and cannot know of these two.
    """

    cancelled: int = 0
    open: int = 0
    sent: int = 0
    over: Counter[str] = field(default_factory=Counter)
    names_over: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    untouched: int = 0
    collecting: bool = False


def wish_to_cancel(names: FileNames, wanted: Collection[str] | None) -> SentRequest:
    """Record that these rows are to end, named by key or job id; None is all of them. It is safe when this returns.

    Raises Misuse where there is no batch, FilesError where the files cannot be read or written.
    """
    header = read_header(names)
    if header is None:
        raise UsageError(f"{names.journal}: there is no batch here; give the output of one: batchrun cancel OUT --all")
    size = size_of(names.journal)
    ordered = None if wanted is None else tuple(dict.fromkeys(wanted))
    lines = []
    for part in [None] if ordered is None else [ordered[i : i + _AT_ONCE] for i in range(0, len(ordered), _AT_ONCE)]:
        line = cancel_request(part, header.run_id, time.time())
        lines.append((line, append_request(names.requests, line)))
    return SentRequest(names, ordered, lines[-1][1] if lines else 0, size, tuple(lines))


def withdraw(made: SentRequest) -> None:
    """Take the request back, unless a run has accepted it. Raises LockHeld where one is alive, which does."""
    locks = Locks.take(made.names.locks)  # so that none begins to read it
    try:
        if not _heard(made, made.journal_size)[0]:
            for line, end in reversed(made.lines):
                withdraw_request(made.names.requests, line, end)
    finally:
        locks.release()


def whose(names: FileNames) -> int | None:
    """The process that works on the batch; None where there is none. Raises FilesError where that is unknown."""
    try:
        Locks.take(names.locks).release()
    except LockHeld as held:
        return held.pid or 0
    return None


def wait_until_heard(made: SentRequest, patience: float, clock: Callable[[], float] = time.monotonic) -> bool:
    """Whether a run says within `patience` seconds that it accepted the request, or ends before it does."""
    until = clock() + patience
    position = made.journal_size
    while True:
        accepted, position = _heard(made, position)
        if accepted or clock() >= until or whose(made.names) is None:
            return accepted or _heard(made, position)[0]
        time.sleep(_LOOK_EVERY)


def _heard(made: SentRequest, position: int) -> tuple[bool, int]:
    """Whether the journal says so behind `position`, and up to where it was read."""
    if size_of(made.names.journal) < position:
        position = 0  # the journal was rewritten
    for line in lines_of(made.names.journal, position):
        if not line.endswith(b"\n"):
            break
        position += len(line)
        entry = read_line(line)
        if entry is not None and entry[0] == RequestsAccepted.tag and entry[1]["to"] >= made.heard_at:
            return True, position
    return False, position


def standing(made: SentRequest) -> CancelResult:
    """What the files say by now of the rows that were to be cancelled."""
    state = fold_file(made.names.journal)
    finished, journaled_rows = recovered(made.names, state).finished, state.journaled_rows
    found = CancelResult(collecting=state.started is not None and state.started.rows is None)
    if made.wanted is None:
        keys = {key: key for key in (*finished, *journaled_rows)}
        found.untouched = max(0, (state.rows or 0) - len(keys))
    else:
        keys = _named(made.wanted, journaled_rows, finished)
        found.unknown = [name for name in made.wanted if name not in keys]
    for name, key in keys.items():
        ended, journaled = finished.get(key), journaled_rows.get(key)
        if ended in (None, State.CANCELLED):
            found.open += ended is None
            found.cancelled += ended is not None
            sent = journaled is not None and bool(journaled.job_id or journaled.open_intent or journaled.unconfirmed)
            found.sent += ended is None and sent
            continue
        found.over[ended] += 1
        if made.wanted is not None:
            found.names_over[name] = ended
    return found


def _named(
    wanted: Collection[str], journaled_rows: Mapping[str, JournaledRow], finished: Mapping[str, str]
) -> dict[str, str]:
    """The names that the files know, and the keys of their rows: each row once."""
    keys = {
        name: name
        for name in wanted
        if name in finished or (name in journaled_rows and not journaled_rows[name].is_void)
    }
    others = {name for name in wanted if name not in keys}
    if others:
        by_id = {journaled.job_id: key for key, journaled in journaled_rows.items() if journaled.job_id in others}
        keys |= {name: by_id[name] for name in wanted if name in by_id and by_id[name] not in keys}
    return keys
