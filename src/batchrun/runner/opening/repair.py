"""What `--repair` does about bytes that were safely on the disk and are not what was written.

Bad lines are kept in PATH.torn and left out, all others are as true as they were and stay. To cut the file at the first
bad line was declined: it would forget the ids of jobs that are paid for.

What a lost line said is recovered where it was about a job: a job is asked for by its last known id,
an intent without its answer is unconfirmed, a record is fetched again. A row whose intent may be lost is journaled as
`unconfirmed`: it is sent only with --resubmit-unconfirmed. Where it has a job, that is polled, and not retried.
How many rows that can be at most is said, which is nearly always a handful. Entries that are out of their order are
written again in it.

Of the output a changed record stays, where it is of its row and its job; all other lines that no run wrote are moved to
OUT.torn. A record of a job that the journal does not know may be of an attempt that it does not know: its row is not
sent again.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from zlib import crc32

from batchrun.core.journal.entries import Done, Entry, SyncedMark, Unconfirmed, mark, read_line
from batchrun.core.journal.fold import JournalState
from batchrun.core.journal.recover import CHANGED, read_record
from batchrun.core.journal.rewrite import entries_of
from batchrun.core.text.readable import Option, Part, many
from batchrun.edge.append_file import FileNames, keep_torn, rewrite
from batchrun.edge.source.checked import Checked
from batchrun.runner.opening.damage import Damage, records_of, row_of
from batchrun.runner.opening.read import lines_of, refuse, size_of
from batchrun.services.of_batch import flags_of, spelled


def repair(names: FileNames, damage: Damage, source: Checked | None, wall: float) -> list[str]:
    """Replace the files by what is left of them, as one operation that may be interrupted; what was done, in words.

    Without the input it cannot be known which rows may have been sent: then it is refused.
    """
    if damage.may_hide_intents and source is None:
        refuse(names.journal, damage.place, ("repair it by a run with its input: ", *_with_input(names, damage.state)))
    notes = []
    suspects = [] if source is None else list(damage.suspects(source))
    unconfirmed = dict.fromkeys([*((one.key, one.attempt) for one in suspects), *damage.of_another_job()])
    size, good_to = size_of(names.journal), damage.state.good_to
    tail = [(good_to, size - good_to)] if size > good_to else []
    for path, lost in ((names.journal, [*damage.journal, *tail]), (names.output, damage.removed)):
        if path is not None and lost:
            kept = keep_torn(path, lost)
            notes.append(f"left {kept:,} damaged bytes out of {path}; they are kept in {path}.torn")
    if changed := sum(one.found == CHANGED for one in damage.doubts):
        notes.append(f"kept {many(changed, 'changed record')} in {names.output}")
    if lost_rows := sum(not one.polled for one in suspects):
        notes.append(f"{many(lost_rows, 'row')} may have been sent: the part of the journal that would show it is lost")
    # The journal first: with it every line of either output is known for what it is.
    rewrite(names, announce=None, output=None, journal=_journal(names, damage, unconfirmed, wall))
    if damage.removed:
        left = (line for _, line, _ in _records_left(names, damage))
        rewrite(names, announce=None, output=left, journal=lines_of(names.journal))
    return notes


def _with_input(names: FileNames, state: JournalState) -> tuple[Part, ...]:
    """The command of a run with the input, as it is typed."""
    assert state.header is not None
    assert names.output is not None
    piped = state.header.input == "stdin"
    words = ["-" if piped else state.header.input, "-o", names.output]
    if names.journal != FileNames.of(names.output).journal:
        words += ["--journal", names.journal]
    flags = spelled(flags_of(state.header))
    return (
        "… | " if piped else "",
        "batchrun ",
        shlex.join(words),
        *((" ", *flags) if flags else ()),
        " ",
        Option("repair"),
    )


def records_behind(names: FileNames, offset: int) -> int:
    """How many records stand behind the line at `offset`, which is none."""
    return sum(good for start, _, good in records_of(names, size_of(names.output)) if start > offset)


def _journal(names: FileNames, damage: Damage, unconfirmed: Iterable[tuple[str, int]], wall: float) -> Iterator[bytes]:
    """The good lines, and those that follow from what is left.

    Marks are offsets and have moved: one at the end stands for all, for the whole is synced.
    """
    bad, offset, end = dict(damage.journal), 0, 0
    for line in lines_of(names.journal):
        if offset >= damage.state.good_to:
            break
        if offset not in bad and _stays(line, damage):
            yield line
            end += len(line)
        offset += len(line)
    for entry in _added(names, damage, unconfirmed, wall):
        line = entry.to_line()
        yield line
        end += len(line)
    yield mark(end)


def _stays(line: bytes, damage: Damage) -> bool:
    entry = read_line(line)
    return entry is not None and entry[0] != SyncedMark.tag and row_of(entry) not in damage.reordered


def _added(names: FileNames, damage: Damage, unconfirmed: Iterable[tuple[str, int]], wall: float) -> Iterator[Entry]:
    """Entries in the place of those that were out of order; markers of records that have none; rows that may have been
    sent."""
    state = damage.state
    for key, journaled in damage.reordered.items():
        yield from entries_of(key, journaled)
        if journaled.marker is not None:
            yield Done(key, *journaled.marker)
    changed = {one.start for one in damage.doubts if one.found == CHANGED}
    for offset, start, line in _places(names, damage) if damage.place or changed else ():
        record = read_record(line)
        if record is not None and (start in changed or record[0] not in state.journaled_rows):
            yield Done(record[0], state.gen, offset, len(line), crc32(line), record[1])
    for key, attempt in unconfirmed:
        yield Unconfirmed(key, attempt, wall)


def _places(names: FileNames, damage: Damage) -> Iterator[tuple[int, int, bytes]]:
    """The records that are left: where they will stand, where they stand now, and their lines."""
    offset = 0
    for start, line, _ in _records_left(names, damage):
        yield offset, start, line
        offset += len(line)


def _records_left(names: FileNames, damage: Damage) -> Iterator[tuple[int, bytes, bool]]:
    removed = {start for start, _ in damage.removed}
    return (one for one in records_of(names, damage.recovery.output_good_to) if one[0] not in removed)
