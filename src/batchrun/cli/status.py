"""``batchrun status OUT``: how a batch stands, beside its run or after it. Changes nothing, and asks no service.

With ``--watch`` it is told again until the run is over: in place on a terminal, block by block elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from signal import SIGINT
from typing import Any

from batchrun.cli import EXIT_FILES, EXIT_OK, EXIT_SIGNAL, EXIT_USAGE
from batchrun.cli.run_result import command, commands_for_failed, commands_to_learn, failures
from batchrun.cli.summary import TableRow, advice_lines, next_lines, state_rows, still_running, table, wrapped
from batchrun.core.settings.settings import UsageError
from batchrun.core.status.status import BatchStage, BatchStatus, LastRun, RunState
from batchrun.core.taxonomy.rules import HALT_ADVICE, HaltReason, State
from batchrun.core.text.readable import duration, many, size, utc, visible, worded
from batchrun.edge.append_file import BatchFilesError, FileNames
from batchrun.runner.opening.read import size_of
from batchrun.runner.status import StatusReader

# --- What to know about the status of a batch besides its counts, and the commands to type next ---
#
# Shared by ``status_page`` (text) and ``status_json``.


@dataclass(frozen=True, slots=True)
class StatusPaths:
    """The files as their user names them.

    `input_is_kept` is whether the input can be read again, `watched` whether the page is shown with --watch.
    """

    output: str
    journal: str | None = None
    input_is_kept: bool = True
    watched: bool = False

    def command(self, name: str, *more: str) -> list[str]:
        """A command on these files."""
        return [name, self.output, *(("--journal", self.journal) if self.journal else ()), *more]


def notes_of(status: BatchStatus) -> Iterator[str]:
    recent, run = status.recent, status.run
    if recent is not None and (recent.refused or recent.unconfirmed):
        failed = [f"{recent.refused:,} refused or withdrawn"] if recent.refused else []
        failed += [f"{recent.unconfirmed:,} unconfirmed"] if recent.unconfirmed else []
        yield f"submits of the last {duration(recent.seconds)}: {', '.join(failed)}"
    if status.with_warnings:
        yield f"{many(status.with_warnings, 'row')} succeeded with warnings; look at `warnings`"
    if status.cancel_all:
        yield "all rows without a record are to end as cancelled"
    if status.gone:
        fetched = "they are fetched again" if run.is_on else "the next run fetches them again"
        yield f"{many(status.gone, 'record')} that the journal knows are gone from the output; {fetched}"
    if status.rewriting:
        yield "the output is being rewritten" if run.is_on else "a rewriting was interrupted; the next run finishes it"
    if run.is_on:
        return
    if status.stages[BatchStage.SUBMITTING]:
        what = "may have been sent, and the answer is lost"
        yield f"{many(status.stages[BatchStage.SUBMITTING], 'row')} {what}; the next run writes them as unconfirmed"
    if status.jobs:
        yield still_running(status.jobs, None, resumable=True)


def halt_of(run: LastRun) -> tuple[str, str, str] | None:
    """Reason, message and advice of a halt."""
    if run.message is None:
        return None
    reason, _, message = run.message.partition(": ")
    known = reason in set(HaltReason)
    return reason, message, worded(HALT_ADVICE[HaltReason(reason)]) if known else ""


def tokens_of(status: BatchStatus) -> dict[str, int | None]:
    return {name.removesuffix("_tokens"): count for name, count in status.tokens.items()}


def next_commands(status: BatchStatus, paths: StatusPaths) -> list[tuple[str, str]]:
    """(command, what it does), the likeliest first."""
    found: list[tuple[str, str]] = []
    if status.run.is_on:
        if not paths.watched:
            found.append((command(paths.command("status", "--watch")), "goes on looking until the run is over"))
        found.append((command(paths.command("cancel", "--all")), "ends every row that is not done, and its job"))
        return found
    access = _access(status)
    base = paths.command("resume", *access)
    if status.open_rows != 0:
        if paths.input_is_kept:
            found.append((command(base), "goes on where this run stopped"))
        else:
            again = command(["-", "-o", paths.output, *access])
            found.append((f"… | {again}", "goes on, with the input piped in again"))
    if status.jobs:
        found.append((command(paths.command("collect", *access)), "brings home what is in flight; submits nothing"))
        found.append((command(paths.command("cancel", "--all", *access)), "ends what is in flight"))
    if paths.input_is_kept:
        found += commands_for_failed(base, status.states)
    return found + commands_to_learn(status.codes)


def _access(status: BatchStatus) -> list[str]:
    """The flags without which another command would not find the service of this batch."""
    header = status.header
    if header.service == "demo":
        return ["--demo"]
    return ["--base-url", header.origin] if header.service == "compatible" else []


# --- The status of a batch as text ---


_DONE = {"collected": "collected what was in flight", "cancelled": "ended what `batchrun cancel` asked for"}
_SIGNALS = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM", "SIGHUP": "SIGHUP"}
_STAGE_NAMES = {BatchStage.WATCHING: "in flight"}
_LEFT_BEHIND = {BatchStage.SUBMITTING: "perhaps sent", BatchStage.WATCHING: "in flight"}  # where no run is on


def page(status: BatchStatus, paths: StatusPaths, width: int) -> list[str]:
    """The status in lines of at most `width` columns, except for commands."""
    lines = "\n".join(_facts(status, width)).split("\n")
    return [
        *(line if len(line) <= width else f"{line[: width - 1]}…" for line in lines),
        *next_lines(next_commands(status, paths)),
    ]


def _facts(status: BatchStatus, width: int) -> Iterator[str]:
    yield wrapped("", _first(status), width)
    yield wrapped("", _progress(status), width)
    done, open_rows = state_rows(status.states, status.codes), _open_rows(status)
    for rows, others in ((done, open_rows), (open_rows, done)):
        if rows:
            yield ""
            yield from table(rows, width, others)
    if measures := list(_measures(status)):
        yield ""
        name_width = max(map(len, (*(row[0] for row in (*done, *open_rows)), *(name for name, _ in measures))))
        for name, text in measures:
            yield wrapped(f"  {name:<{name_width}}  ", text, width)
    if halt := halt_of(status.run):
        yield ""
        reason, message, advice = halt
        if status.run.state is not RunState.HALTED:
            yield wrapped(f"{visible(reason, 60)}: ", visible(message), width)
        if advice:
            yield wrapped("", advice, width)
    if notes := list(notes_of(status)):
        yield ""
        for note in notes:
            yield wrapped("", note, width)
    yield from advice_lines(status.codes, width)


def _first(status: BatchStatus) -> str:
    run, now = status.run, status.at
    at = "" if run.until is None else moment(run.until, now)
    who = "" if run.process is None else f", process {run.process}"
    match run.state:
        case RunState.STARTING:
            return f"a run is starting{who}"
        case RunState.RUNNING:
            since = run.since or now
            return f"running{who}, since {moment(since, now)} ({duration(max(0.0, now - since))})"
        case RunState.COMPLETE:
            return f"ended in good order at {at}" if status.open_rows else f"complete at {at}"
        case RunState.HALTED:
            return f"halted at {at}" + (f": {visible(run.message)}" if run.message else "")
        case RunState.DETACHED:
            return f"detached at {at}"
        case RunState.STOPPED:
            reason = _SIGNALS.get(run.reason or "", run.reason)
            if run.reason in _SIGNALS:
                return f"stopped by {reason} at {at}"
            if run.reason in _DONE:
                return f"the last run {_DONE[run.reason]}, until {at}"
            return f"stopped at {at}" + (f": {visible(reason)}" if reason else "")
        case RunState.LOST:
            return "no farewell: killed, or the power or the disk failed" + (f", after {at}" if at else "")


def _progress(status: BatchStatus) -> str:
    done, total, run = status.done, status.total, status.run
    if total is None:
        return f"{many(done, 'row')} done"
    text = f"{done:,} of {many(total, 'row')} done" + (f", {100 * done // total}%" if total else "")
    if status.left:
        return f"{text}; about {duration(status.left)} left"
    left = total - done
    if not left or run.is_on:
        return text
    return f"{text}; {many(left, 'row')} {'is' if left == 1 else 'are'} left"


def _open_rows(status: BatchStatus) -> list[TableRow]:
    names = _STAGE_NAMES if status.run.is_on else _LEFT_BEHIND
    return [
        (
            names.get(stage, stage.value),
            status.stages[stage],
            _oldest(status) if stage is BatchStage.WATCHING else "",
        )
        for stage in reversed(BatchStage)
        if status.stages.get(stage)
    ]


def _oldest(status: BatchStatus) -> str:
    oldest = status.oldest
    if oldest is None:
        return ""
    age = duration(max(0.0, status.at - oldest.submitted_at))
    return f"the oldest for {age}: {visible(oldest.key, 60)}, {visible(oldest.job_id, 200)}"


def _measures(status: BatchStatus) -> Iterator[tuple[str, str]]:
    recent = status.recent
    if recent is not None:
        rates = f"{_rate(recent.submits_a_minute)} submits and {_rate(recent.records_a_minute)} records a minute"
        yield "pace", f"{rates}, over {duration(recent.seconds)}"
    counts = [f"{count:,} {name}" for name, count in tokens_of(status).items() if count is not None]
    if counts:
        yield "tokens", ", ".join(counts)
    if status.new_attempts:
        yield "retries", many(status.new_attempts, "new attempt")


def _rate(a_minute: float) -> str:
    return f"{a_minute:,.0f}" if a_minute >= 9.95 else f"{a_minute:.1f}".removesuffix(".0")


def moment(at: float, now: float) -> str:
    """A moment in local time, with its date unless it is today."""
    then = time.localtime(at)
    form = "%H:%M" if then[:3] == time.localtime(now)[:3] else "%Y-%m-%d %H:%M"
    return time.strftime(form, then)


# --- The status of a batch, for programs ---
#
# The JSON of ``batchrun status OUT --json``, every key always present:
#
#     version       1
#     at            the moment of the look, ISO 8601 in UTC, as all moments here
#     run           {state, process, since, until, reason} of the run that is on or was last; state is starting,
#     running,
#                   complete, halted, detached, stopped or lost (no farewell: then `until` is the last that is known of
#                   it)
#     rows          {total, done, open}; total and open are null where nobody knows
#     states        {state: rows} of the whole output
#     stages        {waiting, retrying, submitting, watching, cancelling}: rows without a record; waiting is null as
#     above
#     failures      [{state, code, rows, advice}] of the whole output, most rows first
#     with_warnings rows that succeeded and have warnings
#     jobs          jobs that run over there, and are billed
#     oldest        null, or {key, job_id, submitted_at, age_s} of the job that is in flight for longest
#     lately        null where no run is on, or {seconds, submits, records, refused, unconfirmed}: what happened in the
#     last
#                   seconds, 300 at most; refused counts submits that were withdrawn before they went, too
#     per_minute    null as above, or {submits, records}
#     left_s        null where nobody knows, or seconds to the last record at this pace
#     tokens        {input, output, total}, null while no record has told a number
#     new_attempts  jobs that ended in a way that was worth a new attempt
#     halted        null, or {reason, message, advice} of the last run
#     notes         [what else a person should know]
#     files         {output, journal}
#     next          [{command, what}]


STATUS_VERSION = 1


def facts(status: BatchStatus, paths: StatusPaths, output: str | None, journal: str) -> dict[str, Any]:
    """The status for programs, in the shape above."""
    run, recent, oldest, halt = status.run, status.recent, status.oldest, halt_of(status.run)
    return {
        "version": STATUS_VERSION,
        "at": utc(status.at),
        "run": {
            "state": run.state.value,
            "process": run.process,
            "since": _utc(run.since),
            "until": _utc(run.until),
            "reason": run.reason,
        },
        "rows": {"total": status.total, "done": status.done, "open": status.open_rows},
        "states": {state.value: rows for state in State if (rows := status.states.get(state, 0))},
        "stages": {stage.value: status.stages.get(stage) for stage in BatchStage},
        "failures": failures(status.codes),
        "with_warnings": status.with_warnings,
        "jobs": status.jobs,
        "oldest": None
        if oldest is None
        else {
            "key": oldest.key,
            "job_id": oldest.job_id,
            "submitted_at": utc(oldest.submitted_at),
            "age_s": round(max(0.0, status.at - oldest.submitted_at), 3),
        },
        "lately": None
        if recent is None
        else {
            "seconds": round(recent.seconds, 3),
            "submits": recent.submits,
            "records": recent.records,
            "refused": recent.refused,
            "unconfirmed": recent.unconfirmed,
        },
        "per_minute": None
        if recent is None
        else {"submits": round(recent.submits_a_minute, 3), "records": round(recent.records_a_minute, 3)},
        "left_s": None if status.left is None else round(status.left, 1),
        "tokens": tokens_of(status),
        "new_attempts": status.new_attempts,
        "halted": None if halt is None else dict(zip(("reason", "message", "advice"), halt, strict=True)),
        "notes": list(notes_of(status)),
        "files": {"output": output, "journal": journal},
        "next": [{"command": typed, "what": what} for typed, what in next_commands(status, paths)],
    }


def _utc(at: float | None) -> str | None:
    return None if at is None else utc(at)


_LONG = 100 << 20  # bytes to read of which it is said that they are read
_EVERY = 1.0  # seconds between two looks
_BLOCK_EVERY = 10.0  # and between two blocks where they stay to be read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUT", help="the output of the batch")
    parser.add_argument("--watch", action="store_true", help="tell it again until the run is over; Ctrl-C ends it")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs; with --watch an object a line")
    parser.add_argument("--journal", metavar="FILE", help="where it is not OUT.journal")


def run(options: argparse.Namespace) -> int:
    names = _names(options)
    lookout = StatusReader(names)
    try:
        standing = _first_look(lookout, names)
        if options.watch:
            return _watch(lookout, standing, options)
        print(_told(standing, options, indent=2) if options.json else "\n".join(_page(standing, options)))
    except UsageError as error:
        return _refuse(str(error), EXIT_USAGE)
    except BatchFilesError as error:
        return _refuse(str(error), EXIT_FILES)
    except KeyboardInterrupt:
        return EXIT_OK if options.watch else EXIT_SIGNAL + SIGINT
    finally:
        lookout.close()
    return EXIT_OK


def _names(options: argparse.Namespace) -> FileNames:
    if options.output == "-" and options.journal:  # where a run to stdout keeps its records
        return FileNames.of(f"{options.journal}.records", options.journal)
    return FileNames.of(options.output, options.journal)


def _first_look(lookout: StatusReader, names: FileNames) -> BatchStatus:
    """As `look`. A gigabyte takes ten seconds: whoever sits there should know why nothing is to be seen yet."""
    to_read = size_of(names.journal) + size_of(names.output)
    told = to_read > _LONG and sys.stderr.isatty()
    if told:
        print(f"reading {size(to_read)} …", end="", file=sys.stderr, flush=True)
    try:
        return lookout.look(time.time())
    finally:
        if told:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _refuse(text: str, code: int) -> int:
    print(f"batchrun status: {visible(text, 1_000)}", file=sys.stderr)
    return code


def _watch(lookout: StatusReader, standing: BatchStatus, options: argparse.Namespace) -> int:
    screen = _StatusScreen() if not options.json and sys.stdout.isatty() and os.environ.get("TERM") != "dumb" else None
    told_at = float("-inf")
    try:
        while True:
            over = not standing.run.is_on
            if screen is not None:
                screen.show(_page(standing, options), last=over)
            elif options.json:
                print(_told(standing, options), flush=True)
            elif over or time.monotonic() - told_at >= _BLOCK_EVERY:
                print(*([] if told_at < 0 else [""]), *_page(standing, options), sep="\n", flush=True)
                told_at = time.monotonic()
            if over:
                return EXIT_OK
            time.sleep(_EVERY)
            standing = lookout.look(time.time())
    except KeyboardInterrupt:
        if screen is not None:
            screen.leave()
        return EXIT_OK


def _place(standing: BatchStatus, options: argparse.Namespace) -> StatusPaths:
    kept = standing.header.input != "stdin" or os.path.lexists(_names(options).spool)
    return StatusPaths(options.output, options.journal, input_is_kept=kept, watched=options.watch)


def _page(standing: BatchStatus, options: argparse.Namespace) -> list[str]:
    width = max(40, min(100, _size_of_terminal()[0]))
    return page(standing, _place(standing, options), width)


def _told(standing: BatchStatus, options: argparse.Namespace, indent: int | None = None) -> str:
    names = _names(options)
    return json.dumps(facts(standing, _place(standing, options), names.output, names.journal), indent=indent)


def _size_of_terminal() -> tuple[int, int]:
    """Columns and rows of the terminal itself; what COLUMNS and LINES say may be of another."""
    try:
        return os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return shutil.get_terminal_size()


class _StatusScreen:
    """Lines on a terminal that take the place of those before them."""

    def __init__(self) -> None:
        self._drawn: list[str] = []
        self._columns = 0

    def show(self, lines: list[str], *, last: bool) -> None:
        """Draw `lines` over what was drawn; what the terminal has no room for is left out, but for the last time."""
        columns, rows = _size_of_terminal()
        shown = lines if last else lines[: max(1, rows - 1)]
        body = "".join(f"{line}\x1b[K\n" for line in shown)
        if not last:  # the terminal wraps nothing meanwhile, however wide a character may be there
            body = f"\x1b[?7l{body}\x1b[?7h"
        sys.stdout.write(f"\r{self._up(columns)}{body}\x1b[J")
        sys.stdout.flush()
        self._drawn, self._columns = shown, columns

    def leave(self) -> None:
        """What was drawn stays; the cursor's line, where Ctrl-C was echoed, is cleared."""
        sys.stdout.write("\r\x1b[K")
        sys.stdout.flush()

    def _up(self, columns: int) -> str:
        """Back to the first line; in a terminal that became narrower lines take more than one row."""
        taken = sum(max(1, -(-min(len(line), self._columns) // columns)) for line in self._drawn)
        return f"\x1b[{taken}A" if taken else ""
