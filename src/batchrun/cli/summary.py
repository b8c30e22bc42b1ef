"""The closing summary: what happened, what goes on over there, what to type next. In words, and as JSON.

The JSON of ``--summary FILE``, every key always present:

    version       1
    outcome       complete, halted, stopped, detached or write failed
    exit_code     what the command ends with
    rows          {total, done, finished_before, open}; total and open are null where nobody knows
    states        {state: rows} of the whole output, earlier runs included
    failures      [{state, code, rows, advice}] of this run, most rows first
    with_warnings rows of this run that succeeded and have warnings
    requests      {submits, accepted, refused, polls, new_attempts} of this run
    jobs_going_on jobs that run on over there, and are billed
    halted        null, or {reason, message, advice}
    problem       null, or what could not be written
    elapsed_s     seconds
    files         {output, journal, artifacts}, null where there is none
    next          [{command, what}]
"""

from __future__ import annotations

import json
import os
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from batchrun.cli.run_result import (
    Closing,
    exit_code,
    halt_message,
    halt_reason,
    next_commands,
    worst,
)
from batchrun.core.jobs.messages import Outcome
from batchrun.core.taxonomy.advice import HALT_ADVICE, advice_of
from batchrun.core.taxonomy.states import State
from batchrun.core.text.printable import visible
from batchrun.core.text.units import duration, many
from batchrun.core.text.wording import worded
from batchrun.edge.append_file import write_whole

SUMMARY_VERSION = 1
_SIGNALS = {1: "SIGHUP", 2: "Ctrl-C", 15: "SIGTERM"}
_CODES_SHOWN = 4

TableRow = tuple[str, int, str]
"""A name, a count, and what more there is to say of it."""


def summary(closing: Closing, width: int = 100) -> str:
    """The summary as it is printed, in lines of at most `width` columns but for commands and paths."""
    return "\n".join(_lines(closing, width))


def _lines(closing: Closing, width: int) -> Iterator[str]:
    yield _first(closing)
    yield from _table(closing, width)
    if closing.snapshot.with_warnings:
        yield wrapped("", f"{_rows(closing.snapshot.with_warnings)} succeeded with warnings; look at `warnings`", width)
    reason, halted = halt_reason(closing), halt_message(closing)
    advised = [(code, advice_of(state, code)) for state, code, _ in worst(closing)]
    if reason is not None and halted is not None:
        yield ""
        yield wrapped(f"{reason.value}: ", visible(halted), width)
        if closing.snapshot.trouble is not None and closing.snapshot.trouble not in halted:
            yield wrapped("the last submit: ", visible(closing.snapshot.trouble), width)
        yield wrapped("", worded(HALT_ADVICE[reason]), width)
    if closing.problem is not None:
        yield ""
        yield wrapped("", visible(closing.problem), width)
    if advised:
        yield ""
        for code, text in advised:
            yield wrapped(f"{visible(code, 60)}: ", text, width)
    to_end = min(closing.snapshot.to_end, closing.snapshot.watched)
    if to_end:
        yield ""
        yield wrapped("", _to_end(to_end, resumable=closing.resumable), width)
    if jobs := closing.snapshot.watched - to_end:
        yield ""
        yield wrapped("", going_on(jobs, closing.output, resumable=closing.resumable), width)
    if cut_off := closing.snapshot.submits_in_flight:
        yield ""
        yield wrapped("", _cut_off(cut_off, resumable=closing.resumable), width)
    if not closing.resumable and closing.outcome is not Outcome.COMPLETE:
        yield ""
        yield wrapped("", "this run cannot be continued, as it kept no journal; give --journal FILE with -o -", width)
    if commands := next_commands(closing):
        yield ""
        yield "next:"
        for command, what in commands:
            yield f"  {visible(command, 2000)}\n      {what}"
    if closing.output is not None and closing.snapshot.done:
        yield ""
        yield f"records: {visible(closing.output, 2000)}"
    if closing.artifacts is not None and closing.snapshot.done:
        yield f"files: {visible(closing.artifacts, 2000)}"


def _first(closing: Closing) -> str:
    done, total = closing.snapshot.done, closing.total
    far = f"{_rows(done)} done" if total is None else f"{done:,} of {_rows(total)} done"
    match closing.outcome:
        case Outcome.COMPLETE:
            how = "complete"
        case Outcome.HALTED:
            how = "halted"
        case Outcome.STOPPED:
            how = "stopped" if closing.signal is None else f"stopped by {_SIGNALS.get(closing.signal, 'a signal')}"
        case Outcome.DETACHED:
            how = "detached"
        case Outcome.WRITE_FAILED:
            how = "stopped, as the files could not be written"
    said = f"{how}: {far} in {duration(closing.elapsed)}"
    if before := closing.snapshot.finished_before:
        said += f", {before:,} of them by earlier runs"
    if closing.open_rows:
        said += f"; {_rows(closing.open_rows)} {'is' if closing.open_rows == 1 else 'are'} left"
    return said


def _table(closing: Closing, width: int) -> Iterator[str]:
    """A line for each state that was met, with the codes of this run."""
    return table(state_rows(closing.states, closing.snapshot.codes), width)


def state_rows(states: Mapping[str, int], codes: Mapping[tuple[str, str], int]) -> list[TableRow]:
    """The states that were met, each with its commonest codes."""
    found = []
    for state in State:
        if not states.get(state):
            continue
        ranked = sorted(
            ((code, rows) for (of, code), rows in codes.items() if of == state), key=lambda item: (-item[1], item[0])
        )
        told = [f"{rows:,} {visible(code, 60)}" for code, rows in ranked[:_CODES_SHOWN]]
        if len(ranked) > _CODES_SHOWN:
            told.append(f"{sum(rows for _, rows in ranked[_CODES_SHOWN:]):,} others")
        found.append((state.value, states[state], ", ".join(told)))
    return found


def table(rows: Sequence[TableRow], width: int, beside: Sequence[TableRow] = ()) -> Iterator[str]:
    """A line a row, in columns that have room for the rows `beside` them too."""
    name_width = max((len(name) for name, _, _ in (*rows, *beside)), default=0)
    count_width = max((len(f"{count:,}") for _, count, _ in (*rows, *beside)), default=0)
    for name, count, told in rows:
        head = f"  {name:<{name_width}}  {count:>{count_width},}"
        yield wrapped(f"{head}   ", told, width) if told else head


def going_on(jobs: int, output: str | None, *, resumable: bool) -> str:
    """What is said of jobs that outlive their run, whose records are in `output` (None: on stdout)."""
    one = jobs == 1
    said = f"{jobs:,} {'job goes on over there and is' if one else 'jobs go on over there and are'} billed"
    if not resumable:
        return said
    said += f"; the next run collects {'it' if one else 'them'} and pays nothing twice"
    if output is None:
        return said
    ends = f"batchrun cancel {shlex.quote(visible(_near(output), 2000))} --all"
    return f"{said}, `{ends}` ends {'it' if one else 'them'}"


def _to_end(jobs: int, *, resumable: bool) -> str:
    """What is said of jobs whose cancel is journaled and whose record is not."""
    one = jobs == 1
    said = f"{many(jobs, 'job')} {'was' if one else 'were'} being cancelled and may go on over there, billed"
    return f"{said}; the next run ends {'it' if one else 'them'} as cancelled" if resumable else said


def _cut_off(posts: int, *, resumable: bool) -> str:
    """What is said of POSTs that the run did not wait for."""
    one = posts == 1
    said = f"{many(posts, 'POST')} {'was' if one else 'were'} in flight: {'its row' if one else 'their rows'} may have been sent and billed"
    return f"{said}, and {'ends' if one else 'end'} as unconfirmed in the next run" if resumable else said


def _near(path: str) -> str:
    """`path` as it is typed from here, where that is shorter."""
    return min(path, os.path.relpath(path), key=len)


def facts(closing: Closing) -> dict[str, Any]:
    """The summary for programs; its shape is told above."""
    snapshot, reason = closing.snapshot, halt_reason(closing)
    return {
        "version": SUMMARY_VERSION,
        "outcome": closing.outcome.value,
        "exit_code": exit_code(closing),
        "rows": {
            "total": closing.total,
            "done": snapshot.done,
            "finished_before": snapshot.finished_before,
            "open": closing.open_rows,
        },
        "states": {state.value: rows for state in State if (rows := closing.states[state])},
        "failures": [
            {"state": state, "code": code, "rows": rows, "advice": advice_of(state, code)}
            for (state, code), rows in sorted(snapshot.codes.items(), key=lambda item: (-item[1], item[0]))
        ],
        "with_warnings": snapshot.with_warnings,
        "requests": {
            "submits": snapshot.submits,
            "accepted": snapshot.accepted,
            "refused": snapshot.refusals,
            "polls": snapshot.polls,
            "new_attempts": snapshot.new_attempts,
        },
        "jobs_going_on": snapshot.watched,
        "halted": None
        if reason is None
        else {"reason": reason.value, "message": halt_message(closing), "advice": worded(HALT_ADVICE[reason])},
        "problem": closing.problem,
        "elapsed_s": round(closing.elapsed, 3),
        "files": {"output": closing.output, "journal": closing.journal, "artifacts": closing.artifacts},
        "next": [{"command": command, "what": what} for command, what in next_commands(closing)],
    }


def write_facts(path: str, closing: Closing) -> None:
    """Write `facts` to the file at `path`. Raises FilesError."""
    write_whole(path, (json.dumps(facts(closing), indent=2) + "\n").encode("ascii"))  # names may be no UTF-8


def _rows(count: int) -> str:
    return many(count, "row")


def wrapped(head: str, text: str, width: int) -> str:
    """`text` behind `head`, in lines of at most `width` columns."""
    return textwrap.fill(
        head + text, width, subsequent_indent=" " * (len(head) if len(head) < width // 2 else 2),
        break_on_hyphens=False, break_long_words=False, drop_whitespace=True,
    )  # fmt: skip
