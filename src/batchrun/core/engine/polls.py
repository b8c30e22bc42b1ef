"""The lane of polls: every job with an id, looked at until it is over.

**A poll that fails is not a job that failed.** It never sends the row again and never cancels it. A job
that is not found is written off only by a service that has shown that it knows us (``_write_off``); an
outage, a wrong project or a wrong path never writes rows off.

A deadline never ends a job without one more look. If that look finds it still running it is cancelled, for
the reason `deadline`; if the service cannot be seen at all, the job is looked at on until it can, for an
hour at most.
"""

from __future__ import annotations

from batchrun.core.engine.artifacts import Endings
from batchrun.core.engine.cancels import Cancels
from batchrun.core.engine.retries import Retries
from batchrun.core.jobs.job import CancelReason, Job
from batchrun.core.jobs.jobs import Jobs
from batchrun.core.jobs.lifecycle import Phase, Step
from batchrun.core.jobs.messages import KeepUnreadable, Poll, PollAnswered, PollFailed
from batchrun.core.jobs.pacing import Exponential, Pacing
from batchrun.core.jobs.record_of import ended_by_us, keeps_payload
from batchrun.core.jobs.timers import NEVER, Timers
from batchrun.core.limits.gate import Gate
from batchrun.core.limits.rate import Rate
from batchrun.core.records.record import Response
from batchrun.core.responses.outcome import Ended, Running
from batchrun.core.responses.retry_after import floor_with_jitter
from batchrun.core.responses.verdict import Trouble, Unclear
from batchrun.core.settings.settings import LONGEST_GAP
from batchrun.core.taxonomy.halts import HaltReason
from batchrun.core.taxonomy.states import State

LOOKS, WATCHED_FOR = 3, 120.0
"""A job that is not found is looked for at least so often, over at least so many seconds."""
LONE_WATCH = 600.0
"""The same, in seconds, for the last open job of a service that has shown others to this process."""
UNAUTHORISED_FOR = 600.0
"""Polls that are refused for their key for so long, in seconds, halt the run."""
UNAUTHORISED_GAP = 30.0
TOLD_AFTER = 10.0
"""Looks of which none is answered for so long, in seconds, are worth telling."""
BLIND_PATIENCE = 3600.0
"""A job past its deadline that cannot be seen is looked for so long, in seconds."""


class Polls:
    """Jobs that wait for their next look, and the polls in flight."""

    def __init__(self, desk: Jobs, endings: Endings, gate: Gate, attempts: Retries, cancels: Cancels) -> None:
        settings = desk.settings
        self._desk = desk
        self._endings = endings
        self._gate = gate
        self._attempts = attempts
        self._cancels = cancels
        self._agenda = Timers()
        self._rate = Rate(settings.poll_rate)
        self._paused_until = float("-inf")
        self.pacing: Pacing = Exponential(settings.poll_min, settings.poll_max)
        self._deadline = settings.deadline
        self.stopped = False
        self.in_flight = 0
        self.polls = 0
        self._last_found: float | None = None
        self._unauthorised_since: float | None = None
        self._unanswered: tuple[float, str] | None = None  # since when looks fail, and what the last one met

    # --- asked ---

    def unanswered(self) -> str | None:
        """What looks meet, where none was answered for a while."""
        if self._unanswered is None or self.in_flight + len(self._desk.watched) == 0:
            return None
        since, met = self._unanswered
        answered = self._last_found is not None and self._last_found >= since
        return None if answered or self._desk.now - since < TOLD_AFTER else met

    def waiting(self) -> list[Job]:
        return self._agenda.waiting()

    # --- told ---

    def begin(self, job: Job) -> None:
        """The job's id is on the disk: watch it, or end it if that was asked for meanwhile."""
        if job.reason is not None:
            self._cancels.begin(job)
            return
        self._desk.move(job, Step.ID_SYNCED)
        self._look_later(job, 0.0, self._deadline_of(job))

    def recover(self, job: Job) -> None:
        """A job that an earlier run left: looked at soon, all of them spread over the first gap."""
        self._desk.move(job, Step.RECOVERED)
        self._agenda.put(job, self._desk.now + self._desk.chance() * self.pacing.gap(0, 0.5))

    def spread(self) -> None:
        """The process was suspended: overdue looks do not come all at once."""
        now, chance = self._desk.now, self._desk.chance
        while (job := self._agenda.take(now)) is not None:
            self._agenda.put(job, now + chance() * self.pacing.gap(job.polls, 0.5))

    def advance(self) -> float:
        """Send the polls that are due, as the rate and the room for answers allow; returns when to come back."""
        if self.stopped:
            return NEVER
        desk, now, agenda, rate = self._desk, self._desk.now, self._agenda, self._rate
        while self._has_room():
            due = agenda.soonest()
            if due > now or rate.ready_at() > now or self._paused_until > now:
                return max(due, rate.ready_at(), self._paused_until)
            job = agenda.take(now)
            if job is not None:
                rate.take(now)
                self.in_flight += 1
                desk.move(job, Step.LOOK_DUE)
                desk.instruct(Poll(job, job.attempt))
        return NEVER  # an answer or a sync makes room

    def answered(self, event: PollAnswered) -> None:
        job, seen, desk = event.job, event.seen, self._desk
        self.in_flight -= 1
        self.polls += 1
        job.polls += 1
        if self._last_found is None:
            self._gate.doubted, desk.touched = False, True
        self._last_found = desk.now
        self._unauthorised_since = None
        look = seen.outcome
        if job.history is not None:
            job.history.looks = 0
        if type(look) is Running:
            if look is not job.look:
                self.note(job, look)
            if job.history is not None and job.history.reason is not None:
                self._settle(job, None)
            elif (deadline := self._deadline_of(job)) <= desk.now:
                self._cancels.latch(job, CancelReason.DEADLINE)
                self._cancels.begin(job)
            else:
                desk.move(job, Step.STILL_OPEN)
                self._look_later(job, look.poll_after or 0.0, deadline)
            return
        assert isinstance(look, Ended)
        if job.reason is not None:
            self._settle(job, look, Response(seen.http_status, seen.request_id, seen.body))
            return
        if self._deadline_of(job) <= desk.now and keeps_payload(CancelReason.DEADLINE, look):
            job.warn("after_deadline")
        response = Response(seen.http_status, seen.request_id, seen.body) if seen.body else None
        self._attempts.conclude(job, look, response)

    def failed(self, event: PollFailed) -> None:
        job, unclear, desk = event.job, event.unclear, self._desk
        self.in_flight -= 1
        self.polls += 1
        job.polls += 1
        since = desk.now
        if self._unanswered is not None and (self._last_found is None or self._last_found < self._unanswered[0]):
            since = self._unanswered[0]
        self._unanswered = since, unclear.problem.message
        if unclear.retry_after is not None and unclear.problem.http_status == 429:
            self._paused_until = desk.now + floor_with_jitter(unclear.retry_after, desk.chance())
        if job.reason is not None:
            self._settle(job, None)
            return
        if unclear.trouble is not Trouble.TRANSIENT and self._write_off(job, unclear.trouble):
            told = f"the service no longer knows the job: {unclear.problem.message}"
            self._attempts.conclude(job, ended_by_us(State.EXPIRED, "job_not_found", told), None)
            return
        deadline = self._deadline_of(job)
        if deadline <= desk.now and self._end_unseen(job, unclear):
            return
        desk.move(job, Step.STILL_OPEN)
        slower = UNAUTHORISED_GAP if unclear.trouble is Trouble.UNAUTHORISED else 0.0
        self._look_later(job, max(slower, unclear.retry_after or 0.0), deadline)

    def note(self, job: Job, look: Running) -> None:
        """Remember what the service says of a job that goes on."""
        job.look = look
        if look.started and job.running_at is None:
            job.running_at = self._desk.wall
        if look.warnings:
            job.warn(*look.warnings)

    # --- within ---

    def _has_room(self) -> bool:
        desk = self._desk
        return self.in_flight < desk.settings.connections and desk.unsynced_records < desk.settings.max_memory

    def _look_later(self, job: Job, floor: float, deadline: float) -> None:
        """Put the job's next look into the agenda: `floor` seconds away at least, its `deadline` at most."""
        desk = self._desk
        delay = self.pacing.gap(job.polls, desk.chance())
        if floor > delay:
            delay = min(floor_with_jitter(floor, desk.chance()), LONGEST_GAP)
        at = desk.now + delay
        self._agenda.put(job, deadline if desk.now < deadline < at else at)

    def _deadline_of(self, job: Job) -> float:
        """When the job's time is up, on the engine's clock."""
        begun = _watched_from(job)
        return NEVER if begun is None else begun - self._desk.epoch + self._deadline

    def _settle(self, job: Job, final: Ended | None, response: Response | None = None) -> None:
        """A look at a job that is to end."""
        at = self._cancels.looked(job, final, self.pacing.gap(job.polls, self._desk.chance()))
        if at is not None:
            self._desk.move(job, Step.UNSETTLED)
            self._agenda.put(job, at)
        elif job.phase is Phase.POLLING:
            self._cancels.conclude(job, final, response)

    def settle_at(self, job: Job, at: float) -> None:
        """The cancel was answered: look once more at `at`."""
        self._agenda.put(job, at)

    def _write_off(self, job: Job, trouble: Trouble) -> bool:
        """Whether a job that is not found may be given up. Halts the run where nothing is found at all."""
        desk, now = self._desk, self._desk.now
        history = job.remember()
        if history.looks == 0:
            history.trouble_since = now
        history.looks += 1
        if trouble is Trouble.UNAUTHORISED:
            self._unauthorised_since = now if self._unauthorised_since is None else self._unauthorised_since
        watched_for = now - history.trouble_since
        if history.looks < LOOKS or watched_for < WATCHED_FOR:
            return False
        if desk.settings.write_off:
            return True
        if self._last_found is not None and self._last_found >= history.trouble_since:
            return True
        if trouble is Trouble.UNAUTHORISED:
            if self._unauthorised_since is not None and now - self._unauthorised_since >= UNAUTHORISED_FOR:
                self._give_up(HaltReason.UNAUTHORISED, "this key may not look at its jobs any more")
        elif self._last_found is None:
            self._give_up(HaltReason.UNKNOWN_TO_SERVICE, f"this key sees none of {len(desk.watched):,} open jobs")
        else:
            return trouble is Trouble.NOT_FOUND and watched_for >= LONE_WATCH
        return False

    def _give_up(self, reason: HaltReason, message: str) -> None:
        self._gate.halt(reason, message)
        self.stopped = True

    def _end_unseen(self, job: Job, unclear: Unclear) -> bool:
        """End a job past its deadline that could not be seen, if that is how it has to end."""
        desk = self._desk
        if unclear.unreadable:
            desk.instruct(KeepUnreadable(job.key, unclear.unreadable))
            told = f"unreadable to the last: {unclear.problem.message}"
            self._endings.end(job, ended_by_us(State.FAILED, "unreadable_result", told), None)
            return True
        begun = _watched_from(job)
        assert begun is not None, "a job past its deadline has a time from which that counts"
        over_since = desk.wall - begun - self._deadline
        seen_since = self._last_found is not None and desk.now - self._last_found < over_since
        if seen_since or over_since >= BLIND_PATIENCE:
            self._cancels.latch(job, CancelReason.DEADLINE)
            self._cancels.begin(job)
            return True
        return False


def _watched_from(job: Job) -> float | None:
    """The time of day from which the job's deadline counts: its submit, or when it began to be looked at once more."""
    history = job.history
    return job.submitted_at if history is None or history.again is None else history.again_since
