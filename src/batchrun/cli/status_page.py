"""The status of a batch as text."""

from __future__ import annotations

import time
from collections.abc import Iterator

from batchrun.cli.status_notes import StatusPaths, halt_of, next_commands, notes_of, tokens_of
from batchrun.cli.summary import TableRow, advice_lines, next_lines, state_rows, table, wrapped
from batchrun.core.status.status import BatchStage, BatchStatus, RunState
from batchrun.core.text.readable import duration, many, visible

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
