"""What to know about the status of a batch besides its counts, and the commands to type next.

Shared by ``status_page`` (text) and ``status_json``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from batchrun.cli.run_result import command, commands_for_failed, commands_to_learn
from batchrun.cli.summary import still_running
from batchrun.core.status.status import BatchStage, BatchStatus, LastRun
from batchrun.core.taxonomy.rules import HALT_ADVICE, HaltReason
from batchrun.core.text.readable import duration, many, worded


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
