"""The one place where jobs change: their phase, their entries in the journal, their records.

The parts of the engine decide what happens; `Jobs` does it, keeps the counts, and collects the instructions of the
current event. It knows no service and no limit.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from zlib import crc32

from batchrun.core.jobs.lifecycle import OPEN_PHASES, TRANSITIONS, ImpossibleTransition, Phase, Step
from batchrun.core.jobs.messages import Append, BatchFile, Emit, Instruction
from batchrun.core.jobs.record_of import record_of
from batchrun.core.journal.entries import Done, Entry
from batchrun.core.records.artifacts import Artifact
from batchrun.core.records.record import Attempt, Response
from batchrun.core.responses.error import Problem
from batchrun.core.responses.outcome import NO_USAGE, Ended, Running, Usage
from batchrun.core.settings.settings import Settings
from batchrun.core.taxonomy.rules import State

# --- What the user gave, and what is in flight: a row, and the job that is made of it ---


@dataclass(frozen=True, slots=True)
class About:
    """What a record needs of its row. Rows without metadata of their own share one.

    `metadata` is the user's own, as a JSON object. `tokens` is the estimate that the token rate counts.
    `sendable` is false where the input no longer holds the body that was sent: it cannot be retried.
    """

    model: str | None = None
    metadata: bytes | None = None
    tokens: int = 0
    sendable: bool = True


@dataclass(frozen=True, slots=True)
class Row:
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


class History:
    """What only few jobs need to remember: earlier attempts, warnings, polls that did not find it, a cancel."""

    __slots__ = (
        "attempts",
        "cancel_reason",
        "cancel_sent",
        "cancel_synced",
        "cancelled_at",
        "earlier_state",
        "ended_at",
        "not_found",
        "not_found_since",
        "reopened_at",
        "usage",
        "warnings",
    )

    def __init__(self) -> None:
        self.attempts: tuple[Attempt, ...] = ()
        self.warnings: tuple[str, ...] = ()
        # an ended job whose record was dropped and that is polled again: how it had ended, and since when it is polled
        self.earlier_state: State | None = None
        self.reopened_at = 0.0
        # polls in a row that did not find the job, and since when
        self.not_found = 0
        self.not_found_since = 0.0
        # the cancelled flag
        self.cancel_reason: CancelReason | None = None
        self.cancelled_at = 0.0
        self.cancel_synced = False
        self.cancel_sent = False
        self.ended_at: float | None = None  # when a cancelled job was first seen to be over
        self.usage: Usage = NO_USAGE


IDLE = -1
"""The `due` of a job that waits for no time."""


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
        "phase",
        "polls",
        "row_sha256",
        "running_at",
        "submitted_at",
    )

    def __init__(self, row: Row) -> None:
        self.key = row.key
        self.about = row.about
        self.row_sha256 = row.row_sha256
        self.phase = Phase.WAITING
        self.attempt = 1
        self.due = IDLE
        self.job_id: str | None = None
        self.last_seen: Running | None = None
        self.polls = 0
        self.submitted_at: float | None = None
        self.running_at: float | None = None
        self.history: History | None = None

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

    def warn(self, *warnings: str) -> None:
        history = self._remember()
        history.warnings = tuple(dict.fromkeys((*history.warnings, *warnings)))

    # --- submits ---

    def submitted(self, at: float, job_id: str | None = None) -> None:
        """The row was sent, or may have been: `job_id` is what the service calls it."""
        self.job_id = job_id
        self.submitted_at = at

    def identified(self, job_id: str, submitted_at: float) -> None:
        """The service knows the job by `job_id`; what was only needed to submit it is dropped."""
        self.job_id = job_id
        self.submitted_at = submitted_at
        self.row_sha256 = ""

    def retried(self, ended: Attempt) -> None:
        """An attempt ended and another follows: the job is a row without an id again."""
        history = self._remember()
        history.attempts = (*history.attempts, ended)
        history.earlier_state = None
        self.attempt += 1
        self.job_id = self.last_seen = self.submitted_at = self.running_at = None

    # --- polls ---

    def seen(self, running: Running, at: float) -> None:
        """What the service says of the job, which is not over."""
        self.last_seen = running
        if running.started and self.running_at is None:
            self.running_at = at
        if running.warnings:
            self.warn(*running.warnings)

    def found(self) -> None:
        """A poll was answered."""
        self.polls += 1
        history = self.history
        if history is not None:
            history.not_found = 0

    def not_seen(self) -> None:
        """A poll failed."""
        self.polls += 1

    def not_found(self, now: float) -> tuple[int, float]:
        """A poll failed because the service does not know the job: how many did so in a row, and since when."""
        history = self._remember()
        if history.not_found == 0:
            history.not_found_since = now
        history.not_found += 1
        return history.not_found, history.not_found_since

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

    def over_after_cancel(self, now: float, usage: Usage) -> None:
        """A cancelled job was seen to be over, with what it used."""
        history = self._remember()
        history.ended_at, history.usage = now, usage

    # --- what an earlier run left ---

    def resumed(self, attempt: int, attempts: tuple[Attempt, ...]) -> None:
        """Resume a row at its `attempt`, after the `attempts` before it."""
        self.attempt = attempt
        if attempts or self.history is not None:
            history = self._remember()
            history.attempts = attempts

    def reopened(self, earlier_state: State, at: float) -> None:
        """The job had ended in `earlier_state` and its record was dropped: it is polled again."""
        history = self._remember()
        history.earlier_state, history.reopened_at = earlier_state, at

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


Wait = Callable[[Job], None]
"""What is done with a job once its line is synced."""


class Jobs:
    """All jobs in memory. `now` is the engine's clock; `epoch` added to it is the time of day.

    Other parts read its fields and set none of them.
    """

    def __init__(self, settings: Settings, run_id: str, now: float, epoch: float, chance: Callable[[], float]) -> None:
        self.settings = settings
        self.run_id = run_id
        self.epoch = epoch
        self.chance = chance
        self.now = now
        self.out: list[Instruction] = []
        self.changed = True  # something happened besides polls of jobs that still run

        self.unsubmitted: dict[str, Job] = {}  # by key: rows without a job id, whatever their phase
        self.watched: dict[str, Job] = {}  # by job id
        self.in_phase: dict[Phase, int] = dict.fromkeys(Phase, 0)
        self.open_jobs = 0
        self.to_end = 0  # cancelled jobs without a record

        self.states: Counter[str] = Counter()
        self.codes: Counter[tuple[str, str]] = Counter()
        self.with_warnings = 0
        self.accepted = 0
        self.retries = 0

        self.unsynced_records = 0  # bytes, those of responses whose files are being written included
        self._gen = 0
        self._output_end = 0
        self._given = {BatchFile.JOURNAL: 0, BatchFile.OUTPUT: 0}
        self._waits: dict[BatchFile, deque[tuple[int, Job, Wait]]] = {
            BatchFile.JOURNAL: deque(),
            BatchFile.OUTPUT: deque(),
        }
        self._lines: deque[tuple[int, int, str]] = deque()  # length, CRC and state of records that are not synced

    @property
    def wall(self) -> float:
        """The time of day, in seconds since 1970; it runs evenly even where the wall clock is set."""
        return self.epoch + self.now

    # --- events ---

    def begin_event(self, now: float) -> list[Instruction]:
        """An event is handled at `now`; its instructions are collected in the list that is returned."""
        self.now = now
        self.out = []
        return self.out

    def instruct(self, instruction: Instruction) -> None:
        self.out.append(instruction)

    def note_change(self) -> None:
        """Something happened after which submits, rows and the run's end are looked at."""
        self.changed = True

    def changes_handled(self) -> None:
        self.changed = False

    # --- jobs ---

    def recovered(self, *, accepted: int, retries: int, gen: int, output_end: int) -> None:
        """The counts of earlier runs, and where their output ends."""
        self.accepted, self.retries = accepted, retries
        self._gen, self._output_end = gen, output_end

    def open(self, row: Row) -> Job:
        """A new job for a row, waiting."""
        job = Job(row)
        self.unsubmitted[row.key] = job
        self.in_phase[Phase.WAITING] += 1
        return job

    def move(self, job: Job, step: Step) -> None:
        """Let `job` take a step; raises ImpossibleTransition for one that is not in the table."""
        phase = job.phase
        target = TRANSITIONS.get((phase, step))
        if target is None:
            raise ImpossibleTransition(phase, step, job.describe())
        job.phase = target
        in_phase = self.in_phase
        in_phase[phase] -= 1
        in_phase[target] += 1
        if step is not Step.POLL_DUE and step is not Step.STILL_OPEN:
            self.open_jobs += (target in OPEN_PHASES) - (phase in OPEN_PHASES)
            self.changed = True

    def identify(self, job: Job, job_id: str, submitted_at: float) -> None:
        """Give the job the id by which the service knows it."""
        del self.unsubmitted[job.key]
        self.watched[job_id] = job
        job.identified(job_id, submitted_at)

    def retry(self, job: Job, ended: Attempt) -> None:
        """Forget the attempt that ended; the job is a row without an id again."""
        if job.job_id is not None and self.watched.get(job.job_id) is job:
            del self.watched[job.job_id]
            self.unsubmitted[job.key] = job
        job.retried(ended)

    def cancel(self, job: Job, reason: CancelReason, *, synced: bool = False) -> None:
        """Set the job's cancelled flag: it ends as cancelled whatever comes."""
        job.cancel(reason, self.now, synced=synced)
        self.to_end += 1

    def count_accepted(self) -> None:
        self.accepted += 1

    def count_retry(self) -> None:
        self.retries += 1

    # --- lines ---

    def append(self, entry: Entry, job: Job, then: Wait | None = None, *, lazy: bool = False) -> None:
        """Append an entry to the journal; `then(job)` is called once it is synced."""
        self.out.append(Append(entry.to_line(), lazy))
        self._given[BatchFile.JOURNAL] += 1
        if then is not None:
            self._waits[BatchFile.JOURNAL].append((self._given[BatchFile.JOURNAL], job, then))

    def note(self, entry: Entry) -> None:
        """Append an entry that belongs to no job in memory."""
        self.append(entry, _NO_JOB, _nothing)

    def record(
        self,
        job: Job,
        end: Ended,
        response: Response | None,
        then: Wait | None,
        artifacts: tuple[Artifact, ...] = (),
    ) -> None:
        """Write the record of a job that ended so and whose `artifacts` are on the disk; `then(job)` is called once it
        is synced."""
        self.move(job, Step.ENDED)
        self.to_end -= job.cancel_reason is not None
        record = record_of(job, end, response, self.run_id, self.wall, artifacts)
        line = record.to_json() + b"\n"
        self.out.append(Emit(line))
        self.states[record.state.value] += 1
        if record.error is not None and record.state is not State.SUCCEEDED:
            self.codes[record.state.value, record.error.code or record.error.kind] += 1
        self.with_warnings += record.state is State.SUCCEEDED and bool(record.warnings)
        self._given[BatchFile.OUTPUT] += 1
        self._waits[BatchFile.OUTPUT].append((self._given[BatchFile.OUTPUT], job, then or _nothing))
        self._lines.append((len(line), crc32(line), record.state.value))
        self.unsynced_records += len(line)

    def hold(self, size: int) -> None:
        """A response of `size` bytes is kept in memory until its files are written."""
        self.unsynced_records += size

    def release(self, size: int) -> None:
        self.unsynced_records -= size

    def synced(self, file: BatchFile, upto: int) -> None:
        """The first `upto` lines given to `file` are on the disk."""
        waits = self._waits[file]
        while waits and waits[0][0] <= upto:
            _, job, then = waits.popleft()
            if file is BatchFile.OUTPUT:
                self._finish(job)
            then(job)

    @property
    def all_synced(self) -> bool:
        """Whether every line that something waits for is on the disk."""
        return not any(self._waits.values())

    def _finish(self, job: Job) -> None:
        length, crc, state = self._lines.popleft()
        self.unsynced_records -= length
        self.append(Done(job.key, self._gen, self._output_end, length, crc, state), job, lazy=True)
        self._output_end += length
        self.move(job, Step.RECORD_SYNCED)
        if job.job_id is None or self.watched.get(job.job_id) is not job:
            del self.unsubmitted[job.key]
        else:
            del self.watched[job.job_id]


_NO_JOB = Job(Row(""))


def _nothing(_: Job) -> None:
    """For lines that nothing waits for."""
