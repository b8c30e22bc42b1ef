"""The engine: ``handle(event, now)`` takes what happened and returns what to do. Nothing else decides.

It is synchronous and has no file, no socket, no clock and no randomness of its own, and can therefore be driven by
the runner, by tables of exact times, and by a simulator that crashes it at every event.

Its parts, each of which knows only those before it:

- ``Jobs`` (core/jobs) changes jobs and writes entries and records; ``Gate`` (core/limits) says when a submit may go
- ``Endings`` (artifacts.py) ends a job: its files, then its record
- ``Retries`` decides whether an ended job is retried
- ``Polls`` has the jobs with an id: polls, cancels, deadlines
- ``Submits`` has the rows that wait for their turn, and the POSTs
- ``RowsIn`` makes jobs of rows: those of an earlier run, then those of the input
- ``CancelRequests`` carries out what users ask to end; ``Shutdown`` knows when the run is over

A part sets no field of another: it calls a method that says what happened. Everything that waits for a time waits in
``Timers``, and one `Wake` asks for the earliest; everything that ends comes back as an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from batchrun.core.engine.artifacts import Endings
from batchrun.core.engine.cancel_requests import CancelRequests
from batchrun.core.engine.polls import Polls
from batchrun.core.engine.retries import Retries
from batchrun.core.engine.rows_in import RowsIn
from batchrun.core.engine.shutdown import Shutdown
from batchrun.core.engine.submits import Submits
from batchrun.core.jobs import messages as m
from batchrun.core.jobs.jobs import Jobs
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.jobs.timers import NEVER
from batchrun.core.limits.gate import Gate, HaltState
from batchrun.core.limits.sharing import Shared
from batchrun.core.settings.settings import Settings
from batchrun.core.status.snapshot import Snapshot
from batchrun.core.taxonomy.halts import HaltReason


class Engine:
    """One batch. With `collecting` nothing is submitted, and open jobs are polled until they are over.

    `epoch` added to the clock of `now` is the time of day; `chance` gives random numbers in [0, 1); `files_at` is the
    folder of artifacts as records name it, where that is not the setting.
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
        folder = None if settings.artifacts is None else files_at or settings.artifacts
        self.settings = settings
        self.jobs = jobs = Jobs(settings, run_id, now, epoch, chance)
        self.gate = gate = Gate(settings, now, chance, shared)
        self.endings = endings = Endings(jobs, folder)
        self.retries = retries = Retries(jobs, endings, gate)
        self.polls = polls = Polls(jobs, endings, gate, retries)
        self.submits = submits = Submits(jobs, endings, gate, retries, polls)
        self.rows_in = rows_in = RowsIn(jobs, endings, gate, retries, polls, submits, collecting=collecting)
        self.requests = requests = CancelRequests(jobs, endings, polls, submits, rows_in, collecting=collecting)
        self._shutdown = Shutdown(jobs, endings, gate, polls, rows_in, requests, collecting=collecting)
        if collecting:
            gate.close()
        self.outcome: m.Outcome | None = None
        self._states_before: dict[str, int] = {}
        self._stale = 0
        self._reported_halt: HaltState | None = None
        self._next_advance = self._wake_at = NEVER
        self._handlers: dict[type, Callable[[Any], None]] = {
            m.PollAnswered: self._current(Phase.POLLING, polls.answered),
            m.PollFailed: self._current(Phase.POLLING, polls.failed),
            m.TimerFired: self._timer_fired,
            m.Synced: lambda event: jobs.synced(event.file, event.upto),
            m.SubmitAccepted: self._current(Phase.SUBMITTING, submits.accepted),
            m.SubmitRefused: self._current(Phase.SUBMITTING, submits.refused),
            m.SubmitFailed: self._current(Phase.SUBMITTING, submits.failed),
            m.CancelAnswered: self._current(Phase.CANCELLING, polls.cancel_answered),
            m.RowRead: rows_in.row_read,
            m.InputEnded: rows_in.input_ended,
            m.Recovered: self._recovered,
            m.RowsTakenUp: self._rows_taken_up,
            m.RowsRecalled: rows_in.rows_recalled,
            m.CancelRequested: requests.requested,
            m.StopRequested: self._shutdown.requested,
            m.SuspensionEnded: lambda _: polls.spread(),
            m.ArtifactsStored: self._current(Phase.STORING, endings.stored),
            m.ArtifactsDiscarded: self._current(Phase.STORING, endings.discarded),
            m.ArtifactsFailed: self._current(Phase.STORING, self._artifacts_failed),
            m.WriteFailed: self._write_failed,
            m.PlaceFreed: lambda _: None,  # a batch that waits for a place asks again
        }

    def handle(self, event: m.Event, now: float) -> list[m.Instruction]:
        """Take an event at `now`, a time that never runs backwards, and return what is to be done, in order."""
        instructions = self.jobs.begin_event(now)
        if self.outcome is None:
            kind = type(event)
            self._handlers[kind](event)
            if kind is not m.PollAnswered and kind is not m.TimerFired:
                self.jobs.note_change()
            self._advance()
        return instructions

    def _current(self, phase: Phase, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        """A handler that counts and drops events of another phase or attempt of their job."""

        def handle(event: Any) -> None:
            job = event.job
            if job.phase is phase and job.attempt == event.attempt:
                handler(event)
            else:
                self._stale += 1

        return handle

    def _timer_fired(self, _: m.TimerFired) -> None:
        self._wake_at = NEVER  # even where the timer fired a moment too early, another `Wake` is needed

    def _recovered(self, event: m.Recovered) -> None:
        self.jobs.recovered(accepted=event.accepted, retries=event.retries, gen=event.gen, output_end=event.output_end)
        self.endings.recovered(event.files)
        self._states_before = dict(Counter(event.finished.values()))
        self.rows_in.recovered(event)
        self.requests.recovered(event.requests_read_to)

    def _rows_taken_up(self, event: m.RowsTakenUp) -> None:
        self.rows_in.rows_taken_up(event)
        if not event.more:
            self.requests.taken_up()

    def _write_failed(self, event: m.WriteFailed) -> None:
        self.gate.halt(HaltReason.WRITE_FAILED, event.message)
        self._report_halt()
        self._finish(m.Outcome.WRITE_FAILED)

    def _artifacts_failed(self, event: m.ArtifactsFailed) -> None:
        """Journal and output can still be written: what is in flight is drained, and only then the run is over."""
        if self.endings.failed(event):
            self.gate.halt(HaltReason.WRITE_FAILED, event.message)
            self.jobs.instruct(m.Halt(HaltReason.WRITE_FAILED.value, event.message))
            self._reported_halt = self.gate.halted
            self._shutdown.requested(m.StopRequested(m.StopMode.DRAIN))

    # --- after each event ---

    def _advance(self) -> None:
        """Send what may be sent now, then say when to come back, or that the run is over.

        Nearly all events are polls of jobs that still run. What they cannot change is left alone until something
        else happens or its time comes.
        """
        jobs = self.jobs
        at = self.polls.advance()
        if jobs.changed or jobs.now >= self._next_advance:
            self._advance_all()
            if self.outcome is not None:
                return
        at = min(at, self._next_advance)
        if at < self._wake_at or self._wake_at <= jobs.now:
            self._wake_at = at
            if at < NEVER:
                jobs.instruct(m.Wake(at))

    def _advance_all(self) -> None:
        if self.outcome is not None:
            return
        self._shutdown.advance()
        self.gate.count(self.jobs.open_jobs)
        taken_up = self.rows_in.taken_up  # before that, the number of jobs in flight is unknown
        if taken_up:
            self.submits.advance()
            if self.rows_in.ended or self.rows_in.dry:
                self.submits.input_is_over()
        if self.gate.halted is not self._reported_halt:
            self._report_halt()
        outcome = self._shutdown.outcome()
        if outcome is not None:
            self._finish(m.Outcome.WRITE_FAILED if self.endings.broken else outcome)
            return
        if taken_up:
            self.rows_in.read_on()
        self.jobs.changes_handled()
        submits_at = self.submits.next_time() if taken_up else None
        self._next_advance = min(NEVER if submits_at is None else submits_at, self._shutdown.next_time())

    def _report_halt(self) -> None:
        halted = self._reported_halt = self.gate.halted
        if halted is not None:
            self.jobs.instruct(m.Halt(halted.reason.value, halted.message))

    def _finish(self, outcome: m.Outcome) -> None:
        self.outcome = outcome
        self.jobs.instruct(m.Finish(outcome))

    def snapshot(self) -> Snapshot:
        """The batch at this moment."""
        jobs, gate = self.jobs, self.gate
        return Snapshot(
            now=jobs.now,
            states_before=self._states_before,
            states=dict(jobs.states),
            codes=dict(jobs.codes),
            with_warnings=jobs.with_warnings,
            waiting=jobs.in_phase[Phase.WAITING],
            in_flight=jobs.open_jobs,
            submits_in_flight=gate.in_flight,
            submits=self.submits.answered,
            accepted=jobs.accepted,
            refusals=self.submits.refusals,
            polls=self.polls.polls,
            new_attempts=jobs.retries,
            stale=self._stale,
            paused_until=gate.paused_until if gate.paused_until > jobs.now else None,
            outage=gate.outage,
            halted=None if gate.halted is None else (gate.halted.reason.value, gate.halted.message),
            watched=max(0, len(jobs.watched) - jobs.in_phase[Phase.ENDING] - jobs.in_phase[Phase.STORING]),
            trouble=gate.trouble,
            to_end=jobs.to_end,
            unanswered=self.polls.unanswered(),
        )
