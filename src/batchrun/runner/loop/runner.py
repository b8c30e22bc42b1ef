"""The short loop: instructions of the engine go out, events come back.

An event is handed over wherever it happens: by a worker whose exchange has ended, by a file's report, by the
one timer. `feed` takes them one at a time, in order; an event that comes while another is being handled waits
its turn, so that the engine sees one state.

All tasks of a run are in one task group: workers, heartbeat, and what the caller runs alongside. It ends before the
files are closed. What a task or a callback raises ends the run, and is raised by `run` as it is.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

import anyio
import anyio.lowlevel
from aiolimiter import AsyncLimiter
from anyio.abc import TaskGroup

from batchrun.core.engine.engine import Engine
from batchrun.core.jobs.job import CancelReason
from batchrun.core.jobs.messages import (
    Append,
    BatchFile,
    Cancel,
    CancelRequested,
    DiscardArtifacts,
    Emit,
    Event,
    Finish,
    Halt,
    InputEnded,
    Instruction,
    KeepUnreadable,
    Note,
    Outcome,
    PlaceFreed,
    Poll,
    ReadRows,
    RowRead,
    RowsRecalled,
    StopMode,
    StopRequested,
    StoreArtifacts,
    Submit,
    SuspensionEnded,
    TimerFired,
    Wake,
    WriteFailed,
)  # fmt: skip
from batchrun.core.journal.entries import Started, Stopped
from batchrun.core.limits.gate import Shared
from batchrun.core.limits.lane import Rates
from batchrun.core.settings.settings import ADAPTIVE, Settings
from batchrun.core.status.snapshot import Snapshot
from batchrun.core.taxonomy.rules import HaltReason
from batchrun.core.text.readable import Text
from batchrun.edge.artifacts import Folder
from batchrun.edge.cancel_file import CancelRequestReader
from batchrun.edge.exchange import Budget, HttpTransport
from batchrun.edge.redaction import Redactor
from batchrun.edge.source.checked import Checked
from batchrun.edge.source.opening import InputChanged
from batchrun.runner.loop.exchanges import Exchanges, Keys, Workers, submit_ceiling, task_group
from batchrun.runner.loop.files import ArtifactFiles, BatchFiles, keep_unreadable
from batchrun.runner.loop.rows import Rows, recovered, taken_up
from batchrun.runner.opening.open import OpenBatch
from batchrun.services.draft import draft_profile
from batchrun.services.service import Service

# Time as the runner sees it: a clock that counts suspension, and what happens by itself a few times a second.


ROUNDS_A_SECOND = 4
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_GAP_OF_A_SUSPENSION = 5.0


def clock() -> float:
    """Seconds on a clock that counts suspension where the system has one."""
    return time.clock_gettime(_CLOCK)


async def beat(woke: Callable[[float], Awaitable[None]], each: Callable[[int], None]) -> None:
    """Call `each(round)` in every round, and `woke(gap)` before it where the process was suspended for `gap` seconds."""
    loop = asyncio.get_running_loop()
    behind = clock() - loop.time()
    rounds = 0
    while True:
        await anyio.sleep(1 / ROUNDS_A_SECOND)
        rounds += 1
        gap = clock() - loop.time() - behind
        behind += gap
        if gap > _GAP_OF_A_SUSPENSION:
            await woke(gap)
        each(rounds)


_CANCELS_AT_ONCE = 32
_LONG = 1.0  # seconds; a million open rows take ten or more to be taken up


class RunObserver(Protocol):
    """Is called as the run proceeds; nothing that it does may raise."""

    def progressed(self, snapshot: Snapshot) -> None: ...
    def halted(self, reason: str, message: str) -> None: ...
    def recorded(self, line: bytes) -> None: ...
    def saved(self, records: int) -> None: ...  # so many records of this run are on the disk
    def noted(self, text: Text) -> None: ...


class Runner:
    """One run of a batch, from `run()` to its outcome. `stop()` and `cancel()` may be called at any time, from the loop.

    With `only_cancels` it only carries out the cancel requests of other processes.
    """

    def __init__(
        self,
        batch: OpenBatch,
        source: Checked | None,
        service: Service,
        wire: HttpTransport,
        settings: Settings,
        observer: RunObserver,
        *,
        only_cancels: bool = False,
        keys: Keys | None = None,
        ceiling: AsyncLimiter | None = None,
        shared: Shared | None = None,
        rates: Rates | None = None,
        wall: float | None = None,
        folder: Folder | None = None,
        budget: Budget | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self._batch = batch
        self._only_cancels = only_cancels
        self._source = source
        self._wire = wire
        self._settings = settings
        self._observer = observer
        now = clock()
        self._epoch = (time.time() if wall is None else wall) - now
        run_id = batch.header.run_id
        self._folder = folder
        self._budget = budget or Budget(settings.max_memory)
        self._service = service
        self._engine = Engine(
            settings,
            run_id=run_id,
            now=now,
            epoch=self._epoch,
            chance=random.random,
            collecting=source is None,
            files_at=None if folder is None else folder.shown,
            shared=shared,
            rates=rates,
            repeats_ids=service.profile.repeats_ids,
            keeps_keys=0.0 if service.profile.idempotency is None else service.profile.idempotency.keeps,
        )
        if ceiling is None and settings.rpm:
            ceiling = submit_ceiling(settings.rpm)
        self._exchanges = Exchanges(
            service,
            wire,
            source,
            settings,
            feed=self.feed,
            wall=self._wall,
            input_is_gone=self._input_is_gone,
            noted=observer.noted,
            keys=keys,
            ceiling=ceiling,
            redactor=redactor,
            run_id=run_id,
        )
        self._repeats_ids = service.profile.repeats_ids
        estimated = settings.tpm is not None or settings.rate == ADAPTIVE
        self._rows = Rows(source, batch.unread, tokens=estimated, repeats_ids=self._repeats_ids)
        state = batch.state
        self._requests = CancelRequestReader(
            batch.names, run_id, state.heard_to, everything=state.cancel_all, noted=observer.noted
        )  # fmt: skip
        self._events: deque[Event] = deque()
        self._feeding = False
        self._timer: asyncio.TimerHandle | None = None
        self._files: BatchFiles | None = None
        self._over = asyncio.Event()  # there is an outcome or an error
        self._outcome: Outcome | None = None
        self._error: BaseException | None = None
        self._input_error: InputChanged | None = None
        self._taken_up = False  # what an earlier run left
        self._stop_reason = ""
        self._stops = 0
        self._carriers: dict[type, Callable[..., object]] = {}

    async def run(self, alongside: Callable[[], Coroutine[Any, Any, None]] | None = None) -> Outcome:
        """Run the batch to its outcome. Raises what should never happen; the files are then as after a crash.

        `alongside` is called in the run's task group and cancelled at its end. Raises InputChanged where the input is no
        longer what was checked; everything else is then as after a stop.
        """
        self._loop = asyncio.get_running_loop()
        gate = self._engine.gate
        gate.shared.join(gate, lambda: self._loop.call_soon(self._take_turn))
        journal, output = self._batch.open_tapes()
        files = self._files = BatchFiles(journal, output, self._loop, self.feed, self._observer.saved)
        artifacts = None if self._folder is None else ArtifactFiles(self._folder, self.feed, self._loop)
        files.note(Started(os.getpid(), self._wall(), None if self._source is None else len(self._source)))
        try:
            async with task_group() as group:
                self._carriers = self._carriers_in(group, files, artifacts)
                group.start_soon(beat, self._woke, self._each_round)
                if alongside is not None:
                    group.start_soon(alongside)
                await self._begin(output.size)
                await self._over.wait()
                group.cancel_scope.cancel()
            if self._error is not None:
                raise self._error
            if self._outcome is None:
                raise RuntimeError("a task of the run was cancelled from outside the run")
        finally:
            gate.shared.leave(gate)
            if self._timer is not None:
                self._timer.cancel()
            self._feeding = True  # what the last syncs report is no longer of interest
            if artifacts is not None:
                artifacts.close()
            self._close(files)
            with anyio.CancelScope(shield=True):
                await self._wire.aclose()
            self._observer.progressed(self.snapshot())
        if self._input_error is not None:
            raise self._input_error
        if files.failure is None or self._outcome is Outcome.WRITE_FAILED:
            return self._outcome
        # The last lines did not reach their file; the engine has ended and cannot say so.
        self._observer.halted(HaltReason.WRITE_FAILED.value, str(files.failure))
        return Outcome.WRITE_FAILED

    def _carriers_in(
        self, group: TaskGroup, files: BatchFiles, artifacts: ArtifactFiles | None
    ) -> dict[type, Callable[..., object]]:
        """What carries out each kind of instruction."""
        batch, exchanges, settings = self._batch, self._exchanges, self._settings
        submits: Workers[Submit] = Workers(group, exchanges.submit, settings.submits)
        polls: Workers[Poll] = Workers(group, exchanges.poll, settings.connections)
        cancels: Workers[Cancel] = Workers(group, exchanges.cancel, _CANCELS_AT_ONCE)
        for serve in (submits.serve, polls.serve, cancels.serve):
            group.start_soon(serve)
        carriers: dict[type, Callable[..., object]] = {
            Poll: polls.put,
            Submit: submits.put,
            Cancel: cancels.put,
            Append: files.append,
            Emit: self._emit,
            Wake: self._wake,
            ReadRows: lambda order: self._loop.call_soon(self._read, order.rows),
            Halt: lambda order: self._observer.halted(order.reason, order.message),
            Note: lambda order: self._observer.noted(order.text),
            KeepUnreadable: lambda order: keep_unreadable(batch.names.unreadable, order.key, order.body),
            Finish: self._finish,
        }
        if artifacts is not None:
            carriers |= {StoreArtifacts: artifacts.store, DiscardArtifacts: artifacts.discard}
        return carriers

    def _close(self, files: BatchFiles) -> None:
        """Note how the run ended, sync what there is, and give the files back."""
        files.check_sizes()
        if files.failure is None:
            halted = self.snapshot().halted
            message = None if halted is None else f"{halted[0]}: {halted[1]}"
            outcome = Outcome.WRITE_FAILED if self._outcome is None else self._outcome
            done = "cancelled" if self._only_cancels else "collected" if self._source is None else outcome.value
            files.note(Stopped(self._stop_reason or done, self._wall(), message))
        files.close()

    def _take_turn(self) -> None:
        gate = self._engine.gate
        self.feed(PlaceFreed())
        gate.shared.passed(gate)

    def stop(self, mode: StopMode, reason: str) -> None:
        """Stop as `mode` says; asked again, leave at once."""
        self._stops += mode is not StopMode.DETACH
        self._stop_reason = reason
        self.feed(StopRequested(StopMode.NOW if self._stops > 1 else mode))

    def cancel(self, keys: frozenset[str] | None) -> None:
        """End these rows; None means all, those not yet read included. Journaled when this returns, synced soon."""
        unread = frozenset(filter(self._rows.are_to_come, keys or ()))
        self.feed(CancelRequested(keys, CancelReason.USER, unread))

    def synced_output(self) -> int:
        """Bytes of the output that are safely on the disk."""
        return 0 if self._files is None else self._files.output_safe

    def snapshot(self) -> Snapshot:
        """The counts of the run now."""
        return self._engine.snapshot()

    def drafted_profile(self) -> str | None:
        """The profile that would read the response of no known shape that halted the run, if one did."""
        halted = self._engine.gate.halted
        return None if halted is None or halted.shape is None else draft_profile(self._service, halted.shape)

    def feed(self, event: Event) -> None:
        """Hand an event to the engine and carry out what it asks for."""
        self._events.append(event)
        if self._feeding:
            return
        self._feeding = True
        try:
            while self._events:
                self._carry_out(self._engine.handle(self._events.popleft(), clock()))
                if self._budget.handed_over != self._engine.jobs.unsynced_records:
                    self._budget.set_handed_over(self._engine.jobs.unsynced_records)
        except BaseException as error:
            if not self._over.is_set():
                self._error = error
                self._over.set()
            raise
        finally:
            self._feeding = False

    # --- instructions ---

    def _carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            self._carriers[type(instruction)](instruction)

    def _emit(self, order: Emit) -> None:
        assert self._files is not None
        self._files.emit(order)
        self._observer.recorded(order.line)

    def _wake(self, order: Wake) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.0, order.at - clock()), self.feed, TimerFired())

    def _finish(self, order: Finish) -> None:
        self._outcome = order.outcome
        self._over.set()

    # --- rows ---

    async def _begin(self, output_end: int) -> None:
        """Take up what an earlier run left; what is due meanwhile is not kept waiting."""
        requests = self._requests.new(self._rows.are_to_come)
        begun = clock()
        kind = {"only_cancels": self._only_cancels, "repeats_ids": self._repeats_ids}
        parts = taken_up(self._batch, self._source, self._requests, self._settings, **kind)
        try:
            self.feed(recovered(self._batch, self._source, self._requests, output_end=output_end, **kind))
            for part in parts:
                self.feed(part)
                if part.more:
                    await anyio.lowlevel.checkpoint()
                if self._over.is_set():
                    return
        except InputChanged as error:
            self._input_is_gone(error)
            return
        self._taken_up = True
        if (took := clock() - begun) > _LONG:  # polls that became due meanwhile are not all sent at once
            self.feed(SuspensionEnded(took))
        for request in requests:
            self.feed(request)
        if self._settings.detach:
            self.feed(StopRequested(StopMode.DETACH))

    def _read(self, rows: int) -> None:
        self._rows.ask(rows)
        self.read_on()

    def read_on(self) -> None:
        """Give the engine the rows that it asked for and that are there; one that takes more may have got some."""
        try:
            for row in self._rows.at_hand():
                self.feed(RowRead(row))
        except InputChanged as error:
            self._input_is_gone(error)
        else:
            if self._rows.owed:
                self.feed(InputEnded(for_now=self._rows.may_grow))

    def _input_is_gone(self, error: InputChanged) -> None:
        """The input is not what was checked: stop in good order; what is open stays open."""
        self._input_error = self._input_error or error
        self.feed(StopRequested(StopMode.DRAIN))

    def _wall(self) -> float:
        return self._epoch + clock()

    # --- what happens by itself ---

    async def _woke(self, gap: float) -> None:
        await self._wire.drop_idle()
        self.feed(SuspensionEnded(gap))

    def _each_round(self, rounds: int) -> None:
        self._read_requests()
        if rounds % ROUNDS_A_SECOND == 0:
            if self._batch.lock.is_lost():
                message = f"{self._batch.names.lock} was removed or replaced during the run"
                self.feed(WriteFailed(BatchFile.OUTPUT, message))
            elif self._files is not None:
                self._files.check_sizes()
        self._observer.progressed(self.snapshot())

    def _read_requests(self) -> None:
        """Hand over the cancel requests of other processes."""
        if not self._taken_up:
            return  # which rows are taken up depends on the requests read before
        requests = self._requests.new(self._rows.are_to_come)
        if requests and self._only_cancels:
            self.feed(RowsRecalled(list(self._batch.open_rows(None, self._requests.concerns))))
        for request in requests:
            self.feed(request)
