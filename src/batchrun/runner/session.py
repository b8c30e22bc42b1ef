"""One run from settings to its end: which service, which rows, which files, and then the loop.

The command and the API share it; each shows its progress in its own way.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import anyio.to_thread
from aiolimiter import AsyncLimiter

from batchrun.core.jobs.messages import Outcome, StopMode
from batchrun.core.journal.entries import Header
from batchrun.core.limits.gate import Shared
from batchrun.core.limits.lane import Rates
from batchrun.core.rows.parse import BodyFlags, input_tokens, result_tokens
from batchrun.core.settings.settings import Secret, Settings, UsageError
from batchrun.core.status.snapshot import Snapshot
from batchrun.core.text.readable import Option, Part, Text, parts
from batchrun.edge.append_file import FileNames, expect_folder, expect_regular, refuse_shared
from batchrun.edge.artifacts import Folder, open_folder
from batchrun.edge.credentials import KeySource
from batchrun.edge.exchange import Budget
from batchrun.edge.redaction import Redactor
from batchrun.edge.source import Checked, Growing, InputRefused, check
from batchrun.runner.loop.files import find_files
from batchrun.runner.loop.runner import Runner, RunObserver
from batchrun.runner.opening.open import Identity, OpenBatch, open_batch, read_header
from batchrun.runner.opening.read import lines_of, size_of
from batchrun.runner.opening.rewrite import rewrite_as_wanted
from batchrun.runner.opening.service import KeyRenewal, service_of, transport_to, within_the_file_limit
from batchrun.services.of_batch import DEMO, address_of
from batchrun.services.service import Service


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be run. Without `input` what is open is collected, or, with `only_cancels`, ended where another process
    asked for that; `demo` is the address of the demo service."""

    output: str
    input: str | int | None
    journal: str | None = None
    demo: str | None = None
    takes_up: bool = False  # the service is the one that the journal names, where no setting names one
    only_cancels: bool = False
    beside: str | None = None  # the folder from which records name their files; None: that of the output
    name: str | None = None  # of an input without a path
    grows: bool = False  # rows may be given while it runs


@dataclass(frozen=True, slots=True)
class Sharing:
    """Limits that several runs have together: what the engines ask, and the ceiling right before a POST."""

    shared: Shared
    ceiling: AsyncLimiter | None


@dataclass(frozen=True, slots=True)
class Opening:
    """A run whose files are open and that has sent nothing yet: what is known of it, and what it can be asked for."""

    service: str
    origin: str
    account: str
    rows: int | None
    batch: OpenBatch
    source: Checked | None
    settings: Settings
    ends_at_once: bool  # every row ends at its submit, so that nothing is polled
    open_jobs: int  # of earlier runs
    runner: Runner = field(repr=False)

    @property
    def asked(self) -> str:
        """Whom this run asks: what decides which jobs it can see, the API key aside."""
        return f"{self.origin}, {self.account or 'no organisation and no project'}"

    def snapshot(self) -> Snapshot:
        """The counts of the run now."""
        return self.runner.snapshot()

    def drafted_profile(self) -> str | None:
        """The profile that would read the response of no known shape that halted the run, if one did."""
        return self.runner.drafted_profile()

    def synced(self) -> int:
        """Bytes of the output that are on the disk."""
        return self.runner.synced_output()

    def stop(self, mode: StopMode, reason: str) -> None:
        """Stop as `mode` says; asked again, leave at once."""
        self.runner.stop(mode, reason)

    def cancel(self, keys: frozenset[str] | None) -> None:
        """End these rows; None means all."""
        self.runner.cancel(keys)

    def read_on(self) -> None:
        """Look whether the input has more rows, or has ended."""
        self.runner.read_on()


@dataclass(frozen=True, slots=True)
class Result:
    """How it ended."""

    outcome: Outcome
    snapshot: Snapshot
    settings: Settings
    rows: int | None


async def run_session(
    task: Task,
    given: Mapping[str, Any],
    environment: Mapping[str, str],
    observer: RunObserver,
    opened: Callable[[Opening], None],
    sharing: Sharing | None = None,
    alongside: Callable[[], Coroutine[Any, Any, None]] | None = None,
    *,
    api_key: Secret | KeySource | None = None,
) -> Result:
    """Run `task` with the settings `given`.

    `opened` is called when the files are open and nothing was sent yet; `sharing` are limits that hold for other runs
    of this process as well; `alongside` is called in the run's task group then and cancelled at its end; `api_key` is one that the program gives. Raises Misuse, SettingsError and
    InputError (exit 2), FilesError and SpoolFailed (exit 4).
    """
    settings = Settings.of(given)
    if settings.detach and "concurrency" in given:
        raise UsageError(
            ("expected none with ", Option("detach"), ", which puts every row in flight"),
            ("leave it out, or send a part of the rows now with ", Option("limit", "N")),
            Option("concurrency", str(settings.concurrency)),
        )
    if settings.detach and task.input is None:
        if not task.only_cancels:
            raise UsageError(
                "expected a run with an input to send",
                "to collect what was sent, leave it out (BATCHRUN_DETACH too)",
                Option("detach"),
            )
        settings = replace(settings, detach=False)
    names = FileNames.of(task.output, task.journal)
    header = read_header(names) if task.takes_up else None
    service, keys = await service_of(settings, environment, task.demo, header, api_key)
    given = with_timeouts_of(service, given)
    settings = replace(settings, **{name: given[name] for name in service.profile.timeouts})
    redactor = Redactor(service.secrets)
    for path in (task.output, names.journal):
        expect_folder(path)
        expect_regular(path)  # before the lock, whose file would be left next to a folder
    refuse_shared(names, task.input)
    flags = BodyFlags.read(settings.model, settings.set)
    source, ends_at_once = None, False
    try:
        if task.input is not None:
            checking = partial(
                check, task.input, flags, spool=names.spool, max_row=settings.max_row, endpoints=service.profile.endpoints,
                name=task.name, more=_submitted_before(names, settings, grows=task.grows),
            )  # fmt: skip
            source = await anyio.to_thread.run_sync(checking)
            if isinstance(source, Growing):
                source.ended = not task.grows
            _refuse_problems(source, settings, "line" if task.name is None else "row")
            background = {one.path for one in service.profile.endpoints if one.background or one.queues}
            ends_at_once = _ends_at_once(source, background)
            settings = Settings.of(given, at_once=ends_at_once)
        settings = within_the_file_limit(settings)
        identity = _identity(task, service, flags)
        batch = await anyio.to_thread.run_sync(partial(open_batch, names, source, identity, settings, wall=time.time()))
        try:
            folder = await anyio.to_thread.run_sync(_folder, task, names, settings)
            await anyio.to_thread.run_sync(rewrite_as_wanted, batch, source, settings)
            if folder is not None:
                await anyio.to_thread.run_sync(find_files, batch, folder)
            if source is not None:
                source.keep()
            budget = Budget(settings.max_memory)
            transport = transport_to(service.origin, settings, environment, redactor, budget)
            runner = Runner(
                batch,
                source,
                service,
                transport,
                settings,
                observer,
                only_cancels=task.only_cancels,
                keys=None if keys is None else KeyRenewal(keys, redactor, observer.noted),
                folder=folder,
                budget=budget,
                redactor=redactor,
                ceiling=None if sharing is None else sharing.ceiling,
                shared=None if sharing is None else sharing.shared,
                rates=_rates_of(service),
            )
            absent = batch.differences.elsewhere + len(batch.vanished)
            rows = batch.state.rows if source is None else len(source) + absent
            if source is not None and len(batch.finished) < len(source):
                batch.notes += _odd_fields(source, named=task.name is None)
                batch.notes += _oversized(source, settings, named=task.name is None)
            opened(
                Opening(
                    *_shown(task, service),
                    account=identity.account,
                    rows=rows,
                    batch=batch,
                    source=source,
                    settings=settings,
                    ends_at_once=ends_at_once,
                    open_jobs=batch.recovery.open_jobs,
                    runner=runner,
                )
            )
            outcome = await runner.run(alongside)
            snapshot = runner.snapshot()
            if outcome is Outcome.COMPLETE and not task.only_cancels and (rows is None or snapshot.done < rows):
                outcome = Outcome.PARTIAL  # beyond --limit, or never sent and nothing to send them from
            return Result(outcome, snapshot, settings, rows)
        finally:
            batch.close()
    finally:
        if source is not None:
            source.close()


_learned: WeakValueDictionary[tuple[object, ...], Rates] = WeakValueDictionary()


def _rates_of(service: Service) -> Rates:
    """What the batches that run in this loop now learn of the service together, as far as they have one API key."""
    identity = tuple(sorted(service.identity().items()))
    which = (id(asyncio.get_running_loop()), identity, service.key_fingerprint(b"rates"))
    rates = _learned.get(which)
    if rates is None:
        rates = _learned[which] = Rates()
    return rates


def with_timeouts_of(service: Service, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings `given`, and beneath them the timeouts of the service's profile."""
    return {**service.profile.timeouts, **given}


def _folder(task: Task, names: FileNames, settings: Settings) -> Folder | None:
    """The folder for results that are files, if one was asked for. Raises FileRefused."""
    if settings.artifacts is None:
        return None
    assert names.output is not None
    return open_folder(settings.artifacts, task.beside or os.path.dirname(names.output), names.all())  # noqa: PTH120 - paths are str in the edge


def _submitted_before(names: FileNames, settings: Settings, *, grows: bool) -> Iterable[bytes] | None:
    """The rows that earlier runs were given while they ran, which belong to the batch, whichever run resumes it.

    One that a crash cut off was never taken. None where there are none, and none can come.
    """
    if settings.fresh or not size_of(names.submitted):
        return () if grows else None
    return (line for line in lines_of(names.submitted) if line.endswith(b"\n"))


def _ends_at_once(source: Checked, background: Collection[str]) -> bool:
    """Whether every row that is known ends at its submit."""
    shares = source.report.shares
    return not any(path in background for path, _ in shares) and bool(shares or not isinstance(source, Growing))


def _bad(bad: int, rows: int) -> str:
    """``1 of 3 rows is bad``, ``the only row is bad``."""
    return "the only row is bad" if rows == 1 else f"{bad:,} of {rows:,} rows {'is' if bad == 1 else 'are'} bad"


def _refuse_problems(source: Checked, settings: Settings, unit: str) -> None:
    problems = source.report.problems
    if problems.total and not settings.skip_bad:
        shown: list[Part] = []
        for one in problems.first:
            shown += (f"\n  {unit} {one.line:,}: {one.code}: ", *parts(one.message))
        if problems.total > len(problems.first):
            shown.append(f"\n  and {problems.total - len(problems.first):,} more")
        them = "it" if problems.total == 1 else "them"
        others = () if len(source) == 1 else (", or run the others with ", Option("skip_bad"))
        raise InputRefused(
            f"{_bad(problems.total, len(source))} and nothing was sent",
            (*shown, f"\nfix {them}", *others),
            source.name,
        )


_SENT_AS_IT_IS = ("unknown_body_field", "odd_prompt")
_NOTED = 3


def _odd_fields(source: Checked, *, named: bool) -> list[Text]:
    """The warnings of the check that nobody else tells in a run: of fields that the service may refuse or ignore."""
    warnings = source.report.warnings
    found = [one for one in warnings.first if one.code in _SENT_AS_IT_IS]
    where = f"{source.name}:" if named else "row "
    notes: list[Text] = [("warning: ", f"{where}{one.line}: ", *parts(one.message)) for one in found[:_NOTED]]
    if (more := sum(warnings.by_code.get(code, 0) for code in _SENT_AS_IT_IS) - len(notes)) > 0:
        notes.append(f"warning: {more:,} more like these" + ("; batchrun check lists them" if named else ""))
    return notes


def _oversized(source: Checked, settings: Settings, *, named: bool) -> list[Text]:
    """That the largest row alone takes more tokens than --tpm allows in a minute, where it does."""
    report = source.report
    tokens = input_tokens(report.largest) + result_tokens(0)
    if settings.tpm is None or tokens <= settings.tpm:
        return []
    where = f"{source.name}:{report.largest_line}" if named else f"row {report.largest_line}"
    text = f"{where} takes about {tokens:,} tokens, more than a minute of "
    return [("warning: ", text, Option("tpm", f"{settings.tpm:g}"), ": rows like it go alone, after the others")]


def _identity(task: Task, service: Service, flags: BodyFlags) -> Identity:
    identity = service.identity()
    account = " ".join(f"{name} {identity[name]}" for name in ("organisation", "project") if identity.get(name))
    if task.demo is not None:
        return Identity(DEMO, DEMO, "", flags.to_dict(), lambda _: None)
    return Identity(service.name, address_of(service), account, flags.to_dict(), service.key_fingerprint)


def _shown(task: Task, service: Service) -> tuple[str, str]:
    """Service and address as they are shown."""
    return ("the demo service", "127.0.0.1") if task.demo is not None else (service.name, str(service.base))


@dataclass(frozen=True, slots=True)
class Start:
    """What a batch was started with: its input, the settings that enter its bodies, and the service."""

    input: str
    settings: dict[str, Any]
    header: Header

    @property
    def is_demo(self) -> bool:
        return self.header.service == DEMO


def start_of(output: str, journal: str | None = None) -> Start:
    """What the batch at `output` was started with."""
    names = FileNames.of(output, journal)
    if names.output is not None:
        expect_regular(names.output)
    header = read_header(names)
    if header is None:
        raise UsageError(f"{names.journal}: there is no batch to resume here; run one with batchrun INPUT -o {output}")
    given: dict[str, Any] = {}
    if header.body_flags.get("model"):
        given["model"] = header.body_flags["model"]
    if header.body_flags.get("set"):
        given["set"] = tuple(f"{name}={value}" for name, value in header.body_flags["set"].items())
    if header.artifacts is not None:
        folder = os.path.dirname(names.output or names.journal)  # noqa: PTH120 - paths are str in the edge
        given["artifacts"] = os.path.relpath(os.path.join(folder, header.artifacts))  # noqa: PTH118 - as above
    spooled = os.path.exists(names.spool)  # noqa: PTH110 - paths are str in the edge
    return Start(names.spool if spooled else header.input, given, header)
