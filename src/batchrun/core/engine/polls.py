"""Polls and cancels: every job with an id on the disk, until it is over.

**A poll that fails is not a job that failed.** It never sends the row again and never cancels it. A job that is not
found is written off only by a service that has shown that it knows us (``_write_off``); an outage, a wrong project or
a wrong path never writes rows off.

**A wrong clock never cancels a job.** The age of a job that an earlier run submitted is the difference of two runs'
clocks. Before it counts for anything, the service's clock is asked; where that contradicts it, it decides.

**A poll that names another row's job says nothing about this one.** It counts as one that failed.

**A deadline never ends a job without a final poll.** If that poll finds it still running it is cancelled, for the
reason `deadline`; if the service cannot be seen at all, the job is polled until it can, for an hour at most.

**A cancel is a request that services do not always grant; its record is certain nevertheless.** First the job's
cancelled flag is set and journaled. The cancel is sent once that is on the disk and the job's id is known. The job is
then polled until it is over, or patience ends, and once more some time after: many a job that was `cancelled` has
turned into `completed` minutes later. What comes after the record is written nowhere. Where the service does not find
the job that it is to cancel (servers that were killed, and say `in_progress` of it for ever), one last poll settles it, as
soon as it is so old that it cannot be too new to be found.
"""

from __future__ import annotations

from collections.abc import Iterable

from batchrun.core.engine.endings import Endings, Retries
from batchrun.core.engine.poll_times import PollTimes
from batchrun.core.engine.stalls import Stalls
from batchrun.core.jobs.job import NEVER, CancelReason, History, Job, Timers
from batchrun.core.jobs.jobs import Jobs, cancelled, ended_by_us, keeps_payload
from batchrun.core.jobs.lifecycle import Phase, Step
from batchrun.core.jobs.messages import Cancel, CancelAnswered, KeepUnreadable, Note, Poll, PollAnswered, PollFailed
from batchrun.core.limits.gate import Gate
from batchrun.core.records.record import Response
from batchrun.core.responses.error import our_problem
from batchrun.core.responses.outcome import Ended, Running
from batchrun.core.responses.service_clock import CLOCKS_AGREE, ServiceClock
from batchrun.core.responses.verdict import JobReport, Trouble, Unclear
from batchrun.core.taxonomy.rules import HaltReason, State
from batchrun.core.text.readable import duration

WRITE_OFF_POLLS, WRITE_OFF_AFTER = 3, 120.0
"""A job that is not found is polled at least so often, over at least so many seconds."""
WRITE_OFF_LAST_AFTER = 600.0
"""The same, in seconds, for the last open job of a service that has shown others to this process."""
UNAUTHORISED_FOR = 600.0
"""Polls that are refused for their key for so long, in seconds, halt the run."""
UNAUTHORISED_GAP = 30.0
FIRST_POLLS = 8
"""Polls in flight at most before one was answered."""
REPORT_UNANSWERED_AFTER = 10.0
"""The user is told once no poll has been answered for so long, in seconds."""
UNCLEAR_POLLS, UNCLEAR_FOR = 3, 60.0
"""Status words that contradict each other, or an error without a status, end a job after so many polls in a row, over at
least so many seconds."""
NOT_TOO_NEW = 120.0
"""A job of this age, in seconds, is found where it exists: some services show new ones a while later."""
UNSEEN_FOR = 3600.0
"""A job past its deadline that cannot be seen is polled for so long, in seconds."""


class Polls:
    """Jobs that wait for their next poll, and the polls and cancels in flight."""

    def __init__(
        self, jobs: Jobs, endings: Endings, gate: Gate, retries: Retries, times: PollTimes, stalls: Stalls
    ) -> None:
        settings = jobs.settings
        self._jobs = jobs
        self._endings = endings
        self._gate = gate
        self._retries = retries
        self._times = times
        self._stalls = stalls
        self._deadline = settings.deadline
        self._connections, self._max_memory = min(FIRST_POLLS, settings.connections), settings.max_memory
        self._connected = False  # by a poll
        self._held_cancels: list[Job] = []
        self.stopped = False
        self.in_flight = 0
        self.cancels_in_flight = 0
        self.polls = 0
        self._taken_up_at = float("-inf")  # on the wall clock: an earlier run submitted what was submitted before
        self._clocks_noted = False
        self.last_found: float | None = None
        self._some_failed = False  # since the last one that found its job
        self._unauthorised_since: float | None = None
        self._unanswered: tuple[float, str] | None = None  # since when polls fail, and why the last one did

    def unanswered(self) -> str | None:
        """Why polls fail, where none was answered for a while."""
        if self._unanswered is None or self.in_flight + len(self._jobs.watched) == 0:
            return None
        since, message = self._unanswered
        answered = self.last_found is not None and self.last_found >= since
        return None if answered or self._jobs.now - since < REPORT_UNANSWERED_AFTER else message

    # --- when to poll ---

    def begin(self, job: Job) -> None:
        """The job's id is on the disk: poll it, or cancel it if that was requested meanwhile."""
        if job.cancel_reason is not None:
            self.begin_cancel(job)
            return
        self._jobs.move(job, Step.ID_SYNCED)
        self._times.first(job, self._deadline_of(job))

    def recover(self, job: Job) -> None:
        """A job that an earlier run left: polled soon, or cancelled."""
        if job.cancel_reason is not None:
            self.begin_cancel(job)
            return
        self._jobs.move(job, Step.RECOVERED)
        self.poll_soon((job,))

    def poll_soon(self, jobs: Iterable[Job]) -> None:
        """Poll these jobs, which an earlier run submitted, soon."""
        self._times.resumed(jobs)

    def stop(self) -> None:
        """Send no more polls."""
        self.stopped = True

    def resume(self) -> None:
        self.stopped = False

    def hold(self) -> None:
        """Send no polls until `release`: rows are still being taken up, and would be for longer.

        Nor a cancel of a job that a row may share that is not taken up yet.
        """
        self._connections = 0
        self._taken_up_at = self._jobs.wall

    def release(self) -> None:
        self._connections = self._jobs.settings.connections
        if not self._connected:
            self._connections = min(FIRST_POLLS, self._connections)
        held, self._held_cancels = self._held_cancels, []
        for job in held:
            self._send_cancel(job)

    def advance(self) -> float:
        """Send the polls that are due, as the rate and the room for responses allow; returns when to come back."""
        if self.stopped:
            return NEVER
        jobs, times = self._jobs, self._times
        times.learn()
        while self.in_flight < self._connections and jobs.unsynced_records < self._max_memory:
            job = times.take()
            if not isinstance(job, Job):
                return job
            self.in_flight += 1
            jobs.move(job, Step.POLL_DUE)
            jobs.instruct(Poll(job, job.attempt))
        return NEVER  # a response or a sync makes room

    def _deadline_of(self, job: Job) -> float:
        """When the job's time is up, on the engine's clock: counted from its submit, or as was found out since."""
        history = job.history
        start = job.submitted_at if history is None or history.counted_from is None else history.counted_from
        return NEVER if start is None else start - self._jobs.epoch + self._deadline

    # --- what polls show ---

    def answered(self, event: PollAnswered) -> None:
        job, report, jobs = event.job, event.seen, self._jobs
        seen = report.outcome
        if seen is not job.last_seen:
            if report.other_id is not None and (owner := self._is_anothers(job, report)) is not None:
                problem = our_problem("duplicate_job_id", f"the response names the job {report.other_id}, {owner}")
                self.failed(PollFailed(job, event.attempt, Unclear(Trouble.TRANSIENT, problem)))
                return
            if type(seen) is Running:
                job.seen(seen, jobs.wall)
        self.in_flight -= 1
        self.polls += 1
        before = job.found(jobs.age(job))
        if self.last_found is None:
            self._gate.trust_key()
            self._some_failed = True
        self.last_found = jobs.now
        if self._some_failed:
            self._some_failed, self._unauthorised_since = False, None
            self._service_answered()
        if type(seen) is Running:
            history = job.history
            if history is not None and history.cancel_reason is not None:
                self._settle(job, None)
            elif seen.unclear is not None and self._stays_unclear(job):
                self._retries.conclude(job, seen.unclear, _response_of(report))
            elif (deadline := self._deadline_of(job)) <= jobs.now or (history is not None and history.ahead):
                self._seems_late(job, report, before, seen.poll_after or 0.0)
            else:
                jobs.move(job, Step.STILL_OPEN)
                self._times.runs(job, before, seen.poll_after or 0.0, deadline)
            return
        assert isinstance(seen, Ended)
        if job.cancel_reason is not None:
            self._settle(job, seen, Response(report.http_status, report.request_id, report.body))
            return
        self._times.ended(job, before, report.clock)
        self._stalls.ended(job)
        if self._deadline_of(job) <= jobs.now and not self._age_is_known(job):
            self._find_age(job, report.clock)
        if self._deadline_of(job) <= jobs.now and keeps_payload(CancelReason.DEADLINE, seen):
            job.warn("after_deadline")
        self._retries.conclude(job, seen, _response_of(report))

    # --- how old a job is ---

    def doubt_age(self, job: Job, submitted_at: float) -> None:
        """An earlier run submitted the job at a time that is still to come: the two clocks cannot both be right."""
        ahead = submitted_at - self._jobs.wall
        if ahead <= CLOCKS_AGREE:
            return
        job.submitted_ahead()
        self._note_clocks(
            f"this machine's clock was set back, or was wrong before: it says that the job {job.job_id} was submitted "
            f"{duration(ahead)} from now"
        )

    def _seems_late(self, job: Job, report: JobReport, before: float, poll_after: float) -> None:
        """A poll found the job running, and its time is up, or it was submitted in the future."""
        jobs = self._jobs
        if not self._age_is_known(job):
            if report.clock is None and not (job.history is not None and job.history.age_asked):
                self._poll_for_age(job)
                return
            self._find_age(job, report.clock)
        deadline = self._deadline_of(job)
        if deadline <= jobs.now:
            jobs.cancel(job, CancelReason.DEADLINE, self.cancel_synced)
            self.begin_cancel(job)
        else:
            jobs.move(job, Step.STILL_OPEN)
            self._times.runs(job, before, poll_after, deadline)

    def _age_is_known(self, job: Job) -> bool:
        """Whether its age is more than a difference of two runs' clocks: this run submitted it, or it was found out."""
        history, submitted_at = job.history, job.submitted_at
        if history is not None and (history.ahead or history.counted_from is not None):
            return not history.ahead
        return submitted_at is None or submitted_at > self._taken_up_at

    def _poll_for_age(self, job: Job) -> None:
        """Poll the job at once, in place of the poll that was just answered, for what the service's clock says."""
        jobs = self._jobs
        jobs.move(job, Step.STILL_OPEN)
        if self.stopped:
            self._times.at(job, jobs.now)
            return
        job.ask_for_age()
        self._times.took_another()
        self.in_flight += 1
        jobs.move(job, Step.POLL_DUE)
        jobs.instruct(Poll(job, job.attempt, dated=True))

    def _find_age(self, job: Job, clock: ServiceClock | None) -> None:
        """Count the job's deadline by the service's clock where that contradicts ours, by ours where it says nothing."""
        wall, submitted_at = self._jobs.wall, job.submitted_at
        assert submitted_at is not None
        ours = wall - submitted_at
        theirs = None if clock is None else clock.age(submitted_at, wall)
        if theirs is None or abs(ours - theirs) <= CLOCKS_AGREE:
            job.counted(submitted_at)
            return
        job.counted(wall - theirs)
        if theirs < ours:
            self._note_clocks(
                f"this machine's clock is wrong, or was before: by it the job {job.job_id} is {duration(ours)} old, "
                f"by the service's {duration(theirs)}"
            )

    def _note_clocks(self, text: str) -> None:
        """Say once what is wrong with the clocks; it is the same for many jobs."""
        if not self._clocks_noted:
            self._clocks_noted = True
            self._jobs.instruct(
                Note(f"{text}; the service's clock decides how old jobs are, and none is cancelled for it")
            )

    def _is_anothers(self, job: Job, report: JobReport) -> str | None:
        """Whose job the report of another id tells of, in words; None where it may be believed.

        An id that no row has may yet turn out to be that of a row whose POST was in flight when it was shown. So an end
        under such an id waits until those POSTs are answered. Of a row whose response was lost it never turns out.
        """
        jobs, other_id = self._jobs, report.other_id
        assert other_id is not None
        if job.had(other_id):
            return "which is that of an earlier attempt of the row"
        owner = jobs.job_of_another(job, other_id)
        if owner is not None:
            return f"which is {owner}"
        if jobs.repeats_ids:
            jobs.share(job, other_id)
        if type(report.outcome) is Running and report.outcome.unclear is None:
            return None
        since, in_flight_since = job.shows_id(other_id, jobs.now), jobs.in_flight_since()
        return (
            None if in_flight_since is None or in_flight_since > since else "which may be that of a row being submitted"
        )

    def _stays_unclear(self, job: Job) -> bool:
        """Whether enough polls in a row have shown what may be an end."""
        count, since = job.is_unclear(self._jobs.now)
        return count >= UNCLEAR_POLLS and self._jobs.now - since >= UNCLEAR_FOR

    def failed(self, event: PollFailed) -> None:
        job, unclear, jobs = event.job, event.unclear, self._jobs
        self.in_flight -= 1
        self.polls += 1
        job.not_seen()
        self._some_failed = True
        self._showed_nothing(unclear)
        since = jobs.now
        if self._unanswered is not None and (self.last_found is None or self.last_found < self._unanswered[0]):
            since = self._unanswered[0]
        self._unanswered = since, unclear.problem.message
        if unclear.problem.http_status == 429:
            self._times.refused(unclear.retry_after)
        if job.cancel_reason is not None:
            self._settle(job, None)
            return
        if unclear.is_final:
            self._end_unreadable(job, unclear, unclear.problem.message)
            return
        if unclear.trouble is not Trouble.TRANSIENT and self._write_off(job, unclear.trouble):
            message = f"the service no longer knows the job: {unclear.problem.message}"
            self._retries.conclude(job, ended_by_us(State.EXPIRED, "job_not_found", message), None)
            return
        deadline = self._deadline_of(job)
        if deadline <= jobs.now and not self._age_is_known(job):  # then it counts from when this run took it up
            deadline = self._taken_up_at - jobs.epoch + self._deadline
        if deadline <= jobs.now and self._end_unseen(job, unclear, deadline):
            return
        jobs.move(job, Step.STILL_OPEN)
        if unclear.unconnected and not self._gate.reach.connected:
            self._times.unconnected(job)
            return
        slower = UNAUTHORISED_GAP if unclear.trouble is Trouble.UNAUTHORISED else 0.0
        self._times.unseen(job, max(slower, unclear.retry_after or 0.0), deadline)

    def _showed_nothing(self, unclear: Unclear) -> None:
        """A poll or a cancel did not show its job: was it the service that said so?"""
        if unclear.answered:
            self._service_answered()
            return
        self._gate.poll_failed(self._jobs.now, unclear.problem.message, unconnected=unclear.unconnected)
        self._times.unanswered()
        if self._gate.reach.connected:
            self._is_connected()

    def _service_answered(self) -> None:
        """The service answered a poll or a cancel, whatever it says of the job."""
        self._is_connected()
        since = self._gate.poll_answered(self._jobs.now)
        self._times.answered(outage=since is not None)
        self._jobs.note_change()

    def _is_connected(self) -> None:
        """A connection was made: as many polls go at once as there may be."""
        if not self._connected:
            self._connected = True
            if self._connections:
                self._connections = self._jobs.settings.connections

    def _write_off(self, job: Job, trouble: Trouble) -> bool:
        """Whether a job that is not found may be given up. Halts the run where nothing is found at all."""
        jobs, now = self._jobs, self._jobs.now
        polls, since = job.not_found(now)
        if trouble is Trouble.UNAUTHORISED:
            self._unauthorised_since = now if self._unauthorised_since is None else self._unauthorised_since
        if polls < WRITE_OFF_POLLS or now - since < WRITE_OFF_AFTER:
            return False
        if jobs.settings.write_off:
            return True
        if self.last_found is not None and self.last_found >= since:
            return True
        if trouble is Trouble.UNAUTHORISED:
            if self._unauthorised_since is not None and now - self._unauthorised_since >= UNAUTHORISED_FOR:
                self._give_up(HaltReason.UNAUTHORISED, "this API key may not read its jobs any more")
        elif self.last_found is None:
            self._give_up(
                HaltReason.UNKNOWN_TO_SERVICE,
                f"the service finds none of {len(jobs.watched) + jobs.shared:,} open jobs with this API key",
            )
        else:
            return trouble is Trouble.NOT_FOUND and now - since >= WRITE_OFF_LAST_AFTER
        return False

    def _give_up(self, reason: HaltReason, message: str) -> None:
        self._gate.halt(reason, message)
        self.stop()

    def _end_unseen(self, job: Job, unclear: Unclear, deadline: float) -> bool:
        """End a job past its deadline that could not be seen, if that is how it has to end."""
        jobs = self._jobs
        if unclear.unreadable:
            self._end_unreadable(job, unclear, f"unreadable at every poll: {unclear.problem.message}")
            return True
        seen_since = self.last_found is not None and self.last_found > deadline
        if seen_since or jobs.now - deadline >= UNSEEN_FOR:
            jobs.cancel(job, CancelReason.DEADLINE, self.cancel_synced)
            self.begin_cancel(job)
            return True
        return False

    def _end_unreadable(self, job: Job, unclear: Unclear, message: str) -> None:
        """End a job whose response cannot be read, and keep the response."""
        self._jobs.instruct(KeepUnreadable(job.key, unclear.unreadable))
        self._endings.end(job, ended_by_us(State.FAILED, "unreadable_result", message), None)

    # --- cancels, and the polls after them ---

    def cancel_synced(self, job: Job) -> None:
        """The job's cancelled flag is on the disk."""
        job.cancel_is_synced()
        if job.phase is Phase.CANCELLING and job.history is not None and not job.history.cancel_sent:
            self._send_cancel(job)

    def begin_cancel(self, job: Job) -> None:
        """The id of a cancelled job is on the disk: cancel it on the service, once the flag is on the disk too."""
        Timers.forget(job)  # no poll is due until the cancel was answered
        self._jobs.move(job, Step.CANCEL_DUE)
        if job.cancel_synced:
            self._send_cancel(job)

    def _send_cancel(self, job: Job) -> None:
        if self._connections == 0 and self._jobs.repeats_ids:
            self._held_cancels.append(job)
            return
        if self._jobs.is_wanted_by_others(job):  # the service would end it for them too: only a final poll is sent
            self._jobs.move(job, Step.CANCEL_ANSWERED)
            self._times.at(job, self._jobs.now)
            return
        job.cancel_is_sent()
        self.cancels_in_flight += 1
        self._jobs.instruct(Cancel(job, job.attempt))

    def cancel_answered(self, event: CancelAnswered) -> None:
        """Whatever the response says, the job is polled again."""
        job, answer, jobs = event.job, event.answer, self._jobs
        self.cancels_in_flight -= 1
        if isinstance(answer, Unclear):
            self._showed_nothing(answer)
        else:
            self._service_answered()
        delay = jobs.settings.poll_min
        if isinstance(answer, Unclear):
            if answer.problem.http_status in (404, 410):
                job.cancel_finds_nothing()
        elif answer.other_id is not None and self._is_anothers(job, answer) is not None:
            pass  # it says nothing about this job
        elif isinstance(answer.outcome, Ended):
            job.over_after_cancel(jobs.now, answer.outcome.usage, answer.outcome.model)
            delay = jobs.settings.cancel_settle
        jobs.move(job, Step.CANCEL_ANSWERED)
        self._times.at(job, jobs.now + delay)

    def _settle(self, job: Job, final: Ended | None, response: Response | None = None) -> None:
        """A cancelled job was polled, and is over as `final` says: poll it once more, or write its record."""
        jobs, history, reason = self._jobs, job.history, job.cancel_reason
        assert history is not None
        assert reason is not None
        if history.cancel_sent:
            at = self._settle_poll_at(job, history, final)
            if at is not None:
                jobs.move(job, Step.UNSETTLED)
                self._times.at(job, at)
                return
        elif final is None and not jobs.is_wanted_by_others(job):
            self.begin_cancel(job)
            return
        kept = final is not None and keeps_payload(reason, final)
        self._endings.end(job, cancelled(reason, final, sent=True), response if kept else None)

    def _settle_poll_at(self, job: Job, history: History, final: Ended | None) -> float | None:
        """When a job whose cancel was sent is polled again; None where this was its final poll."""
        now, settings = self._jobs.now, self._jobs.settings
        if final is None:
            patient_until = history.cancelled_at + settings.cancel_patience
            if history.cancel_not_found:
                patient_until = min(patient_until, now - self._jobs.age(job) + NOT_TOO_NEW)
            at = min(now + self._times.after_cancel(job), patient_until)
            return None if now >= patient_until else at
        ended_at = history.ended_at
        if ended_at is None:
            ended_at = now
            job.over_after_cancel(now, final.usage, final.model)
        settled_at = ended_at + settings.cancel_settle
        return None if now >= settled_at else settled_at


def _response_of(report: JobReport) -> Response | None:
    return Response(report.http_status, report.request_id, report.body) if report.body else None
