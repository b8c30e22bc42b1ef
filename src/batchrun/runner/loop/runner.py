"""The short loop: instructions of the engine go out, events come back.

An event is handed over wherever it happens: by a worker whose exchange has ended, by a tape's report, by the
one timer. `feed` takes them one at a time, in order; an event that comes while another is being handled waits
its turn, so that the engine sees one world.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import deque
from collections.abc import Callable

from aiolimiter import AsyncLimiter

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
from batchrun.core.limits.sharing import Shared
from batchrun.core.settings.settings import Settings
from batchrun.core.taxonomy.halts import HaltReason
from batchrun.edge.artifacts import Folder
from batchrun.edge.exchange import HttpTransport
from batchrun.edge.exchange.budget import Budget
from batchrun.edge.source.checked import Checked
from batchrun.edge.source.refusals import InputChanged
from batchrun.edge.unreadable import keep_unreadable
from batchrun.runner.loop.artifacts import ArtifactFiles
from batchrun.runner.loop.beginning import recovered, taken_up
from batchrun.runner.loop.cancel_requests import CancelRequestReader
from batchrun.runner.loop.exchanges import Exchanges, Keys, submit_ceiling
from batchrun.runner.loop.files import BatchFiles
from batchrun.runner.loop.heartbeat import ROUNDS_A_SECOND, Heartbeat, clock
from batchrun.runner.loop.rows import Rows
from batchrun.runner.loop.workers import Workers
from batchrun.runner.observer import RunObserver
from batchrun.runner.opening.open import OpenBatch
from batchrun.services.service import Service

_CANCELS_AT_ONCE = 32
_LONG = 1.0  # seconds; a million open rows take ten or more to be taken up


class Runner:
    """One run of a batch, from `run()` to its outcome. `stop()` and `cancel()` may be called at any time, from the loop.

    With `only_wished` nothing is done but to end the rows that other processes want ended.
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
        only_wished: bool = False,
        keys: Keys | None = None,
        ceiling: AsyncLimiter | None = None,
        shared: Shared | None = None,
        wall: float | None = None,
        folder: Folder | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._batch = batch
        self._only_wished = only_wished
        self._source = source
        self._wire = wire
        self._settings = settings
        self._observer = observer
        now = clock()
        self._epoch = (time.time() if wall is None else wall) - now
        run_id = batch.header.run_id
        self._folder = folder
        self._budget = budget or Budget(settings.max_memory)
        self._files: ArtifactFiles | None = None
        self.engine = Engine(
            settings,
            run_id=run_id,
            now=now,
            epoch=self._epoch,
            chance=random.random,
            collecting=source is None,
            files_at=None if folder is None else folder.shown,
            shared=shared,
        )
        if ceiling is None and settings.rpm:
            ceiling = submit_ceiling(settings.rpm)
        exchanges = Exchanges(
            service,
            wire,
            source,
            settings,
            feed=self.feed,
            wall=self._wall,
            input_is_gone=self._input_is_gone,
            keys=keys,
            ceiling=ceiling,
        )
        self._submits: Workers[Submit] = Workers(exchanges.submit, settings.submits, self._broke)
        self._polls: Workers[Poll] = Workers(exchanges.poll, settings.connections, self._broke)
        self._cancels: Workers[Cancel] = Workers(exchanges.cancel, _CANCELS_AT_ONCE, self._broke)
        self._rows = Rows(source, batch.unread, tokens=settings.tpm is not None)
        state = batch.state
        self._hearing = CancelRequestReader(
            batch.names, run_id, state.heard_to, everything=state.cancel_all, noted=observer.noted
        )  # fmt: skip
        self.reported: Callable[[int], object] = _nobody  # is told how many records of this run are on the disk
        self._events: deque[Event] = deque()
        self._feeding = False
        self._timer: asyncio.TimerHandle | None = None
        self._tapes: BatchFiles | None = None
        self._ended: asyncio.Future[Outcome] | None = None
        self._input_error: InputChanged | None = None
        self._taken_up = False  # what an earlier run left is in hand
        self._stop_reason = ""
        self._stops = 0
        self._carriers: dict[type, Callable[..., object]] = {
            Poll: self._polls.put,
            Submit: self._submits.put,
            Cancel: self._cancels.put,
            Emit: self._emit,
            Wake: self._wake,
            ReadRows: lambda order: self._loop.call_soon(self._read, order.rows),
            Halt: lambda order: observer.halted(order.reason, order.message),
            KeepUnreadable: lambda order: keep_unreadable(batch.names.unreadable, order.key, order.body),
            Finish: self._finish,
        }

    async def run(self) -> Outcome:
        """Run the batch to its outcome. Raises what should never happen; the files then stand as after a crash.

        Raises InputChanged where the input is no longer what was checked; everything else is then as after a stop.
        """
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        shared = self.engine.gate.shared
        shared.join(self.engine.gate, lambda: self._loop.call_soon(self._take_turn))
        journal, output = self._batch.open_tapes()
        tapes = self._tapes = BatchFiles(journal, output, self._loop, self.feed, self.reported)
        self._carriers[Append] = tapes.append
        if self._folder is not None:
            self._files = ArtifactFiles(self._folder, self.feed, self._loop)
            self._carriers |= {StoreArtifacts: self._files.store, DiscardArtifacts: self._files.discard}
        tapes.note(Started(os.getpid(), self._wall(), None if self._source is None else len(self._source)))
        pulse = Heartbeat(self._woke, self._each_round, self._broke)
        outcome = Outcome.WRITE_FAILED
        try:
            await self._begin(output.size)
            outcome = await self._ended
        finally:
            pulse.stop()
            shared.leave(self.engine.gate)
            if self._timer is not None:
                self._timer.cancel()
            await asyncio.gather(self._submits.close(), self._polls.close(), self._cancels.close())
            self._feeding = True  # what the last syncs report concerns nobody any more
            if self._files is not None:
                self._files.close()
            tapes.look()
            if tapes.failure is None:
                halted = self.engine.snapshot().halted
                told = None if halted is None else f"{halted[0]}: {halted[1]}"
                done = "cancelled" if self._only_wished else "collected" if self._source is None else outcome.value
                how = self._stop_reason or done
                tapes.note(Stopped(how, self._wall(), told))
            tapes.close()
            await self._wire.aclose()
            self._observer.progressed(self.engine.snapshot())
        if self._input_error is not None:
            raise self._input_error
        if tapes.failure is None or outcome is Outcome.WRITE_FAILED:
            return outcome
        # The last lines did not reach their file: nothing is left to be told by then but this.
        self._observer.halted(HaltReason.WRITE_FAILED.value, str(tapes.failure))
        return Outcome.WRITE_FAILED

    def _take_turn(self) -> None:
        gate = self.engine.gate
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
        return 0 if self._tapes is None else self._tapes.output_safe

    def feed(self, event: Event) -> None:
        """Hand an event to the engine and carry out what it asks for."""
        self._events.append(event)
        if self._feeding:
            return
        self._feeding = True
        try:
            while self._events:
                self._carry_out(self.engine.handle(self._events.popleft(), clock()))
                if self._budget.handed_over != self.engine.jobs.unsynced_records:
                    self._budget.set_handed_over(self.engine.jobs.unsynced_records)
        except BaseException as error:
            self._broke(error)
            raise
        finally:
            self._feeding = False

    # --- instructions ---

    def _carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            self._carriers[type(instruction)](instruction)

    def _emit(self, order: Emit) -> None:
        assert self._tapes is not None
        self._tapes.emit(order)
        self._observer.recorded(order.line)

    def _wake(self, order: Wake) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.0, order.at - clock()), self.feed, TimerFired())

    def _finish(self, order: Finish) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(order.outcome)

    def _broke(self, error: BaseException) -> None:
        """Something that should never happen did: end the run as a crash would, and say what it was."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)

    # --- rows ---

    async def _begin(self, output_end: int) -> None:
        """Take up what an earlier run left; what is due meanwhile is not kept waiting."""
        assert self._ended is not None
        wishes = self._hearing.new(self._rows.are_to_come)
        begun = clock()
        self.feed(recovered(self._batch, self._hearing, output_end=output_end))
        parts = taken_up(self._batch, self._source, self._hearing, self._settings, only_wished=self._only_wished)
        try:
            for part in parts:
                self.feed(part)
                if part.more:
                    await asyncio.sleep(0)
                if self._ended.done():
                    return
        except InputChanged as error:
            self._input_is_gone(error)
            return
        self._taken_up = True
        if (took := clock() - begun) > _LONG:  # looks that fell due meanwhile do not come all at once
            self.feed(SuspensionEnded(took))
        for wish in wishes:
            self.feed(wish)
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
        self._hear()
        if rounds % ROUNDS_A_SECOND == 0:
            if self._batch.lock.is_lost():
                told = f"{self._batch.names.lock} was removed or replaced while the run went on"
                self.feed(WriteFailed(BatchFile.OUTPUT, told))
            elif self._tapes is not None:
                self._tapes.look()
        self._observer.progressed(self.engine.snapshot())

    def _hear(self) -> None:
        """Take up what other processes wish."""
        if not self._taken_up:
            return  # which rows are taken up depends on what was heard before
        wishes = self._hearing.new(self._rows.are_to_come)
        if wishes and self._only_wished:
            self.feed(RowsRecalled(list(self._batch.open_rows(None, self._hearing.concerns))))
        for wish in wishes:
            self.feed(wish)


def _nobody(_: int) -> None:
    """Nobody asked to be told."""
