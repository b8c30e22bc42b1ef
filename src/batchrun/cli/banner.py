"""What a run prints when it starts and while it stops."""

from __future__ import annotations

import math
from collections.abc import Iterator

from batchrun.core.settings.settings import LONGEST_GAP, Settings
from batchrun.core.text.readable import duration, many, visible


def start_lines(
    settings: Settings,
    *,
    rows: int | None,
    finished: int,
    open_jobs: int,
    service: str,
    origin: str,
    resumed: bool,
    at_once: bool,
) -> list[str]:
    """The first lines of a run.

    `rows` is the size of the input (None without one), `finished` the rows with a record, `open_jobs` the jobs that an
    earlier run left in flight; `at_once` where every row ends at its submit, so that nothing is polled.
    """
    named = "a compatible service" if service == "compatible" else service
    return list(_lines(settings, rows, finished, open_jobs, f"{named} at {visible(origin)}", resumed, at_once))


def _lines(
    settings: Settings, rows: int | None, finished: int, open_jobs: int, where: str, resumed: bool, at_once: bool  # noqa: FBT001 - by name above
) -> Iterator[str]:  # fmt: skip
    if rows is None:  # no input: what is open is collected
        before = f"; {many(finished, 'row')} already finished" if finished else ""
        yield f"collecting {many(open_jobs, 'job')} of earlier runs{before}: {where}"
        if open_jobs:
            yield f"limits: {settings.poll_rate:,g} polls per second, {duration(settings.deadline)} per job"
            yield from _slow(settings, open_jobs)
        return
    left = max(0, rows - finished)
    if not rows and not finished:
        yield "0 rows: the input is empty, and nothing is sent"
        return
    text = many(rows, "row")
    if resumed:
        text += f", {finished:,} already finished"
        if open_jobs:
            text += f", {many(open_jobs, 'job')} of earlier runs in flight"
    yield f"{'resuming' if resumed else 'running'} {text}: {where}"
    if left == 0:
        yield "nothing is left to do; nothing is sent"
        return
    if settings.limit is not None and settings.limit < left:
        yield f"running {many(settings.limit, 'row')} now (--limit); the others wait for the next run"
    if settings.detach:
        yield "detaching: every row is submitted and none is polled; collect the results before the service deletes them"
    yield "limits: " + ", ".join(_limits(settings, at_once=at_once))
    if at_once or settings.detach:
        return
    if settings.max_jobs < settings.concurrency:
        yield (
            f"--concurrency {settings.concurrency:,} is limited to {settings.max_jobs:,}: --poll-rate {settings.poll_rate:g} can poll "
            f"no more jobs every {duration(LONGEST_GAP)}, and some services delete a result after ten minutes; "
            f"--poll-rate {math.ceil(settings.concurrency / LONGEST_GAP)} is enough for all"
        )
    yield from _slow(settings, open_jobs)


def _slow(settings: Settings, open_jobs: int) -> Iterator[str]:
    if open_jobs > settings.poll_rate * LONGEST_GAP:
        yield (
            f"warning: with --poll-rate {settings.poll_rate:g} each of {open_jobs:,} jobs in flight is polled only every "
            f"{duration(open_jobs / settings.poll_rate)}, and some services delete a result after ten minutes; raise it to "
            f"{math.ceil(open_jobs / LONGEST_GAP)}"
        )


def _limits(settings: Settings, *, at_once: bool) -> Iterator[str]:
    if at_once:  # a job is its POST
        yield f"{min(settings.max_jobs, settings.submits):,} POSTs in flight"
    else:
        jobs = "" if settings.detach else f"{settings.max_jobs:,} jobs and "
        yield f"{jobs}{settings.submits:,} POSTs in flight"
    if settings.rpm:
        yield f"{settings.rpm:,g} submits per minute"
    if settings.tpm:
        yield f"{settings.tpm:,.0f} tokens per minute"
    if not (at_once or settings.detach):
        yield f"{settings.poll_rate:,g} polls per second"
    yield f"{many(settings.retries, 'retry', 'retries')} per row" if settings.retries else "no retries"
    yield f"{duration(settings.answer_timeout)} per POST" if at_once else f"{duration(settings.deadline)} per job"
    if settings.max_wait is not None:
        yield f"{duration(settings.max_wait)} in all"


def stopping(submits_in_flight: int, settings: Settings, jobs: int) -> str:
    """The line at the first Ctrl-C."""
    drain = settings.drain
    if settings.cancel_on_interrupt and jobs:
        patience = duration(drain + settings.cancel_settle)
        return (
            f"stopping: cancelling {many(jobs, 'job')} on the service, {patience} at most; Ctrl-C again quits at once"
        )
    if not submits_in_flight:
        return "stopping; Ctrl-C again quits at once"
    waits = f"waiting for {many(submits_in_flight, 'submit')} in flight, {duration(drain)} at most"
    return f"stopping: {waits}; Ctrl-C again quits at once"
