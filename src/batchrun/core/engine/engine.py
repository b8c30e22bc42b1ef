"""The engine: ``handle(event, now)`` takes what happened and returns what to do. Nothing else decides.

It is synchronous and has no file, no socket, no clock and no randomness of its own, and can therefore be driven by
the runner, by tables of exact times, and by a simulator that crashes it at every event.

Its parts, each of which knows only those before it:

- ``Jobs`` (core/jobs) changes jobs and writes entries and records; ``Gate`` (core/limits) says when a submit may go
- ``Endings`` (endings.py) ends a job: its files, then its record
- ``Breakers`` knows which jobs go to see whether a service works again that fails them
- ``Retries`` decides whether an ended job is retried
- ``PollTimes`` says when each job is polled; ``Polls`` has the jobs with an id: polls, cancels, deadlines
- ``Stalls`` finds jobs that may never end, and gives their places back; ``Outlooks`` tells what the jobs in flight say
  of the time left, both by ``KnownDurations``
- ``Submits`` has the rows that wait for their turn, and the POSTs; ``Resends`` the rows that are sent again with the same
  idempotency key
- ``RowsIn`` makes jobs of rows: those of an earlier run, then those of the input
- ``CancelRequests`` carries out what users ask to end; ``Shutdown`` knows when the run is over

A part sets no field of another: it calls a method that says what happened. Everything that waits for a time waits in
``Timers``, and one `Wake` asks for the earliest; everything that ends comes back as an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from batchrun.core.engine.breakers import Breakers
from batchrun.core.engine.endings import Endings, Retries
from batchrun.core.engine.outlooks import Outlooks
from batchrun.core.engine.poll_times import PollTimes
from batchrun.core.engine.polls import Polls
from batchrun.core.engine.resends import Resends
from batchrun.core.engine.rows_in import RowsIn
from batchrun.core.engine.stalls import Stalls
from batchrun.core.engine.submits import Submits
from batchrun.core.jobs import messages as m
from batchrun.core.jobs.ended_ids import EndedIds
from batchrun.core.jobs.job import NEVER, CancelReason, Job
from batchrun.core.jobs.jobs import Jobs, cancelled
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.jobs.messages import CancelRequested, Outcome, StopMode, StopRequested
from batchrun.core.journal.entries import Cancelling, RequestsAccepted
from batchrun.core.limits.gate import Gate, HaltState, Shared
from batchrun.core.limits.lane import Rates
from batchrun.core.settings.settings import Settings
from batchrun.core.status.snapshot import Snapshot
from batchrun.core.taxonomy.rules import HaltReason, State

# --- What users ask to end: rows by their keys or by their jobs' ids, or all of them ---
#
# Invariants:
#
# 1. A request is accepted once `RequestsAccepted` is journaled behind the `Cancelling` entries that it caused: only
#    then may the next run pass over its bytes. Read again it does nothing new.
# 2. A request for all rows stands until the last one has its record, across runs: rows that are not read yet have no
#    entry of their own.
# 3. An interrupt ends jobs, not rows: what was never sent stays open.


_UNSENT = frozenset({Phase.WAITING, Phase.INTENDING})


class CancelRequests:
    """Carries out cancels. With `collecting` there is no input: an unknown key is left to a run with one."""

    def __init__(
        self, jobs: Jobs, endings: Endings, polls: Polls, submits: Submits, rows_in: RowsIn, *, collecting: bool
    ) -> None:
        self._jobs = jobs
        self._endings = endings
        self._polls = polls
        self._submits = submits
        self._rows_in = rows_in
        self._collecting = collecting
        self._read_to = 0  # how far the file of requests was read
        self._left_from: int | None = None  # where the first request begins that is left to a run with an input
        self._to_repeat: list[CancelRequested] | None = None  # what came while rows were being taken up
        self.interrupted = False

    def recovered(self, read_to: int) -> None:
        """Earlier runs accepted the requests up to `read_to`; rows are being taken up."""
        self._read_to = read_to
        self._to_repeat = []

    def taken_up(self) -> None:
        """All rows that an earlier run left open are jobs now: what was requested meanwhile concerns them too."""
        repeated, self._to_repeat = self._to_repeat or [], None
        if self._jobs.all_cancelled:
            self._cancel(self._all_jobs(), CancelReason.USER)
        for event in repeated:
            self.requested(event)

    def requested(self, event: CancelRequested) -> None:
        """Cancel these rows, and accept the request."""
        jobs = self._all_jobs()
        accept = event.read_to is not None
        if self._to_repeat is not None:
            self._to_repeat.append(event)
            accept = False  # only once it is repeated (invariant 1)
        if event.keys is not None:
            wanted = [job for job in jobs if job.key in event.keys or job.job_id in event.keys]
            unknown = self._rows_in.unknown(event.keys - {name for job in wanted for name in (job.key, job.job_id)})
            if self._collecting and unknown and self._left_from is None and self._to_repeat is None:
                self._left_from = self._read_to
            self._rows_in.cancel_unread(unknown, event.unread, event.reason)
            self._cancel(wanted, event.reason)
        elif event.reason is CancelReason.INTERRUPT:
            self.interrupted = True
            self._cancel([job for job in jobs if job.phase not in _UNSENT], event.reason)
        else:
            self._jobs.cancel_all()
            self._cancel(jobs, event.reason)
        if accept and event.read_to is not None:
            self._read_to = event.read_to
        if accept or (self._jobs.all_cancelled and event.keys is None):
            self._accept()

    def all_done(self) -> bool:
        """Every row of the input has its record. True where no cancel of all rows stands; else its end is journaled."""
        if not self._jobs.all_cancelled:
            return True
        self._jobs.cancel_all(stands=False)
        self._accept()
        return False

    def _all_jobs(self) -> tuple[Job, ...]:
        return self._jobs.all()

    def _cancel(self, jobs: Iterable[Job], reason: CancelReason) -> None:
        for job in jobs:
            if job.cancel_reason is not None or job.phase is Phase.FINISHED:
                continue
            if job.phase is Phase.ENDING:  # its record stands, if it reaches the disk; if not, the cancel does
                self._jobs.note(Cancelling(job.key, job.attempt, reason.value, self._jobs.wall))
                continue
            self._jobs.cancel(job, reason, self._polls.cancel_synced)
            if job.phase is Phase.WAITING:
                self._endings.end(job, cancelled(reason, None, sent=bool(job.attempts)), None)
            elif job.phase is Phase.INTENDING:
                self._submits.cancel_intending(job)
            elif job.phase is Phase.UNANSWERED:
                self._submits.cancel_unanswered(job)
            elif job.phase is Phase.WATCHING:
                self._polls.begin_cancel(job)

    def _accept(self) -> None:
        self._jobs.note(RequestsAccepted(self._read_to, self._jobs.all_cancelled, self._left_from))


# --- How a run ends: what was asked for (a stop, an end to waiting), and what has come to rest by then ---
#
# Invariants:
#
# 1. A run ends in good order only when nothing is under way: no POST whose outcome is not safe, no line that something
#    waits for, no file. Two things end it before: time is up for a stop, or the files cannot be written.
# 2. A detached run polls nothing, so nothing but its own submits can hold it.
# 3. While rows that an earlier run left open are being taken up only a stop ends it: those that are still to come stay
#    open.
# 4. With a cancel of all rows the batch is complete only once the end of that cancel is journaled.


class Shutdown:
    """Knows when the run is over. With `collecting` there is no input to come to its end."""

    def __init__(
        self,
        jobs: Jobs,
        endings: Endings,
        gate: Gate,
        polls: Polls,
        rows_in: RowsIn,
        requests: CancelRequests,
        *,
        collecting: bool,
    ) -> None:
        self._jobs = jobs
        self._endings = endings
        self._gate = gate
        self._polls = polls
        self._rows_in = rows_in
        self._requests = requests
        self._collecting = collecting
        self._mode: StopMode | None = None
        self._stop_at = NEVER
        max_wait = jobs.settings.max_wait
        self._max_wait_at = jobs.now + max_wait if max_wait else NEVER

    def requested(self, event: StopRequested) -> None:
        settings, gate, polls = self._jobs.settings, self._gate, self._polls
        mode = self._mode = StopMode.DRAIN if event.mode is StopMode.INTERRUPT else event.mode
        if event.mode is StopMode.INTERRUPT and settings.cancel_on_interrupt:
            self._requests.requested(CancelRequested(None, CancelReason.INTERRUPT))
        interrupted = self._requests.interrupted
        if mode is StopMode.DETACH:
            gate.lift_places()
            poll = gate.doubted
        else:
            gate.close()
            poll = interrupted  # what an interrupt cancelled is polled once more, and only that
            grace = settings.drain + (settings.cancel_settle if interrupted else 0.0)
            self._stop_at = self._jobs.now + (grace if mode is StopMode.DRAIN else 0.0)
        if poll:
            polls.resume()
        else:
            polls.stop()

    def next_time(self) -> float:
        """When to be called again without an event."""
        return min(self._stop_at, self._max_wait_at)

    def advance(self) -> None:
        """Stop polling where the time for that has come."""
        if self._jobs.now >= self._max_wait_at:
            self._gate.halt(HaltReason.MAX_WAIT, f"--max-wait of {self._jobs.settings.max_wait:g} s is over")
            self._polls.stop()
        if self._mode is StopMode.DETACH and not self._gate.doubted:
            self._polls.stop()

    def outcome(self) -> Outcome | None:
        """How the run is over; None while it is not."""
        jobs, gate, rows_in = self._jobs, self._gate, self._rows_in
        cancels_in_flight = self._polls.cancels_in_flight
        if jobs.now >= self._stop_at:
            return Outcome.STOPPED
        if gate.exposed or not jobs.all_synced or not self._endings.at_rest():
            return None
        if self._mode is StopMode.DRAIN:
            interrupted = self._requests.interrupted
            waits = (jobs.to_end or not rows_in.taken_up) if interrupted else cancels_in_flight
            return Outcome.STOPPED if not waits else None
        if not rows_in.taken_up:
            return None
        settled = jobs.open_jobs == jobs.in_phase[Phase.UNANSWERED]  # which the next run may send again
        if gate.halted is not None:
            return Outcome.HALTED if settled or (self._polls.stopped and not cancels_in_flight) else None
        if self._collecting:
            if not settled:
                return None
            return Outcome.PARTIAL if jobs.in_phase[Phase.WAITING] or rows_in.left_open else Outcome.COMPLETE
        if not rows_in.ended or jobs.in_phase[Phase.WAITING] or jobs.in_phase[Phase.UNANSWERED]:
            return None
        if self._mode is StopMode.DETACH:
            return Outcome.DETACHED if not cancels_in_flight else None
        if not settled:
            return None
        return Outcome.COMPLETE if rows_in.left_out or self._requests.all_done() else None


_RESULTS = frozenset({State.SUCCEEDED.value, State.INCOMPLETE.value})
"""States of records that show that a submit was accepted: one that was answered at once has no entry that does."""


class Engine:
    """One batch. With `collecting` nothing is submitted, and open jobs are polled until they are over.

    `epoch` added to the clock of `now` is the time of day; `chance` gives random numbers in [0, 1); `files_at` is the
    folder of artifacts as records name it, where that is not the setting; a service that `repeats_ids` answers equal
    requests with one job; one that keeps the idempotency key of a POST does so for `keeps_keys` seconds.
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
        rates: Rates | None = None,
        repeats_ids: bool = False,
        keeps_keys: float = 0.0,
    ) -> None:
        folder = None if settings.artifacts is None else files_at or settings.artifacts
        self.settings = settings
        self._places = settings.max_jobs
        self.jobs = jobs = Jobs(settings, run_id, now, epoch, chance, repeats_ids=repeats_ids)
        self.gate = gate = Gate(settings, chance, shared, rates)
        self.endings = endings = Endings(jobs, folder)
        self._breakers = breakers = Breakers(jobs, gate)
        self.retries = retries = Retries(jobs, endings, gate, breakers)
        self.times = times = PollTimes(jobs)
        self.stalls = stalls = Stalls(jobs, times, gate)
        self.polls = polls = Polls(jobs, endings, gate, retries, times, stalls)
        self._outlooks = Outlooks(jobs, times)
        self.resends = resends = Resends(jobs, keeps_keys)
        self.submits = submits = Submits(jobs, endings, gate, retries, polls, breakers, stalls, resends)
        self.rows_in = rows_in = RowsIn(jobs, endings, gate, retries, polls, submits, resends, collecting=collecting)
        self.requests = requests = CancelRequests(jobs, endings, polls, submits, rows_in, collecting=collecting)
        self._shutdown = Shutdown(jobs, endings, gate, polls, rows_in, requests, collecting=collecting)
        if collecting:
            gate.close()
        self.outcome: m.Outcome | None = None
        self._states_before: dict[str, int] = {}
        self._stale = 0
        self._reported_halt: HaltState | None = None
        self._next_advance = self._wake_at = self._reach_at = NEVER
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
            m.SuspensionEnded: self._suspended,
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

    def _suspended(self, _: m.SuspensionEnded) -> None:
        self.times.suspended()
        self.stalls.suspended()
        self.gate.suspended(self.jobs.now)

    def _recovered(self, event: m.Recovered) -> None:
        self.jobs.recovered(
            accepted=event.accepted,
            retries=event.retries,
            gen=event.gen,
            output_end=event.output_end,
            ended_ids=EndedIds() if event.ended_ids is None else event.ended_ids,
            left_open=event.left_open,
        )
        self.endings.recovered(event.files)
        self.times.learned_before(event.durations)
        self._states_before = dict(Counter(event.finished.values()))
        if event.accepted or not _RESULTS.isdisjoint(self._states_before):
            self.gate.accepted_before()
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
        taken_up = self.rows_in.taken_up  # before that, the number of jobs in flight is unknown
        submits_at = stalls_at = NEVER
        if taken_up and not self.polls.stopped:
            lacks_place, polls_fail = self.submits.lack_place, self.polls.unanswered() is not None
            stalls_at = self.stalls.advance(lacks_place=lacks_place, polls_fail=polls_fail)
        self.gate.count(self.jobs.open_jobs - self.stalls.given_back)
        if taken_up:
            submits_at = self.submits.advance()
            if self.rows_in.ended or self.rows_in.dry:
                self.submits.input_is_over()
            self.times.rows_wait(
                waiting=not self.rows_in.ended or self.jobs.in_phase[Phase.WAITING] > 0, places=self._places
            )
        self._watch_reach()
        if self.gate.halted is not self._reported_halt:
            self._report_halt()
        outcome = self._shutdown.outcome()
        if outcome is not None:
            self._finish(m.Outcome.WRITE_FAILED if self.endings.broken else outcome)
            return
        if taken_up:
            self.rows_in.read_on()
        self.jobs.changes_handled()
        self._next_advance = min(submits_at, stalls_at, self._shutdown.next_time(), self._reach_at)

    def _watch_reach(self) -> None:
        """Tell whether the service answers; halt where it could never be reached."""
        jobs, gate, polls = self.jobs, self.gate, self.polls
        reach = gate.reach
        stopped = gate.halted is not None or gate.closed
        gate.nothing_to_ask(
            submits=gate.in_flight == 0
            and (stopped or not (jobs.in_phase[Phase.WAITING] or jobs.in_phase[Phase.UNANSWERED])),
            polls=polls.stopped or not jobs.watched,
        )
        why = reach.unreachable(jobs.now)
        if why is not None:
            gate.halt(HaltReason.UNREACHABLE, why)
            polls.stop()
        elif (news := reach.news(jobs.now, polls.last_found)) is not None:
            jobs.instruct(m.Note(news))
        self._reach_at = NEVER if why is not None else reach.next_time()

    def _report_halt(self) -> None:
        halted = self._reported_halt = self.gate.halted
        if halted is not None:
            self.jobs.instruct(m.Halt(halted.reason.value, halted.message))

    def _finish(self, outcome: m.Outcome) -> None:
        self.outcome = outcome
        self.jobs.instruct(m.Finish(outcome))

    def snapshot(self) -> Snapshot:
        """The batch at this moment."""
        jobs, gate, lags, outlooks = self.jobs, self.gate, self.times.lags, self._outlooks
        outlooks.refresh()
        return Snapshot(
            now=jobs.now,
            states_before=self._states_before,
            states=dict(jobs.states),
            codes=dict(jobs.codes),
            samples=dict(jobs.samples),
            with_warnings=jobs.with_warnings,
            waiting=jobs.in_phase[Phase.WAITING],
            in_flight=jobs.open_jobs,
            submits_in_flight=gate.in_flight,
            submits=self.submits.answered,
            accepted=jobs.accepted - jobs.accepted_before,
            refusals=self.submits.refusals,
            polls=self.polls.polls,
            new_attempts=jobs.retries - jobs.retries_before,
            stale=self._stale,
            paused_until=gate.pause(jobs.now),
            outage=gate.outage,
            halted=None if gate.halted is None else (gate.halted.reason.value, gate.halted.message),
            watched=max(
                0, len(jobs.watched) + jobs.shared - jobs.in_phase[Phase.ENDING] - jobs.in_phase[Phase.STORING]
            ),
            trouble=gate.trouble,
            to_end=jobs.to_end,
            unanswered=self.polls.unanswered(),
            silent=gate.reach.is_silent,
            silent_for=gate.reach.silent_for(jobs.now),
            silent_why=gate.reach.why,
            connected=gate.reach.connected,
            accepted_before=jobs.accepted_before,
            new_attempts_before=jobs.retries_before,
            polls_per_job=lags.polls / lags.jobs if lags.jobs else None,
            mean_lag=lags.mean,
            unusual=outlooks.unusual,
            places=self._places + self.stalls.given_back,
            outlook=None if self.polls.stopped else outlooks.outlook,
            waits=self.submits.waits(),
            stalled=self.stalls.stalled(),
            failing=self._breakers.failing(),
        )
