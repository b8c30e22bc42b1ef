"""What the user gave, and what is in flight: a row, and the job that is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from heapq import heappop, heappush
from math import ceil
from typing import NamedTuple, final

from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.pacing.pacing import UNKNOWN_AGE, ClassPacing
from batchrun.core.records.record import Attempt, LastRefusal, Refusals
from batchrun.core.responses.error import MAX_SHORT_TEXT, Problem
from batchrun.core.responses.outcome import NO_USAGE, Running, Usage
from batchrun.core.taxonomy.rules import State


@dataclass(frozen=True, slots=True)
class About:
    """What a record needs of its row. Rows without metadata of their own share one.

    `path` is that of its endpoint. `metadata` is the user's own, as a JSON object. `tokens` is the estimate that the token
    rate counts.
    `token_cap` is the row's own cap of output tokens, 0 where there is none or it is unknown. `body_hash` is one of what
    is sent for the row, where the service repeats ids; 0 where it is unknown. `sendable` is false where the input no
    longer holds the body that was sent: it cannot be retried. `window` is within how many seconds the service promises to
    end the job, where the row says so.
    """

    model: str | None = None
    metadata: bytes | None = None
    tokens: int = 0
    sendable: bool = True
    token_cap: int = 0
    body_hash: int = 0
    path: str = ""
    window: float = 0.0

    @property
    def resource(self) -> tuple[str, str | None]:
        """What the service may limit rows like this one by."""
        return self.path, self.model


@final
class Row(NamedTuple):
    """One row of the input as the engine knows it; its body stays in the input until it is sent.

    `key` is the custom_id, or a hash of the row with its occurrence, and leads back to the line.
    `problem` is set where the check refused the row: it then ends without a request.
    """

    key: str
    about: About = About()
    row_sha256: str = ""
    problem: Problem | None = None


class CancelReason(StrEnum):
    """Why a job is cancelled."""

    USER = "user"
    DEADLINE = "deadline"
    INTERRUPT = "interrupt"


@dataclass(slots=True)
class History:
    """What only few jobs need to remember: earlier attempts, refusals, warnings, polls that did not find it, a cancel."""

    attempts: tuple[Attempt, ...] = ()
    refusals: Refusals | None = None
    warnings: tuple[str, ...] = ()
    # an ended job whose record was dropped and that is polled again: how it had ended
    earlier_state: State | None = None
    # since when its deadline counts, where that was found out to be another time than that of its submit
    counted_from: float | None = None
    # the clock of this run says that an earlier one submitted it in the future
    ahead: bool = False
    # the service's clock was asked for
    age_asked: bool = False
    # polls of the attempts before this one
    polls_before: int = 0
    # polls in a row that did not find the job, and since when
    not_found: int = 0
    not_found_since: float = 0.0
    # polls in a row that showed what may be an end, and since when
    unclear: int = 0
    unclear_since: float = 0.0
    # an id that no row of the batch has and that a poll showed, and since when polls show it
    shown_id: str | None = None
    shown_since: float = 0.0
    # the cancelled flag
    cancel_reason: CancelReason | None = None
    cancelled_at: float = 0.0
    cancel_synced: bool = False
    cancel_sent: bool = False
    cancel_not_found: bool = False  # the service did not find the job that it was to cancel
    ended_at: float | None = None  # when a cancelled job was first seen to be over
    usage: Usage = NO_USAGE
    model: str | None = None


IDLE = -1
"""The `due` of a job that waits for no time."""
UNKNOWN = -1.0
"""The `running_at` of a job that runs and perhaps did so already when an earlier run polled it."""
_WAITING = Phase.WAITING  # looked up once: there may be a million jobs


class Job:
    """A row in flight: small, because there may be a million of them.

    Only its own methods set its fields, but for two: `phase` is set by `Jobs.move`, `due` by `Timers`. The runner
    carries it from an instruction to the event that answers it and reads `key`, `job_id` and `attempt`.
    """

    __slots__ = (
        "about",
        "attempt",
        "due",
        "history",
        "job_id",
        "key",
        "last_seen",
        "pace",
        "phase",
        "polls",
        "row_sha256",
        "running_at",
        "seen_age",
        "submitted_at",
    )

    def __init__(
        self, row: Row, attempt: int = 1, job_id: str | None = None, submitted_at: float | None = None
    ) -> None:
        """A row that is to be submitted; with a `job_id` one that the service knows by it."""
        self.key = row.key
        self.about = row.about
        self.row_sha256 = row.row_sha256 if job_id is None else ""
        self.phase = _WAITING
        self.attempt = attempt
        self.due = IDLE
        self.job_id = job_id
        self.last_seen: Running | None = None
        self.polls = 0
        self.submitted_at = submitted_at
        self.running_at: float | None = None
        self.history: History | None = None
        self.pace: ClassPacing | None = None  # what is known of such jobs
        self.seen_age = 0.0 if job_id is None else UNKNOWN_AGE  # at the last poll that found it

    @property
    def cancel_reason(self) -> CancelReason | None:
        """Why the job is to end; None while it is not."""
        return None if self.history is None else self.history.cancel_reason

    @property
    def cancel_synced(self) -> bool:
        """Whether the entry of its cancel is on the disk."""
        return self.history is not None and self.history.cancel_synced

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts before this one."""
        return () if self.history is None else self.history.attempts

    @property
    def polls_of_attempt(self) -> int:
        """The polls of this attempt."""
        return self.polls if self.history is None else self.polls - self.history.polls_before

    def had(self, job_id: str | None) -> bool:
        """Whether an earlier attempt of the row was the job `job_id`."""
        history = self.history
        if history is None or job_id is None:
            return False
        return any(attempt.job_id == job_id for attempt in history.attempts)

    def warn(self, *warnings: str) -> None:
        history = self._remember()
        history.warnings = tuple(dict.fromkeys((*history.warnings, *warnings)))

    # --- submits ---

    def submitted(self, at: float, job_id: str | None = None) -> None:
        """The row was sent, or may have been: `job_id` is what the service calls it."""
        self.job_id = job_id
        self.submitted_at = at

    def refused(self, problem: Problem) -> None:
        """The service refused the row, or could not be reached: nothing was created."""
        history = self._remember()
        count = 1 if history.refusals is None else history.refusals.count + 1
        history.refusals = Refusals(
            count, LastRefusal(problem.code, problem.message[:MAX_SHORT_TEXT], problem.http_status)
        )

    def identified(self, job_id: str, submitted_at: float) -> None:
        """The service knows the job by `job_id`; what was only needed to submit it is dropped."""
        self.job_id = job_id
        self.submitted_at = submitted_at
        self.row_sha256 = ""

    def retried(self, ended: Attempt) -> None:
        """An attempt ended and another follows: the job is a row without an id again."""
        history = self._remember()
        history.attempts = (*history.attempts, ended)
        history.polls_before = self.polls
        history.earlier_state = history.counted_from = None
        history.ahead = history.age_asked = False
        self.attempt += 1
        self.job_id = self.last_seen = self.submitted_at = self.running_at = None
        self.seen_age = 0.0

    # --- polls ---

    def seen(self, running: Running, at: float) -> None:
        """What the service says of the job, which is not over: first in the response to its POST."""
        if running.started and self.running_at is None:
            resumed = self.last_seen is None and at != self.submitted_at
            self.running_at = UNKNOWN if resumed else at
        self.last_seen = running
        if running.warnings:
            self.warn(*running.warnings)
        history = self.history
        if history is not None and running.unclear is None:
            history.unclear = 0

    def paced(self, pace: ClassPacing) -> None:
        """Its polls are paced as those of its class."""
        self.pace = pace

    def found(self, age: float) -> float:
        """A poll was answered at this age of the job; the age at which one was answered before, 0 for its submit."""
        before, self.seen_age = self.seen_age, age
        self.polls += 1
        history = self.history
        if history is not None:
            history.not_found = 0
        return before

    def not_seen_for_a_while(self) -> None:
        """What happened since the last poll took place while nobody polled it."""
        self.seen_age = UNKNOWN_AGE

    def not_seen(self) -> None:
        """A poll failed."""
        self.polls += 1
        history = self.history
        if history is not None:
            history.age_asked = False

    def asked_to_wait(self) -> None:
        """The service asked for a time before its next poll: it is not planned again."""
        self._remember()

    def not_found(self, now: float) -> tuple[int, float]:
        """A poll failed because the service does not know the job: how many did so in a row, and since when."""
        history = self._remember()
        if history.not_found == 0:
            history.not_found_since = now
        history.not_found += 1
        return history.not_found, history.not_found_since

    def is_unclear(self, now: float) -> tuple[int, float]:
        """A poll showed what may be an end: how many did so in a row, and since when."""
        history = self._remember()
        if history.unclear == 0:
            history.unclear_since = now
        history.unclear += 1
        return history.unclear, history.unclear_since

    def shows_id(self, job_id: str, now: float) -> float:
        """A poll showed an id that no row of the batch has: since when polls show that one."""
        history = self._remember()
        if history.shown_id != job_id:
            history.shown_id, history.shown_since = job_id, now
        return history.shown_since

    # --- cancels ---

    def cancel(self, reason: CancelReason, now: float, *, synced: bool = False) -> None:
        """Set the cancelled flag; `synced` where its entry is on the disk."""
        history = self._remember()
        history.cancel_reason = reason
        history.cancelled_at = now
        history.cancel_synced = synced

    def cancel_is_synced(self) -> None:
        history = self._remember()
        history.cancel_synced = True

    def cancel_is_sent(self) -> None:
        history = self._remember()
        history.cancel_sent = True

    def cancel_finds_nothing(self) -> None:
        """The service did not find the job that it was to cancel."""
        history = self._remember()
        history.cancel_not_found = True

    def over_after_cancel(self, now: float, usage: Usage, model: str | None) -> None:
        """A cancelled job was seen to be over, with what it used."""
        history = self._remember()
        history.ended_at, history.usage, history.model = now, usage, model

    # --- what an earlier run left ---

    def resumed(self, attempt: int, attempts: tuple[Attempt, ...]) -> None:
        """Resume a row at its `attempt`, after the `attempts` before it."""
        self.attempt = attempt
        self.seen_age = UNKNOWN_AGE
        if attempts or self.history is not None:
            history = self._remember()
            history.attempts = attempts

    def reopened(self, earlier_state: State, at: float) -> None:
        """The job had ended in `earlier_state` and its record was dropped: it is polled again."""
        history = self._remember()
        history.earlier_state, history.counted_from = earlier_state, at

    def submitted_ahead(self) -> None:
        """By the clock of this run an earlier one submitted it in the future."""
        history = self._remember()
        history.ahead = True

    def ask_for_age(self) -> None:
        """The service is asked how old the job is."""
        history = self._remember()
        history.age_asked = True

    def counted(self, since: float) -> None:
        """It was found out since when the deadline counts."""
        history = self._remember()
        history.counted_from, history.ahead = since, False

    def _remember(self) -> History:
        if self.history is None:
            self.history = History()
        return self.history

    def __repr__(self) -> str:
        return f"<Job {self.key} {self.phase} attempt {self.attempt} id {self.job_id}>"

    def describe(self) -> str:
        """All that is known of the job, for an error that should never be seen."""
        parts = [f"{name}={getattr(self, name)!r}" for name in self.__slots__ if name != "history"]
        if self.history is not None:
            parts += [f"{name}={getattr(self.history, name)!r}" for name in History.__slots__]
        return ", ".join(parts)


# --- Everything that waits for a time, by due time ---
#
# A wheel of buckets: one list of jobs for each tick of 1/64 s, and a heap of the ticks in use. There are at
# most a few thousand ticks between now and the farthest poll, so the heap stays small however many jobs
# wait: putting and taking cost the same at a thousand jobs and at a million. A plain heap of jobs was
# declined: its cost and its memory (a tuple and a float for each entry) grow with the number of jobs.
#
# A job waits for one time of one kind at most: `job.due` says which. An entry whose job has meanwhile moved is stale
# and skipped when its tick comes. Due times are rounded up to the tick, never down.


TICKS_PER_SECOND = 64
NEVER = float("inf")


class WaitsFor(IntEnum):
    """What a job waits for: a `due` of one kind never equals one of another, or a stale entry would come true there."""

    POLL = 0
    RETRY = 1
    REFUSED = 2
    SENT_AGAIN = 3


_KINDS = 4
_DUES_PER_SECOND = TICKS_PER_SECOND * _KINDS


class Timers:
    """Jobs that wait for the same, by due time; times are seconds on the engine's clock."""

    def __init__(self, kind: WaitsFor) -> None:
        self._buckets: dict[int, list[Job]] = {}  # by `due`: the tick and the kind of wait in one number
        self._dues: list[int] = []
        self._kind = int(kind)

    def put(self, job: Job, at: float) -> None:
        """Let `job` wait until `at`; an earlier wait of it is forgotten."""
        due = ceil(at * TICKS_PER_SECOND) * _KINDS + self._kind
        bucket = self._buckets.get(due)
        if bucket is None:
            self._buckets[due] = [job]
            heappush(self._dues, due)
        else:
            bucket.append(job)
        job.due = due

    @staticmethod
    def forget(job: Job) -> None:
        """Let `job` wait for nothing."""
        job.due = IDLE

    def take(self, now: float) -> Job | None:
        """The next job that is due, or None; it waits no longer."""
        dues, kind = self._dues, self._kind
        while dues and dues[0] - kind <= now * _DUES_PER_SECOND:
            due = dues[0]
            bucket = self._buckets[due]
            while bucket:
                job = bucket.pop()
                if job.due == due:
                    job.due = IDLE
                    return job
            heappop(dues)
            del self._buckets[due]
        return None

    @staticmethod
    def time_of(job: Job) -> float:
        """When a job that waits is due."""
        return (job.due // _KINDS) / TICKS_PER_SECOND

    def waiting(self) -> list[Job]:
        """The jobs that wait, in no order."""
        return [job for due, bucket in self._buckets.items() for job in bucket if job.due == due]

    def soonest(self) -> float:
        """A time before which no job is due, near enough to ask again then; NEVER where none waits.

        Unlike `next_due` it does not check whether that tick's entries are stale.
        """
        return (self._dues[0] - self._kind) / _DUES_PER_SECOND if self._dues else NEVER

    def next_due(self) -> float:
        """When the next job will be due; NEVER where none waits."""
        while self._dues:
            due = self._dues[0]
            bucket = self._buckets[due]
            while bucket:
                if bucket[-1].due == due:
                    return (due - self._kind) / _DUES_PER_SECOND
                bucket.pop()
            heappop(self._dues)
            del self._buckets[due]
        return NEVER
