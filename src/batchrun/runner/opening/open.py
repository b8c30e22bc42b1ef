"""How the files of a batch are opened, and what they are refused for.

The order is the promise: the lock first, then the journal's header, then whatever must be refused, with both
values named. Only then is anything changed: damage is repaired where that was asked for, torn tails are cut,
a new journal is begun. `--fresh`, which asks for a batch that begins with no files, moves them aside before.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from batchrun.core.jobs.job import About, Row
from batchrun.core.journal.entries import VERSION, Done, Header, mark
from batchrun.core.journal.fold import JournaledRow, JournalState
from batchrun.core.journal.recover import Doubt, Recovery, forget_places
from batchrun.core.settings.settings import Settings
from batchrun.core.text.readable import Action, Option, Text, many
from batchrun.edge.append_file import (
    AppendFile,
    FileNames,
    OpenFile,
    cut_torn,
    expect_own_folder,
    open_append,
    set_aside,
)  # fmt: skip
from batchrun.edge.lock import Locks
from batchrun.edge.source import Growing
from batchrun.edge.source.checked import Checked, FoundRows
from batchrun.runner.opening.compare import (
    Differences,
    Identity,
    compare_flags,
    compare_header,
    compare_rows,
    find_rows,
    named,
    options,
    refuse_foreign,
    refuse_older_journal,
)
from batchrun.runner.opening.damage import Damage, edited, refuse_damage, refuse_doubts, survey
from batchrun.runner.opening.read import fold_file, read_header, recovered, refuse, size_of
from batchrun.runner.opening.repair import repair
from batchrun.services.of_batch import run_id_for

__all__ = ["Identity", "OpenBatch", "open_batch", "read_header"]

_BODILESS = About(sendable=False)


@dataclass(slots=True)
class OpenBatch:
    """The files of a batch under their lock, and what an earlier run left in them."""

    names: FileNames
    lock: Locks
    header: Header
    state: JournalState
    recovery: Recovery
    notes: list[Text] = field(default_factory=list)
    differences: Differences = field(default_factory=Differences)
    new_flags: dict[str, Any] | None = None  # that take the place of the header's
    doubted: bool = False  # the API key is another one
    in_hand: bytearray = field(default_factory=bytearray)  # by ordinal: whether a row is finished or open
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)  # in the folder of artifacts, by open row

    @property
    def finished(self) -> dict[str, str]:
        return self.recovery.finished

    @property
    def vanished(self) -> list[str]:
        """The keys of open rows that the input no longer holds."""
        return self.differences.vanished

    def open_rows(
        self,
        source: Checked | None,
        wanted: Callable[[str, JournaledRow], bool] | None = None,
        *,
        last_attempts: bool = False,
    ) -> Iterator[tuple[Row, JournaledRow]]:
        """The rows that are open, with their journaled_rows; those alone that are `wanted`, where that is asked.

        What the input no longer holds, or holds otherwise than it was sent, is watched to its end and gets no new
        attempt. Without an input there is nothing to send, and what waits for a retry keeps waiting; where
        there are no more retries (`last_attempts`), its job is polled once more for its record.

        The journaled_rows are given away: at a million rows they weigh as much as the jobs that are made of them.
        """
        journaled_rows, finished = self.recovery.open_journaled, self.recovery.finished
        self.state.journaled_rows = {}  # it may be the very dict of the open rows
        if source is not None:
            self.in_hand = in_hand = bytearray(len(source))
            rows, self.differences.input_rows = self.differences.input_rows, FoundRows()
            for key, ordinal in rows:
                journaled = journaled_rows.pop(key, None)
                in_hand[ordinal] = journaled is not None or key in finished
                if journaled is None:
                    continue
                if wanted is None or wanted(key, journaled):
                    yield self._as_sent(source, ordinal, key, journaled), journaled
                else:
                    journaled_rows[key] = journaled
        for key in list(journaled_rows):
            if wanted is not None and not wanted(key, journaled_rows[key]):
                continue
            journaled = journaled_rows.pop(key)
            if source is not None or last_attempts:
                yield Row(key, _BODILESS), journaled
            elif not journaled.waits or wanted is not None:
                yield Row(key), journaled

    def unread(self, source: Checked, start: int) -> Iterator[int]:
        """The rows from `start` on that are neither finished nor open: those that are still to be read."""
        in_hand = self.in_hand
        place = start
        while (place := in_hand.find(0, place)) >= 0:
            yield place
            place += 1
        yield from range(max(start, len(in_hand)), len(source))  # an input that grew

    def _as_sent(self, source: Checked, ordinal: int, key: str, journaled: JournaledRow) -> Row:
        if key in self.differences.changed:
            row = source.row(ordinal)
            return row._replace(about=replace(row.about, sendable=False))
        about = source.about(ordinal) if journaled.row_sha256 else None
        # Row(…) in a third of the time: there may be a million rows
        return source.row(ordinal) if about is None else tuple.__new__(Row, (key, about, journaled.row_sha256, None))

    def open_tapes(self) -> tuple[OpenFile, OpenFile]:
        """Journal and output, for appends."""
        assert self.names.output is not None
        return open_append(self.names.journal), open_append(self.names.output)

    def close(self) -> None:
        self.lock.release()


def open_batch(
    names: FileNames,
    source: Checked | None,
    identity: Identity,
    settings: Settings,
    *,
    wall: float,
) -> OpenBatch:
    """Open the files at `names` for a run over `source` (None: collect what is open).

    Raises FilesError where the files are refused; InputError or Misuse where the input or the flags are not
    those of the batch.
    """
    assert names.output is not None
    lock = Locks.take(names.locks)
    try:
        notes: list[Text] = []
        if settings.fresh and source is not None:
            notes += [f"moved {old} to {new}" for old, new in set_aside(names, wall)]
        expect_own_folder(names.unreadable)
        header = read_header(names)
        if header is None:
            return _begin(names, lock, source, identity, settings, wall, notes)
        same_key = compare_header(names, header, identity)
        if not same_key:
            notes.append("the API key is not the one that this batch was started with; its jobs are polled first")
        batch = _resume(names, lock, header, source, identity, settings, wall, notes)
        batch.doubted = not same_key
        sent = len(batch.finished) + len(batch.recovery.open_journaled)
        if sent and batch.new_flags is None and dict(header.body_flags) != dict(identity.body_flags):
            kept = "its old result is kept" if sent == 1 else "their old results are kept"
            with_flags = options(header.body_flags)
            notes.append((f"{many(sent, 'row')} had been sent before with ", *with_flags, f" and {kept}"))
    except BaseException:
        lock.release()
        raise
    return batch


# --- a new batch ---


def _begin(
    names: FileNames,
    lock: Locks,
    source: Checked | None,
    identity: Identity,
    settings: Settings,
    wall: float,
    notes: list[Text],
) -> OpenBatch:
    if source is None:
        refuse(names.journal, "there is no batch here", "run it first: batchrun INPUT -o OUT")
    run_id = run_id_for(secrets.token_hex(8), identity.service, identity.origin)
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
        artifacts=None if settings.artifacts is None else os.path.relpath(settings.artifacts, _folder(names)),
    )
    state = JournalState(header, {})
    recovery = recovered(names, state)
    differences = Differences()
    if size := size_of(names.output):
        rows = differences.input_rows = find_rows(source, state, recovery)
        refuse_foreign(names, source, recovery, rows, size, settings)
        differences.elsewhere = len(recovery.finished) - len(rows)
        cut = cut_torn(str(names.output), recovery.output_good_to)
        notes += _cut_notes(cut, names.output)
    if size_of(names.journal):
        cut_torn(names.journal, 0)  # a header that a crash cut off: nothing was sent under it
    adopted = (Done(key, 0, 0, 0, 0, state) for key, state in recovery.finished.items())
    _append_now(names.journal, [header.to_line(), *(entry.to_line() for entry in adopted)])
    return OpenBatch(names, lock, header, state, recovery, notes, differences)


def _folder(names: FileNames) -> str:
    return os.path.dirname(names.output or names.journal)  # noqa: PTH120 - paths are str here


def _append_now(path: str, lines: Iterable[bytes], mark: Callable[[int], bytes] | None = None) -> None:
    tape = AppendFile(open_append(path), synced=lambda _: None, failed=lambda _: None, mark=mark)
    for line in lines:
        tape.append(line)
    tape.close()
    if tape.failure is not None:
        raise tape.failure


# --- an earlier run's batch ---


def _resume(
    names: FileNames,
    lock: Locks,
    header: Header,
    source: Checked | None,
    identity: Identity,
    settings: Settings,
    wall: float,
    notes: list[Text],
) -> OpenBatch:
    state = fold_file(names.journal)
    recovery = recovered(names, state)
    damage = survey(names, state, recovery)
    if damage is not None:
        state, recovery = damage.state, damage.recovery
        if not settings.repair:
            refuse_damage(names, damage, source)
    takes_flags = compare_flags(names, state, recovery, identity, settings)
    differences = Differences()
    if source is not None:
        differences = compare_rows(names, state, recovery, source, settings)
    if damage is None or not damage.place:  # else the part that knew them may be lost
        refuse_older_journal(names, recovery, None if source is None else differences.input_rows)
    doubts = _doubts(recovery, None if source is None else differences.input_rows)
    if damage is not None or (doubts and settings.repair):
        damage = damage or Damage(state, recovery)
        damage.doubts.extend(doubts)
        notes += repair(names, damage, source, wall)
        state = fold_file(names.journal)
        recovery = recovered(names, state)
        if source is not None:
            differences.input_rows = find_rows(source, state, recovery)
            differences.find_absent(recovery)
    elif doubts:
        if not _is_over(state, recovery, source, differences, settings):
            refuse_doubts(names, doubts)
        notes.append(f"{names.output} {edited(doubts)}; it is left as it is, as nothing is to be written")
    batch = OpenBatch(names, lock, header, state, recovery, notes, differences)
    if takes_flags and source is not None:
        batch.new_flags = dict(identity.body_flags)
    _cut_torn_tails(batch)
    if state.rewrite is None and recovery.gone:
        _append_now(names.journal, (entry.to_line() for entry in forget_places(state, recovery)), mark)
    _add_notes(batch, source, settings)
    return batch


def _doubts(recovery: Recovery, input_rows: FoundRows | None) -> list[Doubt]:
    """The lines of the output that no run wrote."""
    if not recovery.strangers or input_rows is None:
        return list(recovery.doubts)
    there = set(input_rows.keys)
    return sorted([*recovery.doubts, *(one for one in recovery.strangers if one.key not in there)])


def _is_over(
    state: JournalState, recovery: Recovery, source: Checked | None, differences: Differences, settings: Settings
) -> bool:
    """Whether every row has its record, and none is to be replaced: nothing will be sent or written."""
    if recovery.open_journaled or state.rewrite is not None:
        return False
    if settings.retry_failed is not None or settings.resubmit_unconfirmed:
        return False
    if source is None:
        return True
    more = isinstance(source, Growing) and not source.ended
    return not more and len(recovery.finished) - differences.elsewhere >= len(source)


def _cut_torn_tails(batch: OpenBatch) -> None:
    """Cut the torn tails."""
    names = batch.names
    batch.notes += _cut_notes(cut_torn(names.journal, batch.state.good_to), names.journal)
    assert names.output is not None
    batch.notes += _cut_notes(cut_torn(names.output, batch.recovery.output_good_to), names.output)


def _cut_notes(cut: int, path: str | None) -> list[str]:
    return [f"cut {cut:,} torn bytes off {path}; they are kept in {path}.torn"] if cut else []


def _add_notes(batch: OpenBatch, source: Checked | None, settings: Settings) -> None:
    """What a person should know of the rows that are taken up."""
    journaled_rows = batch.recovery.open_journaled
    if gone := batch.recovery.gone:
        batch.notes.append(
            f"{gone:,} records are missing from {batch.names.output}; they are fetched again, and nothing is sent"
        )
    if vanished := batch.vanished:
        batch.notes.append(
            f"{len(vanished):,} open rows are no longer in the input; they are collected too: {named(vanished)}"
        )
    if kept := batch.differences.kept:
        result = "its old result is kept" if len(kept) == 1 else "their old results are kept"
        batch.notes.append(f"{many(len(kept), 'changed row')} had been sent before and {result}: {named(kept)}")
    if batch.state.cancel_all:
        batch.notes.append(
            (
                Action.CANCEL_ALL,
                " is in force: every row without a record ends as cancelled, and nothing is sent for it; ",
                Option("retry_failed", "cancelled"),
                " runs cancelled rows after all",
            )
        )
    if source is None and (waiting := sum(journaled.waits for journaled in journaled_rows.values())):
        left = " and are left to a run with their input; "
        then = (left, Option("retries", "0"), " writes them as they ended") if settings.retries else ()
        batch.notes.append((f"{waiting:,} rows wait for their next retry", *then))
