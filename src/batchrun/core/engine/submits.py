"""Submits: from a row that waits for its turn to a job with an id on the disk.

Rows wait in `Queues`. One that the service refused waits its own delay first, and ends where it is refused for its own
sake.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

from batchrun.core.engine.breakers import Breakers
from batchrun.core.engine.endings import Endings, Retries
from batchrun.core.engine.polls import Polls
from batchrun.core.engine.resends import Resends
from batchrun.core.engine.stalls import Stalls
from batchrun.core.jobs.job import IDLE, NEVER, Job, Timers, WaitsFor
from batchrun.core.jobs.jobs import Jobs, cancelled, rejected
from batchrun.core.jobs.lifecycle import Phase, Step
from batchrun.core.jobs.messages import KeepUnreadable, Note, Submit, SubmitAccepted, SubmitFailed, SubmitRefused
from batchrun.core.journal.entries import Cleared, Intent, Submitted, Unconfirmed
from batchrun.core.limits.gate import Gate
from batchrun.core.limits.lane import Lane, RefusedRow, Resource, Waiting
from batchrun.core.records.record import Response
from batchrun.core.responses.error import Problem, our_problem
from batchrun.core.responses.outcome import Ended, Running
from batchrun.core.responses.retry_after import floor_with_jitter
from batchrun.core.responses.verdict import Accepted, Refused
from batchrun.core.taxonomy.rules import HaltReason, Retry, State
from batchrun.core.text.readable import visible

# --- Rows that wait for their turn to be submitted ---
#
# There is one queue for each endpoint and model, since that is what a service may limit: rows of one that waits do not hold
# up the others. Among those that may go, the one goes first that came first.
#
# A row that alone takes more tokens than a minute has goes alone, once no other of its queue waits: a minute after the last
# one, and the rate then makes the next wait for its tokens.


ALONE_AFTER = 60.0
"""A row with more than a minute's tokens is sent so long after the last one, in seconds."""


def oversized_note(key: str, tokens: int, limit: float, model: str | None) -> str:
    """What a user is told of such a row, whose tokens are estimated."""
    of = f" of {visible(model, 40)}" if model else ""
    shown = f"{visible(key, 60)} takes about {tokens:,} tokens, more than the {limit:,.0f} per minute{of}"
    return f"{shown}: rows like it go alone, after the others"


class LaneQueue:
    """The rows of one lane, each with its place in the order of all rows."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self._rows: deque[tuple[int, Job]] = deque()
        self._oversized: deque[tuple[int, Job]] = deque()

    def __len__(self) -> int:
        return len(self._rows) + len(self._oversized)

    def put(self, place: int, job: Job) -> None:
        self._rows.append((place, job))

    def put_first(self, place: int, job: Job) -> None:
        """Before all others of the queue; `place` is used where there are none."""
        self._rows.appendleft((self._rows[0][0] if self._rows else place, job))

    def put_oversized(self, place: int, job: Job) -> None:
        self._oversized.append((place, job))

    def first(self) -> int | None:
        """The place of the row that is the next to go; None where none waits."""
        for rows in (self._rows, self._oversized):
            while rows:
                place, job = rows[0]
                if job.phase is Phase.WAITING:
                    return place
                rows.popleft()  # cancelled while it waited
        return None

    def opens_at(self, jobs: int) -> float | None:
        """From when on its first row may go, with so many `jobs` in flight; None where only an event can change that."""
        opens = self.lane.opens_at(jobs)
        if self._rows or opens is None:
            return opens
        return None if self.lane.in_flight else max(opens, self.lane.last_at + ALONE_AFTER)

    def take(self) -> Job:
        """Take the first row out."""
        return (self._rows or self._oversized).popleft()[1]


class Queues:
    """All queues, by what their rows are limited by."""

    def __init__(self) -> None:
        self._queues: dict[Resource, LaneQueue] = {}
        self._entered = 0
        self._at_hand = 0
        self.lack_place = False  # as of the last `next`: the first row of some queue waits for nothing but a place

    @property
    def at_hand(self) -> int:
        """Rows that wait for a turn, as of the last `next`, but for those whose lane waits."""
        return self._at_hand

    def any_wait(self) -> bool:
        return any(len(queue) for queue in self._queues.values())

    def all(self) -> tuple[LaneQueue, ...]:
        return tuple(self._queues.values())

    def enter(self, lane: Lane, job: Job, *, oversized: bool = False) -> None:
        """A row waits behind all others; with `oversized` behind all that are not."""
        self._entered += 1
        queue = self._of(lane)
        if oversized:
            queue.put_oversized(self._entered, job)
        else:
            queue.put(self._entered, job)
            self._at_hand += 1

    def enter_first(self, lane: Lane, job: Job) -> None:
        """A row waits before all others of its lane."""
        self._of(lane).put_first(self._entered, job)

    def next(
        self, now: float, open_jobs: Mapping[Resource, int], given_back: Callable[[Resource], int]
    ) -> tuple[LaneQueue | None, float]:
        """The queue whose first row is the next to go, and `now`; without one, None and when there may be one.

        `open_jobs` hold places, but for as many as are `given_back`.
        """
        self.lack_place = False
        chosen: LaneQueue | None = None
        least, soonest, at_hand = 0, NEVER, 0
        for resource, queue in self._queues.items():
            place = queue.first()
            if place is None:
                continue
            jobs = open_jobs[resource] - given_back(resource)
            opens = queue.opens_at(jobs)
            if opens is None:
                at_hand += len(queue)  # until the next event
                self.lack_place |= queue.lane.lacks_place(now, jobs)
            elif opens > now:
                soonest = min(soonest, opens)
            else:
                at_hand += len(queue)
                if chosen is None or place < least:
                    chosen, least = queue, place
        self._at_hand = at_hand
        return chosen, soonest if chosen is None else now

    def _of(self, lane: Lane) -> LaneQueue:
        queue = self._queues.get(lane.resource)
        if queue is None:
            queue = self._queues[lane.resource] = LaneQueue(lane)
        return queue


# --- From a row that waits to a job ---


class Submits:
    """Rows that wait for their turn, and the POSTs in flight."""

    def __init__(
        self,
        jobs: Jobs,
        endings: Endings,
        gate: Gate,
        retries: Retries,
        polls: Polls,
        breakers: Breakers,
        stalls: Stalls,
        resends: Resends,
    ) -> None:
        self._jobs = jobs
        self._endings = endings
        self._gate = gate
        self._breakers = breakers
        self._retries = retries
        self._polls = polls
        self._stalls = stalls
        self._resends = resends
        self._queues = Queues()
        self._delayed = Timers(WaitsFor.REFUSED)  # rows that were refused
        self._refused: dict[Job, RefusedRow] = {}  # until they are accepted, or over
        # Refused for good before anything was accepted: the run may be at fault, not the row.
        self._held: list[tuple[Job, Refused]] = []
        self._oversized_noted = False
        self.refusals = self.answered = 0
        self.lack_place = False  # as of the last `advance`: a row waits for nothing but a place

    def waiting(self) -> int:
        """Rows in memory that wait for a turn, but for those that the service makes wait."""
        return self._queues.at_hand

    @property
    def given_back(self) -> int:
        """Places that are given back by jobs which may never end."""
        return self._stalls.given_back

    def enter(self, job: Job) -> None:
        """A row waits for its turn, behind all others."""
        lane, tokens = self._lane_of(job), job.about.tokens
        limit = self._gate.tokens_a_minute(lane)
        oversized = limit is not None and tokens > limit
        if limit is not None and oversized and not self._oversized_noted:
            self._oversized_noted = True
            if limit != self._jobs.settings.tpm:  # of that the user was told before the run
                self._jobs.instruct(Note(oversized_note(job.key, tokens, limit, job.about.model)))
        self._queues.enter(lane, job, oversized=oversized)

    def _enter_again(self, job: Job) -> None:
        """A row that was refused has waited its delay.

        It goes behind the others, but for its second try where others were accepted since the first: that shows soonest
        for whose sake it was refused, and whether the cut that it caused was for nothing.
        """
        lane, row = self._lane_of(job), self._refused[job]
        if row.refusals == 1 and lane.counts.accepted_since(row):
            self._queues.enter_first(lane, job)
        else:
            self.enter(job)

    def advance(self) -> float:
        """Write the intents of the rows that may go now; returns when to come back without an event."""
        jobs, gate, now = self._jobs, self._gate, self._jobs.now
        self._breakers.sweep()
        while (due := self._retries.take(now)) is not None:
            self.enter(due)
        while (due := self._delayed.take(now)) is not None:
            if due.phase is Phase.WAITING:
                self._enter_again(due)
            else:  # cancelled
                self._refused.pop(due, None)
        back_at = min(self._retries.next_due(), self._delayed.next_due(), self._send_again())
        while len(self._resends) < jobs.settings.submits:
            queue, opens = self._queues.next(now, jobs.open_of, self._stalls.given_back_of)
            self.lack_place = self._queues.lack_place
            if queue is None:
                return min(back_at, opens)
            open_jobs = jobs.open_jobs - self._stalls.given_back
            opens_for_all = gate.opens_at(open_jobs)
            if opens_for_all is None or opens_for_all > now:
                self.lack_place |= gate.lacks_place(now, open_jobs)
                return back_at if opens_for_all is None else min(opens_for_all, back_at)
            job = queue.take()
            gate.took(queue.lane, now, job.about.tokens)
            self._breakers.sent(job, queue.lane)
            jobs.move(job, Step.TURN_TAKEN)
            entry = Intent(job.key, job.attempt, job.row_sha256, jobs.wall)
            jobs.append(entry, job, self._intent_synced)
        return back_at

    def _send_again(self) -> float:
        """Send rows whose response was lost, with the keys that they had; returns when to come back."""
        jobs, gate, resends, now = self._jobs, self._gate, self._resends, self._jobs.now
        if not len(resends):
            return NEVER
        opens_at = NEVER
        for job in resends.ready():
            if resends.is_late(job):
                self._end_unanswered(job)
                continue
            lane = self._lane_of(job)
            opens, opens_for_all = lane.opens_at(0), gate.opens_again_at()
            if opens is None or opens_for_all is None:
                continue
            if max(opens, opens_for_all) > now:
                opens_at = min(opens_at, max(opens, opens_for_all))
                continue
            resends.sent(job)
            gate.took(lane, now, job.about.tokens)
            jobs.move(job, Step.TURN_TAKEN)
            jobs.posted(job)
            jobs.instruct(Submit(job, job.attempt))
        return min(opens_at, resends.next_due())

    def lost_before(self, job: Job, since: float) -> bool:
        """An earlier run lost the response to the row, whose intent is of the time of day `since`: whether it is sent again."""
        if not self._resends.lost(job, since, None):
            return False
        self._jobs.move(job, Step.RESPONSE_LOST)
        return True

    def cancel_unanswered(self, job: Job) -> None:
        """End a cancelled row that would have been sent again: that might create its job only now."""
        self._end_unanswered(job)

    def waits(self) -> tuple[Waiting, ...]:
        """The rows that wait since the service refused some, those of one endpoint and model together."""
        delayed: dict[Resource, list[float]] = {}
        for job in self._refused:
            if job.phase is Phase.WAITING and job.due != IDLE:
                delayed.setdefault(job.about.resource, []).append(Timers.time_of(job))
        now = self._jobs.now
        found = (
            queue.lane.waiting(now, len(queue), delayed.get(queue.lane.resource, [])) for queue in self._queues.all()
        )
        return tuple(one for one in found if one is not None)

    def _intent_synced(self, job: Job) -> None:
        gate, lane, now = self._gate, self._lane_of(job), self._jobs.now
        if job.phase is not Phase.INTENDING:  # cancelled meanwhile
            return
        waits = max(gate.paused_until, lane.rate.paused_until) > now or self._breakers.holds(job, lane)
        if gate.halted is not None or gate.closed or waits:
            gate.withdrew(lane, now, job.about.tokens)
            self._jobs.move(job, Step.WITHDRAWN)
            self._clear(job)
            self._queues.enter_first(lane, job)
            return
        self._jobs.move(job, Step.INTENT_SYNCED)
        self._jobs.posted(job)
        self._jobs.instruct(Submit(job, job.attempt))

    def cancel_intending(self, job: Job) -> None:
        """End a cancelled row whose intent is written and whose POST has not begun."""
        assert job.cancel_reason is not None
        self._gate.withdrew(self._lane_of(job), self._jobs.now, job.about.tokens)
        self._clear(job)
        self._endings.end(job, cancelled(job.cancel_reason, None, sent=False), None)

    def accepted(self, event: SubmitAccepted) -> None:
        job, accepted, jobs = event.job, event.accepted, self._jobs
        if event.warnings:
            job.warn(*event.warnings)
        self.answered += 1
        sent_at = jobs.answered(job)
        self._refused.pop(job, None)
        self._resends.forget(job)
        names_a_job = accepted.retrievable or type(accepted.outcome) is Running
        if names_a_job and jobs.is_known(accepted.job_id) and self._is_anothers(job, accepted):
            return
        self._gate.accepted(self._lane_of(job), jobs.now, sent_at, job.about.tokens, accepted.shown)
        jobs.count_accepted()
        self._end_held()
        job_id, seen = accepted.job_id, accepted.outcome
        if isinstance(seen, Running):
            assert job_id is not None, "a verdict names every job that runs"
            jobs.move(job, Step.ACCEPTED)
            jobs.identify(job, job_id, jobs.wall)
            job.seen(seen, jobs.wall)
            jobs.append(Submitted(job.key, job.attempt, job_id, jobs.wall), job, self._id_synced)
            return
        job.submitted(jobs.wall, job_id)  # for the record; there is nothing to poll
        self._stalls.ended(job)
        if job_id is not None and accepted.retrievable:
            jobs.append(Submitted(job.key, job.attempt, job_id, jobs.wall), job)
            jobs.ended_at_once(job, job_id)
            if job.had(job_id):
                seen = replace(seen, retry=Retry.NO)
        response = Response(accepted.http_status, accepted.request_id, accepted.body)
        self._retries.conclude(job, seen, response, then=self._safe)

    def _is_anothers(self, job: Job, accepted: Accepted) -> bool:
        """Whether the row was answered with the job of another one, running or over: then it ends unconfirmed.

        An earlier attempt of the row itself may be named again. It is watched like any job, and not retried
        (`Retries.conclude`).
        """
        jobs, job_id = self._jobs, accepted.job_id
        if job_id is None or job.had(job_id):
            return False
        owner = jobs.job_of_another(job, job_id)
        if owner is None:
            if jobs.repeats_ids:
                jobs.share(job, job_id)
            return False
        message = f"the response to {job.key!r} has the id {job_id}, which is {owner}"
        self._gate.lost(self._lane_of(job), jobs.now, message, answered=True)
        self._end_unconfirmed(job, our_problem("duplicate_job_id", message, http_status=accepted.http_status))
        return True

    def _id_synced(self, job: Job) -> None:
        self._gate.safe()
        self._polls.begin(job)

    def refused(self, event: SubmitRefused) -> None:
        job, refused, gate, jobs = event.job, event.refused, self._gate, self._jobs
        self.refusals += 1
        self.answered += 1
        sent_at = jobs.answered(job)
        job.refused(refused.problem)
        lane, tokens, others = self._lane_of(job), job.about.tokens, jobs.open_of[job.about.resource] - 1
        above = jobs.open_jobs > gate.places or others >= lane.places.limit
        row = gate.refused(lane, jobs.now, sent_at, refused, tokens, others, self._refused.get(job))
        if row is not None and above:
            self._stalls.refused()
        if job in self._resends:
            self._refused_again(job, refused)
            return
        self._clear(job)
        if job.cancel_reason is not None:
            self._refused.pop(job, None)
            self._endings.end(job, cancelled(job.cancel_reason, None, sent=False), None)
        elif row is not None and lane.counts.is_at_fault(row, tokens):
            del self._refused[job]
            self._end_refused(job, refused)
        elif row is not None:
            jobs.move(job, Step.REFUSED)
            self._refused[job] = row
            self._delayed.put(job, jobs.now + self._delay(row, refused))
        elif refused.again or refused.rule.halts:
            jobs.move(job, Step.REFUSED)
            self._queues.enter_first(lane, job)
        elif gate.known or self._jobs.settings.keep_going:
            self._end_refused(job, refused)
        else:
            self._jobs.move(job, Step.REFUSED)
            self._held.append((job, refused))

    def _refused_again(self, job: Job, refused: Refused) -> None:
        """The service refused a row that it may have accepted before: that shows nothing of the first POST."""
        waits = refused.again or refused.rule.halts
        since = self._jobs.wall
        if job.cancel_reason is None and waits:
            self._gate.safe()
            if self._resends.lost(job, since, refused.problem, refused.retry_after or 0.0):
                self._jobs.move(job, Step.RESPONSE_LOST)
                return
            self._end_unconfirmed(job, _refused_later(refused.problem), exposed=False)
        else:
            self._resends.forget(job)
            self._end_unconfirmed(job, _refused_later(refused.problem))

    def failed(self, event: SubmitFailed) -> None:
        self.answered += 1
        sent_at = self._jobs.answered(event.job)
        self._refused.pop(event.job, None)
        problem, rule = event.ambiguous.problem, event.ambiguous.rule
        self._gate.lost(self._lane_of(event.job), self._jobs.now, problem.message, answered=event.ambiguous.answered)
        if rule is not None and rule.halts:
            self._gate.halt(HaltReason(rule.billing_reason or HaltReason.AUTH.value), problem.message)
        shape = event.ambiguous.shape
        if shape is not None and not (self._gate.proven or self._jobs.settings.keep_going):
            message = f"row {event.job.key!r} ends as unconfirmed: {problem.message}"
            self._gate.halt(HaltReason.UNKNOWN_RESPONSE, message, shape)
        if self._is_sent_again(event, sent_at):
            return
        self._resends.forget(event.job)
        if event.ambiguous.unreadable and event.job.cancel_reason is None:
            self._jobs.instruct(KeepUnreadable(event.job.key, event.ambiguous.unreadable))
        self._end_unconfirmed(event.job, problem)

    def _is_sent_again(self, event: SubmitFailed, sent_at: float) -> bool:
        """Whether a row without a response is sent again, with the same idempotency key."""
        job, ambiguous = event.job, event.ambiguous
        problem = ambiguous.problem
        was_read = ambiguous.shape is not None or problem.code != "answer_lost"
        if was_read or job.cancel_reason is not None:
            return False
        if not self._resends.lost(job, sent_at + self._jobs.epoch, problem):
            return False
        self._gate.safe()
        self._jobs.move(job, Step.RESPONSE_LOST)
        return True

    def input_is_over(self) -> None:
        """No row is left that could show who was at fault for the first refusals."""
        if self._gate.halted is None and not self._queues.any_wait() and self._gate.in_flight == 0:
            self._end_held()

    def _delay(self, row: RefusedRow, refused: Refused) -> float:
        """How long a row waits that was refused: what the service asks for at least."""
        return floor_with_jitter(max(row.delay, refused.retry_after or 0.0), self._jobs.chance())

    def _lane_of(self, job: Job) -> Lane:
        return self._gate.lane(job.about.resource, self._jobs.now)

    def _end_refused(self, job: Job, refused: Refused) -> None:
        end = rejected(refused.problem, refused.rule.state, refused.rule.billing_reason)
        self._endings.end(job, end, None)

    def _end_unanswered(self, job: Job) -> None:
        """A row that waits to be sent again is over."""
        problem = self._resends.forget(job)
        lost = our_problem("answer_lost", "an earlier run ended between its submit and the response")
        self._end_unconfirmed(job, problem or lost, exposed=False)

    def _end_unconfirmed(self, job: Job, problem: Problem, *, exposed: bool = True) -> None:
        then = self._safe if exposed else None
        self._jobs.append(Unconfirmed(job.key, job.attempt, self._jobs.wall), job, then)
        job.submitted(self._jobs.wall)
        if job.cancel_reason is not None:
            job.warn("submit_unanswered")
            self._endings.end(job, cancelled(job.cancel_reason, None, sent=True), None)
        else:
            self._endings.end(job, Ended(State.UNCONFIRMED, problem=problem), None)

    def _end_held(self) -> None:
        held, self._held = self._held, []
        for job, refused in held:
            if job.phase is Phase.WAITING:
                self._end_refused(job, refused)

    def _clear(self, job: Job) -> None:
        """Journal that nothing was sent."""
        self._jobs.append(Cleared(job.key, job.attempt, self._jobs.wall), job, self._safe)

    def _safe(self, _: Job) -> None:
        self._gate.safe()


def _refused_later(problem: Problem) -> Problem:
    """Why a row is unconfirmed that was refused when it was sent again."""
    message = f"the response was lost; sent again with the same key it was refused: {problem.message}"
    return our_problem("answer_lost", message, http_status=problem.http_status)
