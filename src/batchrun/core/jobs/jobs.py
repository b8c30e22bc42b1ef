"""The one place where jobs change: their phase, their entries in the journal, their records.

The parts of the engine decide what happens; `Jobs` does it, keeps the counts, and collects the instructions of the
current event. It knows no service and no limit.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import chain
from zlib import crc32

from batchrun.core.jobs.ended_ids import EndedIds
from batchrun.core.jobs.job import UNKNOWN, CancelReason, Job, Row
from batchrun.core.jobs.lifecycle import OPEN_PHASES, TRANSITIONS, ImpossibleTransition, Phase, Step
from batchrun.core.jobs.messages import Append, BatchFile, Emit, Instruction
from batchrun.core.journal.entries import Cancelling, Done, Entry
from batchrun.core.journal.fold import JournaledRow
from batchrun.core.records.artifacts import Artifact
from batchrun.core.records.record import Attempt, RecordLine, Response, moment, record_id, seconds_between
from batchrun.core.responses.error import Problem, our_problem
from batchrun.core.responses.outcome import NO_USAGE, Billing, Ended, reached
from batchrun.core.settings.settings import Settings
from batchrun.core.taxonomy.rules import State

SAMPLE_LENGTH = 300
"""Characters that are kept of a service's message, where it stands for all that failed alike."""
_NEW_SHARE = 0.05
"""What a new value counts for in a mean of recent ones."""
Wait = Callable[[Job], None]
"""What is done with a job once its line is synced."""


class Jobs:
    """All jobs in memory. `now` is the engine's clock; `epoch` added to it is the time of day.

    Other parts read its fields and set none of them.
    """

    def __init__(
        self,
        settings: Settings,
        run_id: str,
        now: float,
        epoch: float,
        chance: Callable[[], float],
        *,
        repeats_ids: bool = False,
    ) -> None:
        self.settings = settings
        self.run_id = run_id
        self.epoch = epoch
        self.chance = chance
        self.now = now
        self.out: list[Instruction] = []
        self.changed = True  # something happened besides polls of jobs that still run

        self.unsubmitted: dict[str, Job] = {}  # by key: rows without a job id, whatever their phase
        self.watched: dict[str, Job] = {}  # by job id
        self.repeats_ids = repeats_ids  # the service answers equal requests with one job
        self.sharing: dict[str, list[Job]] = {}  # by job id: further rows of a job in `watched`
        self.shared = 0  # such rows
        self.ended_ids = EndedIds()
        self._left_open: dict[str, int] = {}  # by job id: rows of an earlier run that are not taken up
        self._posted: dict[str, float] = {}  # by key: since when a POST is in flight, the oldest first
        self.post_seconds = 0.0  # how long a POST takes, recently
        self.in_phase: dict[Phase, int] = dict.fromkeys(Phase, 0)
        self.open_jobs = 0
        self.open_of: Counter[tuple[str, str | None]] = Counter()  # of them, those of each endpoint and model
        self.to_end = 0  # cancelled jobs without a record
        self.all_cancelled = False

        self.states: Counter[str] = Counter()
        self.codes: Counter[tuple[str, str]] = Counter()
        self.samples: dict[tuple[str, str], tuple[str, str]] = {}  # row key and message of one record for each code
        self.with_warnings = 0
        self.accepted = self.accepted_before = 0  # of the whole batch, and of earlier runs
        self.retries = self.retries_before = 0

        self.unsynced_records = 0  # bytes, those of responses whose files are being written included
        self._gen = 0
        self._output_end = 0
        self._given = dict.fromkeys(BatchFile, 0)
        self._waits: dict[BatchFile, deque[tuple[int, Job, Wait]]] = {file: deque() for file in BatchFile}
        self._lines: deque[tuple[int, int, str]] = deque()  # length, CRC and state of records that are not synced

    @property
    def wall(self) -> float:
        """The time of day, in seconds since 1970; it runs evenly even where the wall clock is set."""
        return self.epoch + self.now

    def age(self, job: Job) -> float:
        """Seconds since the job was submitted."""
        return self.now + self.epoch - (job.submitted_at or self.now + self.epoch)

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

    def recovered(
        self,
        *,
        accepted: int,
        retries: int,
        gen: int,
        output_end: int,
        ended_ids: EndedIds,
        left_open: Mapping[str, int],
    ) -> None:
        """The counts of earlier runs, where their output ends, the ids of jobs that ended in them or are left alone."""
        self.accepted = self.accepted_before = accepted
        self.retries = self.retries_before = retries
        self._gen, self._output_end = gen, output_end
        self.ended_ids = ended_ids
        self._left_open = dict(left_open)

    def open(self, row: Row) -> Job:
        """A new job for a row, waiting."""
        job = Job(row)
        self.unsubmitted[row.key] = job
        self.in_phase[Phase.WAITING] += 1
        return job

    def open_sent(
        self, rows: Iterable[tuple[Row, JournaledRow]]
    ) -> tuple[list[Job], list[tuple[Job, float]], list[tuple[Row, JournaledRow]]]:
        """New jobs for rows that an earlier run sent, watched: for each `open`, `identify` and RECOVERED in one.

        Returned are the jobs; those of them that were submitted in the future, with the time; and the rows whose job
        another row has. There may be a million rows: this is their hot path.
        """
        watched, wall, phase = self.watched, self.wall, _RECOVERED
        opened: list[Job] = []
        of_the_future: list[tuple[Job, float]] = []
        rest: list[tuple[Row, JournaledRow]] = []
        about, alike = None, 0
        for row, journaled in rows:
            job_id, submitted_at = journaled.job_id, journaled.submitted_at
            if job_id is None or job_id in watched:
                rest.append((row, journaled))
                continue
            ahead = submitted_at > wall
            watched[job_id] = job = Job(row, journaled.attempt, job_id, wall if ahead else submitted_at)
            job.phase = phase
            opened.append(job)
            if row.about is not about:
                if about is not None:
                    self.open_of[about.resource] += alike
                about, alike = row.about, 0
            alike += 1
            if ahead:
                of_the_future.append((job, submitted_at))
        if about is not None:
            self.open_of[about.resource] += alike
        self.in_phase[phase] += len(opened)
        self.open_jobs += len(opened)
        self.changed = True
        return opened, of_the_future, rest

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
            if change := (target in OPEN_PHASES) - (phase in OPEN_PHASES):
                self.open_jobs += change
                self.open_of[job.about.resource] += change
            self.changed = True

    def identify(self, job: Job, job_id: str, submitted_at: float) -> None:
        """Give the job the id by which the service knows it."""
        del self.unsubmitted[job.key]
        if job_id in self.watched:
            self.sharing.setdefault(job_id, []).append(job)
            self.shared += 1
        else:
            self.watched[job_id] = job
        job.identified(job_id, submitted_at)

    def retry(self, job: Job, ended: Attempt) -> None:
        """Forget the attempt that ended; the job is a row without an id again."""
        if self._leave(job):
            self.unsubmitted[job.key] = job
        job.retried(ended)

    def all(self) -> tuple[Job, ...]:
        """Every job in memory."""
        shared = chain.from_iterable(self.sharing.values())
        return (*self.unsubmitted.values(), *self.watched.values(), *shared)

    def is_watched(self, job: Job) -> bool:
        """Whether the job can be polled by its id."""
        job_id = job.job_id
        return job_id is not None and (self.watched.get(job_id) is job or job in self.sharing.get(job_id, ()))

    def _leave(self, job: Job) -> bool:
        """Forget the id of a job that is over, all but its hash; False where it was not watched."""
        job_id = job.job_id
        if job_id is None:
            return False
        others = self.sharing.get(job_id)
        if self.watched.get(job_id) is job:
            del self.watched[job_id]
            if others:
                self.watched[job_id] = others.pop(0)
                self.shared -= 1
        elif others and job in others:
            others.remove(job)
            self.shared -= 1
        else:
            return False
        if others is not None and not others:
            del self.sharing[job_id]
        self.ended_ids.add(job_id, job.about.body_hash)
        return True

    # --- whose job an id is ---

    def is_known(self, job_id: str | None) -> bool:
        """Whether a row of the batch has or had the job `job_id`; a quick answer, for most are new."""
        return job_id in self.watched or hash(job_id) in self.ended_ids.index

    def job_of_another(self, job: Job, job_id: str) -> str | None:
        """Whose job `job_id` is, in words, where it is or was another row's; None where it is nobody's, or `job` shares it."""
        other = self.watched.get(job_id)
        if not self.is_known(job_id) or self._is_shared(job, job_id, other):
            return None
        return "a job of this batch that has ended" if other is None else f"the job of {other.key!r}"

    def _is_shared(self, job: Job, job_id: str, other: Job | None) -> bool:
        """Whether the service gave one job to two equal requests."""
        if not self.repeats_ids:
            return False
        body_hash = self.ended_ids.body_hash(job_id) if other is None else other.about.body_hash
        return body_hash == job.about.body_hash != 0

    def share(self, job: Job, job_id: str) -> None:
        """Note on `job`, and on the row that has the job `job_id`, where one does or did, that they share it."""
        other = self.watched.get(job_id)
        if other is not None and other is not job:
            other.warn("shared_job")
        if self.is_known(job_id):
            job.warn("shared_job")

    def recalled(self, job_id: str) -> None:
        """A row of the job `job_id` that was left alone is taken up."""
        if job_id in self._left_open:
            self._left_open[job_id] -= 1

    def is_wanted_by_others(self, job: Job) -> bool:
        """Whether another row waits for the same job and is not cancelled."""
        job_id = job.job_id or ""
        if self._left_open.get(job_id):
            return True
        if job_id not in self.sharing:
            return False
        rows = (self.watched[job_id], *self.sharing[job_id])
        return any(row is not job and row.cancel_reason is None and row.phase in OPEN_PHASES for row in rows)

    def ended_at_once(self, job: Job, job_id: str) -> None:
        """The response to the row's POST named the job `job_id` and showed its end."""
        self.ended_ids.add(job_id, job.about.body_hash)

    def posted(self, job: Job) -> None:
        """The row is sent: until that is answered, a job may be its that nobody in the batch has."""
        self._posted[job.key] = self.now

    def answered(self, job: Job) -> float:
        """Its POST is answered, or lost; returns when it was sent."""
        posted_at = self._posted.pop(job.key, None)
        if posted_at is None:
            return self.now
        seconds, known = self.now - posted_at, self.post_seconds
        self.post_seconds = known + (seconds - known) * _NEW_SHARE if known else seconds
        return posted_at

    def in_flight_since(self) -> float | None:
        """Since when the oldest POST is in flight; None where there is none."""
        return next(iter(self._posted.values()), None)

    def cancel(self, job: Job, reason: CancelReason, then: Wait | None = None) -> None:
        """Set the job's cancelled flag, it ends as cancelled whatever comes; `then` where that is not journaled yet."""
        job.cancel(reason, self.now, synced=then is None)
        self.to_end += 1
        if then is not None:
            self.append(Cancelling(job.key, job.attempt, reason.value, self.wall), job, then)

    def cancel_all(self, *, stands: bool = True) -> None:
        """A cancel of all rows stands, those included that are not read yet; it stands no more once all have a record."""
        self.all_cancelled = stands

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
        state = record.state.value
        self.states[state] += 1
        if record.error is not None and record.state is not State.SUCCEEDED:
            group = state, record.error.code or record.error.kind
            self.codes[group] += 1
            if group not in self.samples:
                self.samples[group] = job.key, record.error.message[:SAMPLE_LENGTH]
        self.with_warnings += record.state is State.SUCCEEDED and bool(record.warnings)
        self._given[BatchFile.OUTPUT] += 1
        self._waits[BatchFile.OUTPUT].append((self._given[BatchFile.OUTPUT], job, then or _nothing))
        self._lines.append((len(line), crc32(line), state))
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
        if not self._leave(job):
            del self.unsubmitted[job.key]


_NO_JOB = Job(Row(""))
_RECOVERED = TRANSITIONS[Phase.WAITING, Step.RECOVERED]


def _nothing(_: Job) -> None:
    """For lines that nothing waits for."""


# --- How a job's end becomes its record ---


_GOOD = frozenset({State.SUCCEEDED, State.INCOMPLETE})


def record_of(
    job: Job, end: Ended, response: Response | None, run_id: str, wall: float, artifacts: tuple[Artifact, ...] = ()
) -> RecordLine:
    """The record of a job that ended so, at `wall` seconds since 1970."""
    history = job.history
    warnings = end.warnings
    usage = end.usage
    model, refusals = end.model, None
    if history is not None:
        refusals = history.refusals
        model = model or history.model
        warnings = tuple(dict.fromkeys((*history.warnings, *end.warnings)))
        if usage is NO_USAGE:
            usage = history.usage
    if end.state is State.SUCCEEDED and end.token_cap is None and reached(job.about.token_cap, usage):
        warnings = tuple(dict.fromkeys((*warnings, "truncated")))
    running_at = None if job.running_at == UNKNOWN else job.running_at
    status = end.status
    if status is None and job.last_seen is not None:
        status = job.last_seen.status
    return RecordLine(
        id=record_id(run_id, job.key),
        custom_id=job.key,
        job_id=job.job_id,
        state=end.state,
        status=status,
        model=model or job.about.model,
        retry_count=len(job.attempts),
        billing=end.billing,
        billing_reason=end.billing_reason,
        error=end.problem,
        output_text=end.text,
        response=response,
        artifacts=artifacts,
        warnings=warnings,
        tool_errors=end.tool_errors,
        usage=usage,
        polls=job.polls,
        attempts=job.attempts,
        submitted_at=moment(job.submitted_at),
        running_at=moment(running_at),
        finished_at=moment(wall),
        queued_s=seconds_between(job.submitted_at, running_at),
        running_s=seconds_between(running_at, wall),
        metadata=job.about.metadata or b"{}",
        refusals=refusals,
    )


def cancelled(reason: CancelReason, final: Ended | None, *, sent: bool) -> Ended:
    """The end of a cancelled job: `final` is how it ended on the service, if that is known.

    The user's cancel drops the payload of a job that completed nevertheless; its usage and a warning stay. A deadline
    does not drop a result: what is finished by then is kept.
    """
    if reason is CancelReason.DEADLINE:
        if final is not None and keeps_payload(reason, final):
            return _with_warning(final, "after_deadline")
        return ended_by_us(State.TIMEOUT, "deadline_exceeded", "the job was not done within its deadline", final)
    code = "cancelled_by_user" if reason is CancelReason.USER else "cancelled_by_interrupt"
    message = "cancelled before it was sent" if not sent else "cancelled; the service may have finished and billed it"
    end = ended_by_us(State.CANCELLED, code, message, final)
    if not sent:
        return Ended(end.state, problem=end.problem, billing=Billing.NOT_BILLED)
    late = final is not None and final.state in _GOOD
    return _with_warning(end, "late_completed") if late else end


def keeps_payload(reason: CancelReason | None, final: Ended) -> bool:
    """Whether the payload of `final` goes into the record of a job that was cancelled for `reason`."""
    return reason is None or (reason is CancelReason.DEADLINE and final.state in _GOOD)


def ended_by_us(state: State, code: str, message: str, final: Ended | None = None) -> Ended:
    """An end that we state; status, usage and billing are the service's where it gave them."""
    problem = our_problem(code, message)
    if final is None:
        return Ended(state, problem=problem)
    return Ended(
        state, status=final.status, problem=problem, billing=final.billing, usage=final.usage, model=final.model
    )


def rejected(problem: Problem, state: State = State.REJECTED, billing_reason: str | None = None) -> Ended:
    """The end of a row that was refused: by the check before the run, or by the service."""
    return Ended(state, problem=problem, billing=Billing.NOT_BILLED, billing_reason=billing_reason)


def _with_warning(end: Ended, warning: str) -> Ended:
    return replace(end, warnings=(*end.warnings, warning))
