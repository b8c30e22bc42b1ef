"""The summary at the end of a run, as text and as JSON: what happened, what is still running, what to type next.

The JSON of ``--summary FILE``, every key always present:

    version       1
    outcome       complete, partial (rows are left that this run could not send, or that --limit left out), halted,
                  stopped, detached or write failed
    exit_code     what the command ends with
    rows          {total, done, finished_before, open}; total and open are null where unknown
    states        {state: rows} of the whole output, earlier runs included
    states_of_run {state: rows} of this run
    failures      [{state, code, rows, advice, sample}] of this run, most rows first; sample is {key, message} of one
                  of these rows, or null
    with_warnings rows of this run that succeeded and have warnings
    requests      {submits, accepted, refused, polls, new_attempts} of this run
    polling       {polls_per_job, mean_lag_s} of the jobs whose end a poll of this run showed, null where there are none;
                  mean_lag_s is the time from a job's end to that poll, as is to be expected
    unusual       null, or {jobs, oldest, age_s}: jobs that ran unusually long when the run ended, 500 at most
    stalled       null, or {jobs, oldest, age_s}: jobs that had not ended for 15 minutes or more, as far as was to be expected
                  of them, and the oldest one's key and age
    jobs_going_on jobs that are still running on the service, and are billed
    halted        null, or {reason, message, advice}
    problem       null, or what could not be written
    elapsed_s     seconds
    files         {output, journal, artifacts}, null where there is none
    next          [{command, what}]
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from batchrun.cli import EXIT_ROWS
from batchrun.cli.run_result import (
    RunResult,
    exit_code,
    failures,
    halt_message,
    halt_reason,
    next_commands,
    profile_name,
)
from batchrun.core.jobs.messages import Outcome
from batchrun.core.status.snapshot import Stalled, Unusual
from batchrun.core.taxonomy.explain import advice_of, worst_first
from batchrun.core.taxonomy.rules import HALT_ADVICE, HaltReason, State
from batchrun.core.text.readable import cut_to, duration, many, visible, worded
from batchrun.edge.append_file import write_whole

SUMMARY_VERSION = 1
_SIGNALS = {1: "SIGHUP", 2: "Ctrl-C", 15: "SIGTERM"}
_CODES_SHOWN = 4
TELLING = 20
"""Of fewer records polls and lag tell nothing that is worth a line."""

TableRow = tuple[str, int, str]
"""A name, a count, and details."""


def summary(result: RunResult, width: int = 80) -> str:
    """The summary as it is printed, in lines of at most `width` columns but for commands and paths."""
    return "\n".join(_lines(result, width))


def _lines(result: RunResult, width: int) -> Iterator[str]:
    yield wrapped("", _first(result), width)
    yield from _table(result, width)
    if result.snapshot.with_warnings:
        which = f"{_rows(result.snapshot.with_warnings)}{' of this run' if result.snapshot.finished_before else ''}"
        yield wrapped("", f"{which} succeeded with warnings; see `warnings`", width)
    lag = lag_words(result.snapshot.polls_per_job, result.snapshot.mean_lag)
    if lag and sum(result.snapshot.states.values()) >= TELLING:
        yield wrapped("", lag, width)
    if result.demo and exit_code(result) == EXIT_ROWS:
        yield wrapped("", "the demo service fails some rows on purpose; exit code 1 is part of it", width)
    if result.outcome is Outcome.PARTIAL and not result.limited:
        yield ""
        yield wrapped("", _unsent(result.open_rows), width)
    reason, halted = halt_reason(result), halt_message(result)
    if reason is not None and halted is not None:
        yield ""
        yield wrapped(f"{reason.value}: ", visible(halted), width)
        known = reason is HaltReason.UNREACHABLE or (result.snapshot.trouble or "") in halted
        if result.snapshot.trouble is not None and not known:
            yield wrapped("the last submit: ", visible(result.snapshot.trouble), width)
        yield wrapped("", worded(HALT_ADVICE[reason]), width)
    if result.profile is not None:
        yield ""
        name = profile_name(result.arguments)
        yield wrapped("", f"a profile for such responses, to be completed and saved as {name}:", width)
        yield ""
        yield from result.profile.splitlines()
    if result.problem is not None and result.problem not in (halted or ""):
        yield ""
        yield wrapped("", visible(result.problem), width)
    yield from advice_lines(result.snapshot.codes, result.snapshot.samples, width)
    to_end = min(result.snapshot.to_end, result.snapshot.watched)
    if to_end:
        yield ""
        yield wrapped("", _being_cancelled(to_end, resumable=result.resumable), width)
    if jobs := result.snapshot.watched - to_end:
        yield ""
        yield wrapped("", still_running(jobs, resumable=result.resumable), width)
    stalls = result.snapshot.stalled
    told = result.snapshot.unusual if stalls is None else replace(stalls, tried=0)
    if told is not None and result.snapshot.watched:
        yield wrapped("", str(told), width)
    if cut_off := result.snapshot.submits_in_flight:
        yield ""
        yield wrapped("", _cut_off(cut_off, resumable=result.resumable), width)
    if not result.resumable and result.outcome is not Outcome.COMPLETE:
        yield ""
        yield wrapped("", "this run cannot be resumed, as it kept no journal; with -o - give --journal FILE", width)
    yield from next_lines(next_commands(result), width)
    if result.output is not None and result.snapshot.done:
        yield ""
        yield f"records: {visible(result.output, 2000)}"
    if result.artifacts is not None and result.snapshot.done:
        yield f"files: {visible(result.artifacts, 2000)}"


def _first(result: RunResult) -> str:
    done, total = result.snapshot.done, result.total
    progress = f"{_rows(done)} done" if total is None else f"{done:,} of {_rows(total)} done"
    match result.outcome:
        case Outcome.COMPLETE:
            how = "complete"
        case Outcome.PARTIAL:
            how = "partial"
        case Outcome.HALTED:
            how = "halted"
        case Outcome.STOPPED:
            how = "stopped" if result.signal is None else f"stopped by {_SIGNALS.get(result.signal, 'a signal')}"
        case Outcome.DETACHED:
            how = "detached"
        case Outcome.WRITE_FAILED:
            how = "stopped, because the files could not be written"
    text = f"{how}: {progress} in {duration(result.elapsed)}"
    if before := result.snapshot.finished_before:
        text += f", {before:,} of them by earlier runs"
    if result.open_rows:
        text += f"; {_rows(result.open_rows)} {'is' if result.open_rows == 1 else 'are'} left"
    return text


def _table(result: RunResult, width: int) -> Iterator[str]:
    """A line for each state, with its codes; where earlier runs have records, this run apart from the whole batch."""
    snapshot = result.snapshot
    of_run, of_batch = state_rows(snapshot.states, snapshot.codes), state_rows(result.states, {})
    if not snapshot.finished_before:
        yield from table(of_run, width)
        return
    if of_run:
        yield "this run:"
        yield from table(of_run, width, of_batch)
    yield "whole batch:"
    yield from table(of_batch, width, of_run)


def state_rows(states: Mapping[str, int], codes: Mapping[tuple[str, str], int]) -> list[TableRow]:
    """The states that occur, each with its most frequent codes."""
    found = []
    for state in State:
        if not states.get(state):
            continue
        ranked = sorted(
            ((code, rows) for (of, code), rows in codes.items() if of == state), key=lambda item: (-item[1], item[0])
        )
        texts = [f"{rows:,} {visible(code, 60)}" for code, rows in ranked[:_CODES_SHOWN]]
        if len(ranked) > _CODES_SHOWN:
            texts.append(f"{sum(rows for _, rows in ranked[_CODES_SHOWN:]):,} others")
        found.append((state.value, states[state], ", ".join(texts)))
    return found


def table(rows: Sequence[TableRow], width: int, others: Sequence[TableRow] = ()) -> Iterator[str]:
    """A line per row, in columns that are wide enough for the `others` too."""
    name_width = max((len(name) for name, _, _ in (*rows, *others)), default=0)
    count_width = max((len(f"{count:,}") for _, count, _ in (*rows, *others)), default=0)
    for name, count, text in rows:
        head = f"  {name:<{name_width}}  {count:>{count_width},}"
        yield wrapped(f"{head}   ", text, width) if text else head


def advice_lines(
    codes: Mapping[tuple[str, str], int], samples: Mapping[tuple[str, str], tuple[str, str]], width: int
) -> Iterator[str]:
    """What to do about the worst errors, each with a row and its message, after an empty line."""
    for number, (state, code, _) in enumerate(worst_first(codes)):
        if not number:
            yield ""
        yield wrapped(f"{visible(code, 60)}: ", advice_of(state, code), width)
        if sample := samples.get((state, code)):
            key, message = sample
            yield cut_to(f"  {visible(key, 30)}: {message}", min(width, 80))


def next_lines(commands: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    """The commands to type next, after an empty line."""
    if commands:
        yield ""
        yield "next:"
    for command, what in commands:
        yield f"  {visible(command, 2000)}"
        yield from wrapped("      ", what, width).split("\n")


def lag_words(polls_per_job: float | None, mean_lag: float | None) -> str:
    """``2.9 polls per job, mean lag 0.5 s``; nothing where nothing is known."""
    polls = [] if polls_per_job is None else [f"{polls_per_job:.1f} polls per job"]
    return ", ".join([*polls, *([] if mean_lag is None else [f"mean lag {duration(mean_lag)}"])])


def still_running(jobs: int, *, resumable: bool) -> str:
    """About jobs that are still running after their run."""
    one = jobs == 1
    text = f"{jobs:,} {'job is' if one else 'jobs are'} still running on the service and will be billed"
    if not resumable:
        return text
    return f"{text}; the next run collects {'it' if one else 'them'} and pays nothing twice"


def _being_cancelled(jobs: int, *, resumable: bool) -> str:
    """About jobs whose cancel is journaled and whose record is not."""
    one = jobs == 1
    text = f"{many(jobs, 'job')} {'was' if one else 'were'} being cancelled and may still run on the service, billed"
    return f"{text}; the next run ends {'it' if one else 'them'} as cancelled" if resumable else text


def _cut_off(posts: int, *, resumable: bool) -> str:
    """About POSTs that the run did not wait for."""
    one = posts == 1
    text = f"{many(posts, 'POST')} {'was' if one else 'were'} in flight: {'its row' if one else 'their rows'} may have been sent and billed"
    if not resumable:
        return text
    how = f"{'ends' if one else 'end'} as unconfirmed in the next run"
    return f"{text}, and {how}, unless sent again where that cannot pay twice"


def _unsent(rows: int | None) -> str:
    """About rows that a run without an input had to leave."""
    if rows is None:
        return "unknown how many rows are left: no run has read the whole input; collect submits nothing"
    are = "is not sent, or waits" if rows == 1 else "are not sent, or wait"
    return f"{_rows(rows)} {are} for a retry; collect submits nothing"


def facts(result: RunResult) -> dict[str, Any]:
    """The summary for programs, in the shape above."""
    snapshot, reason = result.snapshot, halt_reason(result)
    return {
        "version": SUMMARY_VERSION,
        "outcome": result.outcome.value,
        "exit_code": exit_code(result),
        "rows": {
            "total": result.total,
            "done": snapshot.done,
            "finished_before": snapshot.finished_before,
            "open": result.open_rows,
        },
        "states": {state.value: rows for state in State if (rows := result.states[state])},
        "states_of_run": {state.value: rows for state in State if (rows := snapshot.states.get(state, 0))},
        "failures": failures(snapshot.codes, snapshot.samples),
        "with_warnings": snapshot.with_warnings,
        "requests": {
            "submits": snapshot.submits,
            "accepted": snapshot.accepted,
            "refused": snapshot.refusals,
            "polls": snapshot.polls,
            "new_attempts": snapshot.new_attempts,
        },
        "polling": polling(snapshot.polls_per_job, snapshot.mean_lag),
        "unusual": unusual(snapshot.unusual),
        "stalled": stalled(snapshot.stalled),
        "jobs_going_on": snapshot.watched,
        "halted": None
        if reason is None
        else {"reason": reason.value, "message": halt_message(result), "advice": worded(HALT_ADVICE[reason])},
        "problem": result.problem,
        "elapsed_s": round(result.elapsed, 3),
        "files": {"output": result.output, "journal": result.journal, "artifacts": result.artifacts},
        "next": [{"command": command, "what": what} for command, what in next_commands(result)],
    }


def polling(polls_per_job: float | None, mean_lag: float | None) -> dict[str, float | None]:
    """Polls per job and the mean lag, for programs."""
    both = {"polls_per_job": polls_per_job, "mean_lag_s": mean_lag}
    return {name: None if value is None else round(value, 3) for name, value in both.items()}


def unusual(found: Unusual | None) -> dict[str, Any] | None:
    """The jobs that run unusually long, for programs."""
    return None if found is None else {"jobs": found.jobs, "oldest": found.key, "age_s": round(found.age, 3)}


def stalled(found: Stalled | None) -> dict[str, Any] | None:
    """The jobs that have not ended for long, for programs."""
    return None if found is None else {"jobs": found.jobs, "oldest": found.key, "age_s": round(found.age, 3)}


def write_facts(path: str, result: RunResult) -> None:
    """Write `facts` to the file at `path`. Raises FilesError."""
    write_whole(path, (json.dumps(facts(result), indent=2) + "\n").encode("ascii"))  # names may not be UTF-8


def _rows(count: int) -> str:
    return many(count, "row")


def wrapped(head: str, text: str, width: int) -> str:
    """`head` and `text`, in lines of at most `width` columns."""
    return textwrap.fill(
        head + text, width, subsequent_indent=" " * (len(head) if len(head) < width // 2 else 4),
        break_on_hyphens=False, break_long_words=False, drop_whitespace=True,
    )  # fmt: skip
