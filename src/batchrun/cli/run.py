"""The main job: ``batchrun INPUT -o OUT`` runs a batch, and the same command again resumes it."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import orjson

from batchrun.cli import EXIT_FILES, EXIT_USAGE
from batchrun.cli.banner import start_lines, stopping
from batchrun.cli.parser import not_typed, read_settings
from batchrun.cli.run_result import RunResult, exit_code, words
from batchrun.cli.stdout import Copy, StdoutFiles
from batchrun.cli.summary import summary, write_facts
from batchrun.core.jobs.messages import StopMode
from batchrun.core.settings.settings import Refusal, UsageError
from batchrun.core.status.snapshot import Snapshot
from batchrun.core.taxonomy.rules import HaltReason
from batchrun.core.text.readable import Option, Text, many, visible, worded
from batchrun.edge.append_file import BatchFilesError, FileNames, InputIsOutput, expect_regular, refuse_shared
from batchrun.edge.eventlog import EventLog
from batchrun.edge.lock import LockHeld
from batchrun.edge.progress import ProgressBar, waiting
from batchrun.edge.source import InputFileError
from batchrun.edge.terminal import for_person, in_lines, text_width
from batchrun.runner.opening.service import expect_descriptors
from batchrun.runner.session import Opening, Result, Task, run_session
from batchrun.services.of_batch import flags_of

# --- The garbage collector, kept out of the way of a run: for the command alone, whose process is ours ---
#
# A collection of the oldest generation walks over every job in memory: 0.3 s at a hundred thousand jobs, seconds
# at a million, while no response is read. Jobs hold no cycles: what ends is freed at once, without a collector. So
# what exists is frozen, first when the files are read, then each time the jobs in memory have grown; the collector
# then visits only what was created since. Young garbage is collected before it is frozen with the rest.
#
# The library never does this: a notebook's objects are not ours to freeze.


THRESHOLDS = (10_000, 20, 50)
"""New objects before a young collection, young ones before a middle one, middle ones before a full one."""
GROWTH = 5_000
"""Jobs in memory beyond those frozen, and a tenth of these, before the next freezing."""
YOUNG = 1


class Collector:
    """Freezes what exists while it is entered; leaving it restores the collector."""

    def __enter__(self) -> Self:
        self._thresholds = gc.get_threshold()
        self._frozen = 0
        gc.set_threshold(*THRESHOLDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    def freeze(self, jobs: int = 0) -> None:
        """Freeze all that exists now, `jobs` of it jobs."""
        self._frozen = jobs
        gc.collect(YOUNG)
        gc.freeze()

    def freeze_if_grown(self, jobs: int) -> None:
        """Freeze again if the `jobs` in memory have grown; called a few times per second."""
        if jobs >= self._frozen * 1.1 + GROWTH:
            self.freeze(jobs)
        elif jobs < self._frozen:
            self._frozen = jobs


_T = TypeVar("_T")
_ENDS_AT_ONCE = (HaltReason.WRITE_FAILED, HaltReason.MAX_WAIT, HaltReason.UNREACHABLE)
_WARN_EVERY = 30.0
"""Seconds between two warnings of what keeps submits waiting."""
_TROUBLE_LASTS = 5.0
"""A refusal is warned of where nothing was accepted for so long after it, in seconds: the others are part of learning."""


def run(options: argparse.Namespace) -> int:
    """Run or resume the batch that `options` name; returns the exit code."""
    task = Task(
        output=options.output,
        input=0 if options.input == "-" else options.input,
        journal=options.journal,
    )
    return run_task(task, options, sys.argv[1:])


def run_task(
    task: Task, options: argparse.Namespace, arguments: Sequence[str], more: Mapping[str, Any] | None = None
) -> int:
    """Run `task` with the flags in `options`, `more` settings beneath them; shows its progress on stderr."""
    if task.output == "-":
        with StdoutFiles(options.journal) as records:
            to_file = Task(records, task.input, options.journal, beside=os.getcwd())  # noqa: PTH109 - str, as all paths here
            return _run_task(to_file, options, arguments, more, Copy(records, kept=options.journal is not None))
    return _run_task(task, options, arguments, more, None)


def _run_task(
    task: Task, options: argparse.Namespace, arguments: Sequence[str], more: Mapping[str, Any] | None, copy: Copy | None
) -> int:
    screen: _RunScreen | None = None
    variables: Sequence[str] = ()
    try:
        expect_descriptors()
        typed = read_settings(options, os.environ)
        variables = not_typed(options, typed)
        settings = {**(more or {}), **typed}
        if copy is not None and options.journal is None:
            if settings.get("detach"):
                raise UsageError(
                    (
                        Option("detach"),
                        " with -o -: expected a journal, without which the jobs cannot be collected, got none",
                    ),
                    ("give ", Option("journal", "FILE"), " (or leave ", Option("detach"), " out, BATCHRUN_DETACH too)"),
                )
            print("batchrun: without --journal FILE this run cannot be resumed", file=sys.stderr)
        others = {name: path for name in ("summary", "log_json") if (path := getattr(options, name))}
        refuse_shared(FileNames.of(task.output, task.journal), task.input, others)
        if options.summary:
            expect_regular(options.summary)
        with Collector() as collector:
            screen = _RunScreen(options, arguments, copy, collector, piped=task.input == 0)
            return _with_a_loop(lambda: _run(task, settings, options, screen))
    except Refusal as error:
        if task.only_cancels and isinstance(error, LockHeld):
            raise
        usage = isinstance(error, UsageError | InputFileError | InputIsOutput)
        return _refuse(error.worded(variables), EXIT_USAGE if usage else EXIT_FILES)
    finally:
        if screen is not None:
            screen.close()


def _refuse(text: str, code: int) -> int:
    lines = "\n".join(visible(line, 1_000) for line in text.splitlines())
    print(for_person(f"batchrun: {lines}", sys.stderr), file=sys.stderr)
    return code


def _laid_out(text: str) -> str:
    return in_lines(text, text_width(sys.stderr), "  ")


def _with_a_loop(main: Callable[[], Awaitable[_T]]) -> _T:
    """Run `main` on uvloop where it is installed."""

    async def body() -> _T:
        return await main()

    try:
        import uvloop
    except ImportError:
        return asyncio.run(body())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(body())


async def _run(task: Task, settings: dict[str, Any], options: argparse.Namespace, screen: _RunScreen) -> int:
    with screen.handlers:
        async with _demo(options) as address:
            if address is not None:
                task = replace(task, demo=address)
            result = await run_session(
                task, settings, os.environ, screen, screen.opened, alongside=screen.obey_signals
            )  # fmt: skip
        return screen.closed(result)


def _signals() -> AbstractContextManager[AsyncIterator[signal.Signals]]:
    """The signals that stop a run; but a hangup that is ignored already was asked for (nohup)."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return anyio.open_signal_receiver(*numbers)


@asynccontextmanager
async def _demo(options: argparse.Namespace) -> AsyncIterator[str | None]:
    """The address of the simulated service in this process; any later one answers for its jobs too."""
    if not options.demo:
        yield None
        return
    from batchrun.simulator import DEMO, Simulator

    async with Simulator(DEMO) as simulator:
        yield simulator.base_url


class _RunScreen:
    """What a person sees of the run, and what the event log keeps of it."""

    def __init__(
        self,
        options: argparse.Namespace,
        arguments: Sequence[str],
        copy: Copy | None,
        collector: Collector,
        *,
        piped: bool,
    ) -> None:
        self._piped = piped
        self._options = options
        self._collector = collector
        self._copy = copy
        self._arguments = arguments
        self._quiet = options.quiet
        self._progress: ProgressBar | None = None
        self._log = EventLog(options.log_json, failed=self._warn) if options.log_json else None
        self._opening: Opening | None = None
        self._signal: int | None = None
        self._signals: AsyncIterator[signal.Signals] | None = None
        self.handlers = ExitStack()  # of signals, from `opened` to the end of the command
        self._begun: float | None = None
        self._problem: str | None = None
        self._paused = False
        self._outage_since: float | None = None
        self._failing: dict[str | None, float] = {}  # models whose jobs fail, and since when
        self._warned_at = float("-inf")
        self._troubled_since: float | None = None  # since when nothing was accepted, after a refusal

    # --- the observer of the run ---

    def progressed(self, snapshot: Snapshot) -> None:
        self._collector.freeze_if_grown(snapshot.waiting + snapshot.in_flight)
        if self._begun is None:
            self._begun = snapshot.now
        if self._copy is not None and self._opening is not None:
            self._copy.upto(self._opening.synced())
        if self._progress is not None:
            self._progress.show(snapshot)
            self._note_trouble(snapshot)
            self._warn_of_failures(snapshot)
        if self._log is not None:
            self._log_changes(self._log, snapshot)

    def _log_changes(self, log: EventLog, snapshot: Snapshot) -> None:
        now, before = snapshot.now, self._failing
        if (snapshot.paused_until is not None) > self._paused:
            log.write("pause", seconds=round((snapshot.paused_until or now) - now, 3))
        self._paused = snapshot.paused_until is not None
        if snapshot.outage or snapshot.silent_for is not None:
            if self._outage_since is None:
                self._outage_since = now - (snapshot.silent_for or 0.0)
                log.write("outage", message=snapshot.silent_why or snapshot.trouble)
        elif self._outage_since is not None:
            log.write("responds", seconds=round(now - self._outage_since, 3))
            self._outage_since = None
        self._failing = {one.model: now - one.lasts for one in snapshot.failing}
        for one in snapshot.failing:
            if one.model not in before:
                log.write("failing", model=one.model, code=one.why)
        for model in before.keys() - self._failing.keys():
            log.write("recovered", model=model, seconds=round(now - before[model], 3))

    def _note_trouble(self, snapshot: Snapshot) -> None:
        if snapshot.trouble is None:
            self._troubled_since = None
        elif self._troubled_since is None:
            self._troubled_since = snapshot.now

    def _warn_of_failures(self, snapshot: Snapshot) -> None:
        if snapshot.silent:  # the engine tells that
            return
        waits = snapshot.trouble if snapshot.paused_until else None
        if snapshot.waits and not snapshot.outage:
            lasts = self._troubled_since is not None and snapshot.now - self._troubled_since >= _TROUBLE_LASTS
            waits = f"{waiting(snapshot)[0]}: {snapshot.trouble}" if lasts and snapshot.trouble else None
        if self._progress is None or snapshot.now - self._warned_at < _WARN_EVERY or not (waits or snapshot.unanswered):
            return
        self._warned_at = snapshot.now
        if waits:
            self._warn(visible(waits) if snapshot.waits else f"submits wait: {visible(waits)}")
        if snapshot.unanswered:
            jobs = many(snapshot.watched, "job")
            self._warn(f"no response to polls of {jobs}: {visible(snapshot.unanswered)}; polling again")

    def halted(self, reason: str, message: str) -> None:
        if reason == "write failed":
            self._problem = message
        if self._progress is not None:
            self._tell_halt(reason, message)
        self._write("halt", reason=reason, message=message)

    def _tell_halt(self, reason: str, message: str) -> None:
        """Say at once that nothing more is submitted, where jobs in flight may take hours yet; the summary says why."""
        assert self._progress is not None
        jobs = 0 if self._opening is None else self._opening.snapshot().watched
        if self._quiet:  # no summary follows
            self._warn(f"halted, {reason}: {visible(message)}")
        elif jobs and reason not in _ENDS_AT_ONCE:
            self._warn(f"halted, {reason}: no more rows are submitted; {many(jobs, 'job')} in flight")

    def saved(self, records: int) -> None:
        """Copied to stdout with the next progress, if at all."""

    def noted(self, text: Text) -> None:
        self._warn(visible(worded(text)))

    def recorded(self, line: bytes) -> None:
        if self._log is not None:
            record = orjson.loads(line)
            code = record["error"] and record["error"]["code"]
            self._log.write("record", key=record["custom_id"], state=record["state"], code=code)

    # --- the run's beginning and end ---

    def opened(self, opening: Opening) -> None:
        self._opening = opening
        self._collector.freeze()
        if self._copy is not None:
            self._copy.begin(self._stdout_closed)
        batch, settings = opening.batch, opening.settings
        self._progress = ProgressBar(opening.rows, quiet=self._quiet)
        for note in batch.notes:
            self._progress.say(_laid_out(visible(worded(note))))
        open_jobs = opening.open_jobs
        for line in start_lines(
            settings,
            rows=None if opening.source is None else opening.rows,
            finished=len(batch.finished),
            open_jobs=open_jobs,
            service=opening.service,
            origin=opening.origin,
            resumed=bool(batch.state.journaled_rows or batch.finished),
            at_once=opening.ends_at_once and not open_jobs,
        ):
            self._progress.say(_laid_out(line))
        self._write(
            "start", service=opening.service, rows=opening.rows, finished=len(batch.finished), open_jobs=open_jobs
        )
        self._signals = self.handlers.enter_context(_signals())

    def _stdout_closed(self, problem: str | None) -> None:
        assert self._opening is not None
        if problem is not None:
            self._problem = problem
            self._warn(problem)
        self._opening.stop(StopMode.DRAIN, "stdout closed")

    async def obey_signals(self) -> None:
        """Stop the run at each signal, for as long as it runs."""
        assert self._signals is not None
        assert self._opening is not None
        async for number in self._signals:
            self._stop(number, self._opening)

    def _stop(self, number: signal.Signals, opening: Opening) -> None:
        first, self._signal = self._signal is None, int(number)
        if first and self._progress is not None:
            now = opening.snapshot()
            self._warn(stopping(now.submits_in_flight, opening.settings, now.in_flight))
        self._write("stop", signal=number.name)
        opening.stop(StopMode.INTERRUPT, number.name)

    def closed(self, result: Result) -> int:
        assert self._opening is not None
        names, header = self._opening.batch.names, self._opening.batch.header
        closing = RunResult(
            outcome=result.outcome,
            snapshot=result.snapshot,
            total=result.rows,
            elapsed=result.snapshot.now - (self._begun or result.snapshot.now),
            output=names.output if self._copy is None else None,
            journal=names.journal if self._copy is None or self._options.journal else None,
            arguments=list(self._arguments),
            limited=result.settings.limit is not None and self._opening.source is not None,
            signal=self._signal,
            asked=self._opening.asked,
            profile=self._opening.drafted_profile(),
            artifacts=result.settings.artifacts and os.path.abspath(result.settings.artifacts),  # noqa: PTH100 - str, as all paths here
            problem=self._problem,
            demo=self._options.demo,
            piped=self._piped,
            input_kept=header.input != "stdin" or os.path.lexists(names.spool),
            service_flags=words(flags_of(header)),
        )
        code = exit_code(closing)
        self.close()
        if not self._quiet:
            self._say(summary(closing, text_width(sys.stderr)))
        if self._options.summary:
            try:
                write_facts(self._options.summary, closing)
            except BatchFilesError as error:
                self._warn(f"--summary: {visible(str(error), 1_000)}; the run itself is not affected")
        self._write("end", outcome=result.outcome.value, exit_code=code)
        return code

    def close(self) -> None:
        if self._progress is not None:
            self._progress.close()

    def _write(self, event: Any, **fields: Any) -> None:
        if self._log is not None:
            self._log.write(event, **fields)

    def _say(self, text: str) -> None:
        with suppress(OSError, ValueError):  # stderr is closed; the records are safe
            print(text, file=sys.stderr, flush=True)

    def _warn(self, text: str) -> None:
        text = _laid_out(text)
        if self._progress is not None:
            self._progress.warn(text)
        else:
            self._say(text)
