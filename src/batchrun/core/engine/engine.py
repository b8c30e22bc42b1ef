"""The engine: ``handle(event, now)`` takes what happened and returns what to do. Nothing else decides.

It is synchronous, holds no file, no socket, no clock and no chance of its own, and can therefore be driven
by the runner, by tables of exact times, and by a simulator that crashes it at every event.

Its parts: the **desk** changes jobs and writes entries and records; the **gate** says when a submit may go;
three lanes (**submits**, **watch** for polls, **cancels**) take the answers; **attempts** decides what
follows on a job that is over; **inflow** takes rows, **requests** and **stops** what is asked from outside. Everything that waits for a time sits in an agenda, and one `Wake` asks for
the earliest; everything that ends comes back as an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from batchrun.core.engine.artifacts import Endings
from batchrun.core.engine.cancel_requests import CancelRequests
from batchrun.core.engine.cancels import Cancels
from batchrun.core.engine.invariants import check
from batchrun.core.engine.polls import Polls
from batchrun.core.engine.resumed_rows import ResumedRows
from batchrun.core.engine.retries import Retries
from batchrun.core.engine.rows_in import RowsIn
from batchrun.core.engine.shutdown import Shutdown
from batchrun.core.engine.submits import Submits
from batchrun.core.jobs.job import Row
from batchrun.core.jobs.jobs import Jobs
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.jobs.messages import (
    ArtifactsDiscarded,
    ArtifactsFailed,
    ArtifactsStored,
    CancelAnswered,
    CancelRequested,
    Event,
    Finish,
    Halt,
    InputEnded,
    Instruction,
    Outcome,
    PlaceFreed,
    PollAnswered,
    PollFailed,
    Recovered,
    RowRead,
    RowsRecalled,
    RowsTakenUp,
    StopMode,
    StopRequested,
    SubmitAccepted,
    SubmitFailed,
    SubmitRefused,
    SuspensionEnded,
    Synced,
    TimerFired,
    Wake,
    WriteFailed,
)  # fmt: skip
from batchrun.core.jobs.timers import NEVER
from batchrun.core.journal.fold import JournaledRow
from batchrun.core.limits.gate import Gate, HaltState
from batchrun.core.limits.sharing import Shared
from batchrun.core.settings.settings import Settings
from batchrun.core.status.snapshot import Snapshot
from batchrun.core.taxonomy.halts import HaltReason


class Engine:
    """One batch. With `collecting` nothing is submitted, and what is open is watched to its end.

    `epoch` added to the clock of `now` is the time of day; `chance` gives random numbers in [0, 1); `files_at` is the
    folder of artifacts as records name it, if that is not as the settings do.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        run_id: str,
        now: float,
        epoch: float,
        chance: Callable[[], float],
        collecting: bool = False,
        files_at: str | None = None,
        shared: Shared | None = None,
    ) -> None:
        self.settings = settings
        self.desk = Jobs(settings, run_id, epoch, chance)
        self.desk.now = now
        files_at = None if settings.artifacts is None else files_at or settings.artifacts
        self._endings = Endings(self.desk, files_at)
        self.gate = Gate(settings, now, chance, shared)
        self.attempts = Retries(self.desk, self._endings, self.gate)
        self.cancels = Cancels(self.desk, self._endings)
        self.watch = Polls(self.desk, self._endings, self.gate, self.attempts, self.cancels)
        self.submits = Submits(self.desk, self._endings, self.gate, self.attempts, self.watch)
        self.cancels.settle_at = self.watch.settle_at
        self._taking_up = ResumedRows(self.desk, self._endings, self.submits, self.watch, self.cancels, self.attempts)
        self.outcome: Outcome | None = None
        self.gate.closed = collecting
        self._wished: AbstractSet[str] | None = frozenset()  # of the rows that are being taken up
        self._states_before: dict[str, int] = {}
        known: set[str] = set()
        self.requests = CancelRequests(
            self.desk, self._endings, self.cancels, self.submits, known, collecting=collecting
        )
        self._inflow = RowsIn(self.desk, self._endings, self.gate, self.submits, self.requests, known)
        self._stops = Shutdown(
            self.desk,
            self._endings,
            self.gate,
            self.watch,
            self.cancels,
            self.requests,
            self._inflow,
            collecting=collecting,
        )
        self._any_watched = False  # of the rows that are being taken up
        self._told: HaltState | None = None
        self._rest_at = self._wake_at = NEVER
        self._handlers: dict[type, Callable[[Any], None]] = {
            PollAnswered: self._current(Phase.POLLING, self.watch.answered),
            PollFailed: self._current(Phase.POLLING, self.watch.failed),
            TimerFired: self._time_came,
            Synced: lambda event: self.desk.synced(event.tape, event.upto),
            SubmitAccepted: self._current(Phase.SUBMITTING, self.submits.accepted),
            SubmitRefused: self._current(Phase.SUBMITTING, self.submits.refused),
            SubmitFailed: self._current(Phase.SUBMITTING, self.submits.failed),
            CancelAnswered: self._current(Phase.CANCELLING, self.cancels.answered),
            RowRead: self._inflow.row_read,
            InputEnded: self._inflow.input_ended,
            Recovered: self._recovered,
            RowsTakenUp: self._rows_taken_up,
            RowsRecalled: lambda event: self._take_up(event.rows, None),
            CancelRequested: self.requests.asked,
            StopRequested: self._stops.requested,
            SuspensionEnded: lambda _: self.watch.spread(),
            ArtifactsStored: self._current(Phase.STORING, self._endings.stored),
            ArtifactsDiscarded: self._current(Phase.STORING, self._endings.discarded),
            ArtifactsFailed: self._current(Phase.STORING, self._store_failed),
            WriteFailed: self._write_failed,
            PlaceFreed: lambda _: None,  # whoever waits asks again
        }

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Take an event at `now`, a time that never runs backwards, and return what is to be done, in order."""
        desk = self.desk
        desk.now = now
        desk.out = []
        if self.outcome is None:
            kind = type(event)
            self._handlers[kind](event)
            if kind is not PollAnswered and kind is not TimerFired:
                desk.touched = True
            self._advance()
        return desk.out

    def _time_came(self, _: TimerFired) -> None:
        self._wake_at = NEVER  # the wish is used up, also where the timer fired a moment too early

    # --- answers; a stale one is counted and dropped ---

    def _current(self, phase: Phase, taken: Callable[[Any], None]) -> Callable[[Any], None]:
        def take(event: Any) -> None:
            job = event.job
            if job.phase is phase and job.attempt == event.attempt:
                taken(event)
            else:
                self.desk.stale += 1

        return take

    # --- what an earlier run left ---

    def _recovered(self, event: Recovered) -> None:
        desk = self.desk
        desk.accepted, desk.retries = event.accepted, event.retries
        desk.gen, desk.output_end = event.gen, event.output_end
        self._endings.left.update(event.files)
        self._inflow.known.update(event.finished)
        self._stops.taken_up = False
        self._states_before = dict(Counter(event.finished.values()))
        self._wished = event.wished
        self.gate.doubted = event.doubted
        self._any_watched = False
        self.requests.recovered(event.heard_to, cancel_all=event.cancel_all)

    def _rows_taken_up(self, event: RowsTakenUp) -> None:
        self._take_up(event.rows, self._wished)
        self._any_watched |= bool(self.desk.watched)
        if not event.more:
            self._stops.taken_up = True
            self._wished = frozenset()
            self.gate.doubted &= self._any_watched  # without a job there is nothing to find
            self.requests.taken_up()

    def _take_up(self, rows: Sequence[tuple[Row, JournaledRow]], wished: AbstractSet[str] | None) -> None:
        known = self._inflow.known
        for row, trail in rows:
            if row.key not in known:
                known.add(row.key)
                ends = wished is None or row.key in wished or trail.job_id in wished
                self._taking_up.take(row, trail, ends=ends)

    # --- what cannot be written ---

    def _write_failed(self, event: WriteFailed) -> None:
        self.gate.halt(HaltReason.WRITE_FAILED, event.message)
        self._tell_halt()
        self._finish(Outcome.WRITE_FAILED)

    def _store_failed(self, event: ArtifactsFailed) -> None:
        """The tapes are well: what is on its way is brought home as at a stop, and only then the run is over."""
        first = not self._endings.broken
        self._endings.failed(event)
        if first:
            self.gate.halt(HaltReason.WRITE_FAILED, event.message)
            self.desk.instruct(Halt(HaltReason.WRITE_FAILED.value, event.message))
            self._told = self.gate.halted
            self._stops.requested(StopRequested(StopMode.DRAIN))

    # --- going on ---

    def _advance(self) -> None:
        """Let the lanes do what may be done now, then say when to come back, or that it is over.

        Looks at jobs that go on are nearly all there is: what they cannot change is left alone until
        something is touched or its time comes.
        """
        at = self.watch.advance()
        if self.desk.touched or self.desk.now >= self._rest_at:
            self.desk.touched = False
            self._advance_the_rest()
            if self.outcome is not None:
                return
        at = min(at, self._rest_at)
        if at < self._wake_at or self._wake_at <= self.desk.now:
            self._wake_at = at
            if at < NEVER:
                self.desk.instruct(Wake(at))

    def _advance_the_rest(self) -> None:
        if self.outcome is not None:
            return
        self._stops.look()
        self.gate.shared.count(self.gate, self.desk.open_jobs)
        taken_up = self._stops.taken_up  # before, nobody knows how many jobs are in flight
        if taken_up:
            self.submits.advance()
            if self._inflow.ended or self._inflow.dry:
                self.submits.input_is_over()
        if self.gate.halted is not self._told:
            self._tell_halt()
        outcome = self._stops.outcome()
        if outcome is not None:
            self._finish(Outcome.WRITE_FAILED if self._endings.broken else outcome)
            return
        if taken_up:
            self._inflow.read_on()
        self.desk.touched = False
        submits_at = self.submits.next_time() if taken_up else None
        self._rest_at = min(NEVER if submits_at is None else submits_at, self._stops.next_time())

    def _tell_halt(self) -> None:
        halted = self._told = self.gate.halted
        if halted is not None:
            self.desk.instruct(Halt(halted.reason.value, halted.message))

    def _finish(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.desk.instruct(Finish(outcome))

    # --- looked at ---

    def snapshot(self) -> Snapshot:
        """How the batch stands now."""
        desk, gate = self.desk, self.gate
        return Snapshot(
            now=desk.now,
            states_before=self._states_before,
            states=dict(desk.states),
            codes=dict(desk.codes),
            with_warnings=desk.with_warnings,
            waiting=desk.in_phase[Phase.WAITING],
            in_flight=desk.open_jobs,
            submits_in_flight=gate.in_flight,
            submits=self.submits.answered,
            accepted=desk.accepted,
            refusals=self.submits.refusals,
            polls=self.watch.polls,
            new_attempts=desk.retries,
            stale=desk.stale,
            paused_until=gate.paused_until if gate.paused_until > desk.now else None,
            outage=gate.outage,
            halted=None if gate.halted is None else (gate.halted.reason.value, gate.halted.message),
            watched=max(0, len(desk.watched) - desk.in_phase[Phase.ENDING] - desk.in_phase[Phase.STORING]),
            trouble=gate.trouble,
            to_end=desk.latched,
            unanswered=self.watch.unanswered(),
        )

    def check_invariants(self) -> None:
        """Raise AssertionError where the books do not agree; costs a walk over all jobs."""
        check(self.desk, self._endings, self.gate, self.watch)
