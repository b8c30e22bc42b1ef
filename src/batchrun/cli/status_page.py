"""The status of a batch as text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from batchrun.cli.run_result import PIPE, command, commands_for_failed, commands_to_learn, words
from batchrun.cli.summary import (
    TELLING,
    TableRow,
    advice_lines,
    lag_words,
    next_lines,
    state_rows,
    still_running,
    table,
    wrapped,
)
from batchrun.core.status.status import BatchStage, BatchStatus, LastRun, RunState
from batchrun.core.taxonomy.rules import HALT_ADVICE, HaltReason
from batchrun.core.text.readable import duration, many, time_range, visible, worded
from batchrun.edge.terminal import cut
from batchrun.services.of_batch import flags_of, is_found

# --- What to know about the status of a batch besides its counts, and the commands to type next ---
#
# The JSON (``status_json``) has them too.


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
    if (failing := status.failing) is not None:
        how = f"{failing.failed} of the last {failing.jobs} jobs failed by the service's own fault"
        since = f"({visible(failing.code, 60)}, since {duration(max(0.0, status.at - failing.since))})"
        yield f"{how} {since}: rows like them wait, one at a time is sent until most succeed"
    if (told := status.stalled or status.unusual) is not None:
        yield str(told)
    if status.refused and run.is_on:
        was = "was refused and waits" if status.refused == 1 else "were refused and wait"
        yield f"{many(status.refused, 'row')} {was} to be sent again"
    if status.with_warnings:
        yield f"{many(status.with_warnings, 'row')} succeeded with warnings; see `warnings`"
    if status.cancel_all and status.open_rows != 0:
        yield "a cancel request is in force: all rows without a record end as cancelled"
    if status.gone:
        fetched = "it polls for them again" if run.is_on else "the next run polls for them again"
        yield f"{many(status.gone, 'record')} that {'is' if status.gone == 1 else 'are'} in the journal {'is' if status.gone == 1 else 'are'} missing from the output; {fetched}"
    if status.edited:
        yield f"the output {status.edited}"
    if status.rewriting:
        yield "the output is being rewritten" if run.is_on else "a rewriting was interrupted; the next run finishes it"
    if run.is_on:
        return
    if status.stages[BatchStage.SUBMITTING]:
        what = "may have been sent, and the response is lost"
        yield f"{many(status.stages[BatchStage.SUBMITTING], 'row')} {what}; the next run writes them as unconfirmed, or sends them again where that cannot pay twice"
    if status.jobs:
        yield still_running(status.jobs, resumable=True)


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
            found.append((command(paths.command("status", "--watch")), "shows the status until the run ends"))
        return found
    by_header = words(flags_of(status.header))
    access = [] if is_found(status.header) else by_header
    base = paths.command("resume", *access)
    if status.open_rows != 0:
        if paths.input_is_kept:
            found.append((command(base), "resumes this batch"))
        else:
            journal = ["--journal", paths.journal] if paths.journal else []
            piped = command(["-", "-o", paths.output, *journal, *by_header])
            found.append((f"{PIPE}{piped}", "resumes this batch, with the input piped in again"))
    if status.jobs:
        found.append((command(paths.command("collect", *access)), "collects what is in flight; submits nothing"))
        found.append((command(paths.command("cancel", "--all", *access)), "cancels what is in flight"))
    if paths.input_is_kept:
        found += commands_for_failed(base, status.states)
    return found + commands_to_learn(status.codes)


_DONE = {"collected": "collected what was in flight", "cancelled": "carried out a cancel request"}
_SIGNALS = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM", "SIGHUP": "SIGHUP"}
_STAGE_NAMES = {BatchStage.WATCHING: "in flight"}
_LEFT_BEHIND = {BatchStage.SUBMITTING: "maybe sent", BatchStage.WATCHING: "in flight"}  # where no run is on


def page(status: BatchStatus, paths: StatusPaths, width: int) -> list[str]:
    """The status in lines of at most `width` columns, except for commands."""
    lines = "\n".join(_facts(status, width)).split("\n")
    return [*(part for line in lines for part in cut(line, width)), *next_lines(next_commands(status, paths), width)]


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
    yield from advice_lines(status.codes, status.samples, width)


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
            return f"complete at {at}"
        case RunState.PARTIAL:
            return f"partial, ended at {at}"
        case RunState.HALTED:
            return f"halted at {at}" + (f": {visible(run.message)}" if run.message else "")
        case RunState.DETACHED:
            return f"detached at {at}"
        case RunState.STOPPED:
            reason = _SIGNALS.get(run.reason or "", run.reason)
            if run.reason in _SIGNALS:
                return f"stopped by {reason} at {at}"
            if run.reason in _DONE:
                return f"the last run {_DONE[run.reason]} and ended at {at}"
            return f"stopped at {at}" + (f": {visible(reason)}" if reason else "")
        case RunState.LOST:
            return "ended unexpectedly" + (f" after {at}" if at else "") + ": killed, or a power or disk failure"


def _progress(status: BatchStatus) -> str:
    done, total, run = status.done, status.total, status.run
    if total is None:
        return f"{many(done, 'row')} done"
    text = f"{done:,} of {many(total, 'row')} done" + (f", {100 * done // total}%" if total else "")
    if status.left:
        return f"{text}; about {time_range(*(status.forecast or (status.left, status.left)))} left"
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
        rates = f"{_rate(recent.submits_a_minute)} submits and {_rate(recent.records_a_minute)} records per minute"
        yield "pace", f"{rates}, over {duration(recent.seconds)}"
    polling = lag_words(status.polls_per_job, status.mean_lag)
    if polling and status.done >= TELLING:
        yield "polls", polling.replace(" polls per job", " per job")
    counts = [f"{count:,} {name}" for name, count in tokens_of(status).items() if count is not None]
    if counts:
        yield "tokens", ", ".join(counts)
    if status.new_attempts:
        yield "retries", f"{status.new_attempts:,}"


def _rate(a_minute: float) -> str:
    return f"{a_minute:,.0f}" if a_minute >= 9.95 else f"{a_minute:.1f}".removesuffix(".0")


def moment(at: float, now: float) -> str:
    """A moment in local time, with its date unless it is today."""
    then = time.localtime(at)
    form = "%H:%M" if then[:3] == time.localtime(now)[:3] else "%Y-%m-%d %H:%M"
    return time.strftime(form, then)
