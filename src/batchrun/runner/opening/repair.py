"""What `--repair` does about bytes that were safely on the disk and are not what was written.

Every line has its own checksum or is its own JSON, so that damage is a matter of lines: the bad ones are kept
in PATH.torn and left out, all others are as true as they were and stay. To cut the file at the first bad line
was declined: it would forget the ids of jobs that are paid for.

What a lost line said is recovered where it was about a job: a job is asked for by its last known id,
an intent without its answer is unconfirmed, a record is fetched again. A lost *intent* leaves no trace. So
where the lost bytes could have held one, every row that could be its row, one without record or a job or an
answer to wait for, is journaled as `unconfirmed`: it is sent only with --resubmit-unconfirmed. How many rows
those bytes can have held at most is said, which is nearly always a handful.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from batchrun.core.journal.entries import Done, Entry, Intent, SyncedMark, Unconfirmed, mark, read_line
from batchrun.core.journal.fold import JournalState
from batchrun.core.journal.recover import Recovery, read_record
from batchrun.core.text.readable import Option, Part, many
from batchrun.edge.append_file import FileNames, keep_torn, rewrite
from batchrun.edge.source.checked import Checked
from batchrun.runner.opening.read import fold_file, lines_of, recovered, refuse, size_of
from batchrun.services.of_batch import flags_of, spelled

_SHORTEST_INTENT = len(Intent("", 1, "0" * 32, 0.0).to_line())


@dataclass(frozen=True, slots=True)
class Damage:
    """Bad lines before the torn tail, and what is left without them."""

    state: JournalState
    recovery: Recovery
    output: list[tuple[int, int]]  # offset and length

    @property
    def journal(self) -> list[tuple[int, int]]:
        return self.state.damaged

    @property
    def intents(self) -> int:
        """How many intents may have stood in the lost bytes."""
        return sum(length for _, length in self.journal) // _SHORTEST_INTENT

    def suspects(self, source: Checked) -> Iterator[tuple[str, int]]:
        """The rows whose intent may be among what was lost, each with its attempt."""
        if not self.intents:
            return
        journaled_rows, finished = self.state.journaled_rows, self.recovery.finished
        for row in source.rows():
            if row.problem is not None or row.key in finished:
                continue
            journaled = journaled_rows.get(row.key)
            if journaled is None or journaled.is_void:
                yield row.key, 1
            elif journaled.waits:
                yield row.key, journaled.attempt


def survey(names: FileNames, state: JournalState, recovery: Recovery) -> Damage | None:
    """What is damaged in the files of a batch; None where nothing is."""
    if not state.corrupt and recovery.output_corrupt_at is None:
        return None
    if state.corrupt:
        state = fold_file(names.journal, state.synced_to)
        recovery = recovered(names, state)
    bad = [] if recovery.output_corrupt_at is None else list(_bad_records(names, recovery.output_good_to))
    return Damage(state, recovery, bad)


def refuse_damage(names: FileNames, damage: Damage, source: Checked | None) -> None:
    """Raise FileRefused: where it is, what `--repair` would do, what it would cost."""
    then: tuple[Part, ...]
    if not damage.journal:
        path, lost = str(names.output), damage.output
        then = (Option("repair"), " leaves the damaged lines out; their jobs are polled by their ids")
    else:
        path, lost = names.journal, damage.journal
        then = (
            Option("repair"),
            " leaves the damaged lines out, keeps all others, and asks the service for what is missing",
        )
        suspects = 0 if source is None else sum(1 for _ in damage.suspects(source))
        if suspects:
            most = min(damage.intents, suspects)
            risk = (
                f"; at most {many(most, 'row')} may have been sent without a trace, among {suspects:,} that have neither record nor "
                "job: these end as unconfirmed, unless "
            )
            then += (risk, Option("resubmit_unconfirmed"), " sends them, perhaps again")
    size = sum(length for _, length in lost)
    found = f"it is damaged at byte {lost[0][0]:,} ({size:,} bytes in all), in a part that was safely on the disk"
    refuse(path, found, then)


def repair(names: FileNames, damage: Damage, source: Checked | None, wall: float) -> list[str]:
    """Replace the files by what is left of them, as one operation that may be interrupted; what was done, in words.

    Without the input it cannot be known which rows may have been sent: then it is refused.
    """
    if damage.intents and source is None:
        refuse(
            names.journal,
            f"it is damaged at byte {damage.journal[0][0]:,}",
            ("repair it by a run with its input: ", *_with_input(names, damage.state)),
        )
    notes = []
    unconfirmed = [] if source is None else list(damage.suspects(source))
    for path, lost in ((names.journal, damage.journal), (names.output, damage.output)):
        if path is not None and lost:
            size = keep_torn(path, lost)
            notes.append(f"left {size:,} damaged bytes out of {path}; they are kept in {path}.torn")
    if unconfirmed:
        notes.append(
            f"{many(len(unconfirmed), 'row')} may have been sent: the part of the journal that would show it is lost"
        )
    rewrite(
        names,
        announce=None,
        output=_good_records(names, damage.recovery.output_good_to) if damage.output else None,
        journal=_journal(names, damage, unconfirmed, wall),
    )
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
    return sum(good for start, _, good in _records(names, size_of(names.output)) if start > offset)


def _journal(names: FileNames, damage: Damage, unconfirmed: Iterable[tuple[str, int]], wall: float) -> Iterator[bytes]:
    """The good lines, and one for each row of which nothing but its record is left.

    Marks are offsets and have moved: one at the end stands for all, for the whole is synced.
    """
    state = damage.state
    bad, offset, end = dict(state.damaged), 0, 0
    for line in lines_of(names.journal):
        if offset >= state.good_to:
            break
        if offset not in bad and _is_entry(line):
            yield line
            end += len(line)
        offset += len(line)
    known = ((key, how) for key, how in damage.recovery.finished.items() if key not in state.journaled_rows)
    added: list[Entry] = [Done(key, state.gen, 0, 0, 0, how) for key, how in known]
    added += [Unconfirmed(key, attempt, wall) for key, attempt in unconfirmed]
    for entry in added:
        line = entry.to_line()
        yield line
        end += len(line)
    yield mark(end)


def _is_entry(line: bytes) -> bool:
    entry = read_line(line)
    return entry is not None and entry[0] != SyncedMark.tag


def _good_records(names: FileNames, end: int) -> Iterator[bytes]:
    return (line for _, line, good in _records(names, end) if good)


def _bad_records(names: FileNames, end: int) -> Iterator[tuple[int, int]]:
    return ((offset, len(line)) for offset, line, good in _records(names, end) if not good)


def _records(names: FileNames, end: int) -> Iterator[tuple[int, bytes, bool]]:
    offset = 0
    for line in lines_of(names.output):
        if offset >= end:
            return
        yield offset, line, line.endswith(b"\n") and read_record(line) is not None
        offset += len(line)
