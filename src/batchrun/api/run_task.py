"""The run beneath a call or a batch: one task of the loop, from opening its files to the records.

Whoever waits for it may be cancelled at any time: the first interruption stops submits and waits for the POSTs in
flight, the next leaves at once. Either way the task is over, its sockets are closed and its files are as after any
stop before the interruption is raised.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from batchrun.api.limits import Limits
from batchrun.api.location import Location, location_of
from batchrun.api.observers import Bar, Fan, Observer
from batchrun.api.reading import records_in
from batchrun.api.wording import halt_in_python, in_python, refusals_in_python
from batchrun.core.jobs.messages import Outcome, StopMode
from batchrun.core.rows.parse import BodyFlags
from batchrun.core.settings.settings import Secret, UsageError
from batchrun.core.taxonomy.rules import HALT_ADVICE, HaltReason
from batchrun.core.text.readable import Option, many, visible
from batchrun.edge.credentials import KeyFunction
from batchrun.results.records import Records
from batchrun.results.run_errors import FilesError, Halted, Interrupted
from batchrun.runner.session import Opening, Result, Task, run_session


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a call asked for. `rows` None is a batch that has none yet; with `grows` more may be given."""

    rows: Any
    out: str | os.PathLike[str] | bool | None
    given: dict[str, Any]
    variables: frozenset[str]  # those of `given` that came from the environment
    observers: Iterable[Observer]
    limits: Limits | None
    progress: bool
    demo: bool
    grows: bool
    api_key: Secret | KeyFunction | None = None


class RunTask:
    """One run. `start`, then `close`; `news` is set and replaced whenever something may have changed."""

    def __init__(self, wanted: Wanted, opened: Callable[[Opening], object]) -> None:
        self.wanted = wanted
        self.opening: Opening | None = None
        self.news = asyncio.Event()
        self.place: Location | None = None
        self._tell_opened = opened
        self._bar = Bar() if wanted.progress else None
        self._fan = Fan((), None, quiet=True)
        self._session: asyncio.Task[Result] | None = None
        self._ready = asyncio.Event()  # it is open, or was refused
        self._ended = asyncio.Event()
        self._keys: list[str] | None = None
        self._safe_at_first = 0
        self._stopped = False

    @property
    def over(self) -> bool:
        return self._session is None or self._session.done()

    @property
    def total(self) -> int:
        """Rows of the batch as far as they are known."""
        if self.opening is None:
            return 0
        source, differences = self.opening.source, self.opening.batch.differences
        return (0 if source is None else len(source)) + differences.elsewhere + len(differences.vanished)

    def safe(self) -> int:
        """Bytes of the output that are on the disk."""
        return 0 if self.opening is None else max(self._safe_at_first, self.opening.synced())

    # --- beginning ---

    async def start(self) -> None:
        """Open the files and begin; whatever must be refused is refused here, before the first request."""
        wanted = self.wanted
        with refusals_in_python(wanted.variables):
            if wanted.out is False and wanted.given.get("detach"):
                raise UsageError(
                    "expected a batch that is kept, got out=False",
                    "leave out=False away, or give out=PATH",
                    Option("detach"),
                )
            flags = BodyFlags.read(wanted.given.get("model"), wanted.given.get("set", ()))
            try:
                self.place = await location_of(wanted.rows, wanted.out, flags.to_dict(), demo=wanted.demo)
            except asyncio.CancelledError:
                raise self.interrupted() from None
        bar = self._bar
        observers = [*([] if bar is None else [bar]), *wanted.observers]
        self._fan = Fan(
            observers,
            Path(self.place.output).parent,
            quiet=bar is None,
            over=None if bar is None else bar.say,
            news=self.tell_news,
        )
        # The one task outside of a group, since it holds the run's own. A group in the caller's task would have to be
        # left in that task, and in order: not so where a batch is opened in an async generator that is left early,
        # or opened in one cell and closed in another (PEP 789 tells the whole story).
        self._session = asyncio.get_running_loop().create_task(self._run(self.place), name="batchrun")
        self._session.add_done_callback(self._over)
        interrupted = await self._wait(self._ready)
        if interrupted is not None:
            await self.close(interrupted=True)
            raise self.interrupted() from interrupted
        if self.opening is None:
            await self.close()  # raises what it was refused for

    async def _run(self, place: Location) -> Result:
        wanted = self.wanted
        async with AsyncExitStack() as stack:
            address = None
            if wanted.demo:
                from batchrun.simulator import DEMO, Simulator  # noqa: PLC0415 - only the demo needs it

                address = (await stack.enter_async_context(Simulator(DEMO))).base_url
            name = None if isinstance(place.input, str) else "the rows"
            task = Task(place.output, place.input, demo=address, name=name, grows=wanted.grows)
            given, limits = dict(wanted.given), wanted.limits
            if limits is not None and limits.concurrency is not None:
                given["concurrency"] = min(given.get("concurrency", limits.concurrency), limits.concurrency)
            sharing = None if limits is None else limits.sharing()
            with refusals_in_python(wanted.variables):
                return await run_session(
                    task, given, os.environ, self._fan, self._opened, sharing, api_key=wanted.api_key
                )

    def _opened(self, opening: Opening) -> None:
        assert self.place is not None
        self.opening = opening
        source, batch = opening.source, opening.batch
        with suppress(FileNotFoundError):
            self._safe_at_first = Path(self.place.output).stat().st_size
        if source is not None and not self.wanted.grows:
            self._keys = list(source.all_keys())
        for note in batch.notes:
            self._fan.noted(note)
        self.grew()
        if self._bar is not None:
            self._fan.say(self._opening_line(opening))
        self._tell_opened(opening)
        if self._stopped:  # as soon as the run can be stopped
            asyncio.get_running_loop().call_soon(opening.stop, StopMode.INTERRUPT, "interrupted")
        self._ready.set()

    def _over(self, _: asyncio.Task[Result]) -> None:
        self._ready.set()
        self._ended.set()
        self.tell_news()

    def _opening_line(self, opening: Opening) -> str:
        """One line on where the batch is kept and how far it is."""
        assert self.place is not None
        rows = many(self.total, "row")
        if finished := len(opening.batch.finished):
            rows += f", {finished:,} done by earlier runs"
        if opening.open_jobs:
            rows += f", {many(opening.open_jobs, 'job')} of earlier runs in flight"
        if not self.place.kept:
            return f"{rows}; nothing is kept (out=False): if this process ends, jobs in flight are billed and lost"
        return f"{rows}; kept in {visible(self.place.output, 2_000)}, the same call resumes from there"

    # --- while it runs ---

    def grew(self) -> None:
        """There are more rows, or fewer."""
        if self._bar is not None:
            self._bar.grow(self.total)

    def tell_news(self) -> None:
        """Wake whoever waits for news."""
        news, self.news = self.news, asyncio.Event()
        news.set()

    # --- its end ---

    def stop(self) -> None:
        """Stop in good order; asked again, leave at once."""
        self._stopped = True
        if self.opening is not None and not self.over:
            self.opening.stop(StopMode.INTERRUPT, "interrupted")

    async def wait(self) -> asyncio.CancelledError | None:
        """Wait for the run's end; the interruption that came meanwhile, if any."""
        return await self._wait(self._ended)

    async def _wait(self, event: asyncio.Event, *, interrupted: bool = False) -> asyncio.CancelledError | None:
        """Wait for `event`, whatever interrupts it: the first interruption stops the run in good order.

        A cancelled scope of anyio interrupts once, and a task's `cancel` each time that it is called.
        """
        error: asyncio.CancelledError | None = None
        while not event.is_set():
            try:
                with anyio.CancelScope(shield=interrupted):
                    await event.wait()
            except asyncio.CancelledError as caught:
                error, interrupted = caught, True
                self.stop()
        return error

    async def close(self, *, interrupted: bool = False) -> Records:
        """Wait for the end and give up all that was held; the records. Raises what ended the run before its time.

        `interrupted`: the caller has been, and has stopped the run.
        """
        error = await self._wait(self._ended, interrupted=interrupted)
        assert self._session is not None
        assert self.place is not None
        try:
            self._session.result()
            self.records = self._read()
        finally:
            if self._bar is not None:
                self._bar.close()
            self.place.close()
        if error is not None:
            raise self.interrupted() from None
        self.raise_if_cut_short()
        return self.records

    def raise_if_cut_short(self) -> None:
        """Raise what ended the run before its time, once it is over."""
        assert self._session is not None
        outcome = self._session.result().outcome
        if outcome is Outcome.HALTED:
            raise self.halted()
        if outcome is Outcome.WRITE_FAILED:
            problem = self._fan.problem or "the files of the batch could not be written"
            raise FilesError(f"{problem}; {in_python(HALT_ADVICE[HaltReason.WRITE_FAILED])}")

    def _read(self) -> Records:
        assert self.place is not None
        running_jobs = 0 if self.opening is None else self.opening.snapshot().watched
        return records_in(
            Path(self.place.output),
            self._keys,
            kept=self.place.kept,
            running_jobs=running_jobs if self.wanted.given.get("detach") else 0,
        )

    def interrupted(self) -> Interrupted:
        """The exception of an interruption; the run is over."""
        running_jobs = 0 if self.opening is None else self.opening.snapshot().watched
        records = self.records
        path = None if self.place is None else self.place.path
        return Interrupted(records, remaining=max(0, self.total - len(records)), running_jobs=running_jobs, path=path)

    def halted(self) -> Halted:
        """Why nothing is sent any more."""
        assert self.opening is not None
        assert self.place is not None
        snapshot = self.opening.snapshot()
        reason, message = snapshot.halted or (HaltReason.NO_ACCEPTANCE.value, "the run is over")
        advice = in_python(HALT_ADVICE[HaltReason(reason)])
        records = self._read() if Path(self.place.output).exists() else self.records
        left = max(0, self.total - len(records))
        halted = Halted(
            reason,
            halt_in_python(reason, message),
            advice,
            records,
            remaining=left,
            running_jobs=snapshot.watched,
            path=self.place.path,
        )
        if (profile := self.opening.drafted_profile()) is not None:
            halted.add_note(f"A profile for such responses, to be completed and saved as profile.toml:\n\n{profile}")
        return halted

    records = Records()
