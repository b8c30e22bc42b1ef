"""What a batch that was looked at comes to, as values: what else to know of it, and the commands to type next.

``status_page`` makes words of it, and ``status_json`` JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from batchrun.cli.run_result import command, commands_for_failed, commands_to_learn
from batchrun.cli.summary import going_on
from batchrun.core.limits.gate import HaltReason
from batchrun.core.status.status import BatchStage, BatchStatus, LastRun
from batchrun.core.taxonomy.advice import HALT_ADVICE
from batchrun.core.text.units import duration, many
from batchrun.core.text.wording import worded


@dataclass(frozen=True, slots=True)
class StatusPaths:
    """The files as their user names them.

    `input_is_kept` tells whether the input can be read again, `watched` whether the reader goes on looking.
    """

    output: str
    journal: str | None = None
    input_is_kept: bool = True
    watched: bool = False

    def command(self, name: str, *more: str) -> list[str]:
        """A command on these files."""
        return [name, self.output, *(("--journal", self.journal) if self.journal else ()), *more]


def notes_of(standing: BatchStatus) -> Iterator[str]:
    lapse, run = standing.lapse, standing.run
    if lapse is not None and (lapse.refused or lapse.unconfirmed):
        failed = [f"{lapse.refused:,} refused or withdrawn"] if lapse.refused else []
        failed += [f"{lapse.unconfirmed:,} unconfirmed"] if lapse.unconfirmed else []
        yield f"submits of the last {duration(lapse.seconds)}: {', '.join(failed)}"
    if standing.with_warnings:
        yield f"{many(standing.with_warnings, 'row')} succeeded with warnings; look at `warnings`"
    if standing.cancel_all:
        yield "all rows without a record are to end as cancelled"
    if standing.gone:
        fetched = "they are fetched again" if run.is_on else "the next run fetches them again"
        yield f"{many(standing.gone, 'record')} that the journal knows are gone from the output; {fetched}"
    if standing.rewriting:
        yield "the output is being rewritten" if run.is_on else "a rewriting was interrupted; the next run finishes it"
    if run.is_on:
        return
    if standing.stages[BatchStage.SUBMITTING]:
        told = "may have been sent, and the answer is lost"
        yield f"{many(standing.stages[BatchStage.SUBMITTING], 'row')} {told}; the next run writes them as unconfirmed"
    if standing.jobs:
        yield going_on(standing.jobs, None, resumable=True)


def halt_of(run: LastRun) -> tuple[str, str, str] | None:
    """Reason, message and advice of a halt."""
    if run.told is None:
        return None
    reason, _, message = run.told.partition(": ")
    known = reason in set(HaltReason)
    return reason, message, worded(HALT_ADVICE[HaltReason(reason)]) if known else ""


def tokens_of(standing: BatchStatus) -> dict[str, int | None]:
    return {name.removesuffix("_tokens"): count for name, count in standing.tokens.items()}


def next_commands(standing: BatchStatus, place: StatusPaths) -> list[tuple[str, str]]:
    """(command, what it does), the likeliest first."""
    found: list[tuple[str, str]] = []
    if standing.run.is_on:
        if not place.watched:
            found.append((command(place.command("status", "--watch")), "goes on looking until the run is over"))
        found.append((command(place.command("cancel", "--all")), "ends every row that is not done, and its job"))
        return found
    access = _access(standing)
    base = place.command("resume", *access)
    if standing.open_rows != 0:
        if place.input_is_kept:
            found.append((command(base), "goes on where this run stopped"))
        else:
            again = command(["-", "-o", place.output, *access])
            found.append((f"… | {again}", "goes on, with the input piped in again"))
    if standing.jobs:
        found.append((command(place.command("collect", *access)), "brings home what is in flight; submits nothing"))
        found.append((command(place.command("cancel", "--all", *access)), "ends what is in flight"))
    if place.input_is_kept:
        found += commands_for_failed(base, standing.states)
    return found + commands_to_learn(standing.codes)


def _access(standing: BatchStatus) -> list[str]:
    """The flags without which another command would not find the service of this batch."""
    header = standing.header
    if header.service == "demo":
        return ["--demo"]
    return ["--base-url", header.origin] if header.service == "compatible" else []
