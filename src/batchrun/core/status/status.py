"""How a batch stands, from its files alone: what a person is told beside a run, or after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from batchrun.core.journal.entries import Header
from batchrun.core.journal.fold import JournaledRow
from batchrun.core.status.follow import JournalFollower, RecordCounts
from batchrun.core.status.snapshot import LEAST, LOOKS_BACK


class BatchStage(StrEnum):
    """Where a row without a record stands, as far as a journal tells."""

    WAITING = "waiting"
    RETRYING = "retrying"
    SUBMITTING = "submitting"
    WATCHING = "watching"
    CANCELLING = "cancelling"


class JobsNow(StrEnum):
    """How the last run stands or ended."""

    STARTING = "starting"
    RUNNING = "running"
    COMPLETE = "complete"
    HALTED = "halted"
    DETACHED = "detached"
    STOPPED = "stopped"
    LOST = "lost"  # no farewell: killed, or the power or the disk failed


_ENDS = {going.value: going for going in (JobsNow.COMPLETE, JobsNow.HALTED, JobsNow.DETACHED)}


@dataclass(frozen=True, slots=True)
class LastRun:
    """The run that is on, or was last. `until` is when it ended, or of a lost one the last thing known of it.

    `reason` is the signal or the other cause that stopped it; `told` what was said of a halt.
    """

    going: JobsNow
    process: int | None
    since: float | None
    until: float | None
    reason: str | None = None
    told: str | None = None

    @property
    def is_on(self) -> bool:
        return self.going in (JobsNow.STARTING, JobsNow.RUNNING)


@dataclass(frozen=True, slots=True)
class Oldest:
    """The job that is in flight for longest."""

    key: str
    job_id: str
    submitted_at: float


@dataclass(frozen=True, slots=True)
class Lapse:
    """What happened in the last `seconds`."""

    seconds: float
    submits: int
    records: int
    refused: int  # or withdrawn before they went
    unconfirmed: int

    @property
    def submits_a_minute(self) -> float:
        return 60 * self.submits / self.seconds

    @property
    def records_a_minute(self) -> float:
        return 60 * self.records / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatus:
    """All of it, at one moment. `total` is None where no run has read the input to its end."""

    at: float
    header: Header
    run: LastRun
    total: int | None
    states: Mapping[str, int]
    codes: Mapping[tuple[str, str], int]
    with_warnings: int
    tokens: Mapping[str, int | None]
    stages: Mapping[BatchStage, int]  # without `waiting` where the total is not known
    jobs: int  # over there
    oldest: Oldest | None
    lapse: Lapse | None  # None where no run is on, or too little was seen of it
    new_attempts: int
    gone: int  # records that the journal knows and the output has no more
    rewriting: bool
    cancel_all: bool

    @property
    def done(self) -> int:
        return sum(self.states.values())

    @property
    def open_rows(self) -> int | None:
        return None if self.total is None else self.total - self.done

    @property
    def left(self) -> float | None:
        """Seconds to the last record at the present pace; None where nobody can know."""
        if self.open_rows is None or self.lapse is None or not self.lapse.records:
            return None
        return self.open_rows * self.lapse.seconds / self.lapse.records


def standing(
    course: JournalFollower,
    tally: RecordCounts,
    now: float,
    *,
    held: bool,
    process: int | None,
    unread: tuple[int, int],
) -> BatchStatus:
    """How the batch stands at `now`.

    `held` tells whether a run is on, and `process` which; `unread` from where to where the output is still to be
    counted.
    """
    fold = course.fold
    assert fold.header is not None, "a journal without a header is no batch"
    stages = dict.fromkeys(BatchStage, 0)
    jobs = gone = 0
    oldest: Oldest | None = None
    for key, trail in fold.trails.items():
        stage = stage_of(trail)
        stages[stage] += 1
        if stage is BatchStage.WAITING:
            continue
        if trail.job_id is not None:
            jobs += 1
            if oldest is None or trail.submitted_at < oldest.submitted_at:
                oldest = Oldest(key, trail.job_id, trail.submitted_at)
        gone += _is_gone(trail, fold.gen, unread)
    touched = sum(stages.values()) - stages[BatchStage.WAITING]
    total = None if course.fold.rows is None else max(course.fold.rows, tally.records + touched)
    if total is None:
        del stages[BatchStage.WAITING]
    else:
        stages[BatchStage.WAITING] = total - tally.records - touched
    run = _last_run(course, tally, held=held, process=process, over=total == tally.records)
    return BatchStatus(
        at=now,
        header=fold.header,
        run=run,
        total=total,
        states=tally.states,
        codes=tally.codes,
        with_warnings=tally.with_warnings,
        tokens=tally.tokens,
        stages=stages,
        jobs=jobs,
        oldest=oldest,
        lapse=_lapse(course, tally, run, now),
        new_attempts=fold.retries,
        gone=gone,
        rewriting=fold.rewrite is not None,
        cancel_all=fold.cancel_all,
    )


def stage_of(trail: JournaledRow) -> BatchStage:
    """Where a row stands that has no record."""
    if trail.is_void:
        return BatchStage.WAITING
    if trail.cancel is not None:
        return BatchStage.CANCELLING
    if trail.job_id is not None or trail.recorded_at is not None:
        return BatchStage.WATCHING
    return BatchStage.RETRYING if trail.waits else BatchStage.SUBMITTING


def _is_gone(trail: JournaledRow, gen: int, unread: tuple[int, int]) -> bool:
    if trail.marker is None:
        return False
    of_gen, offset, length, _, _ = trail.marker
    return of_gen != gen or not unread[0] < offset + length <= unread[1]


def _last_run(course: JournalFollower, tally: RecordCounts, *, held: bool, process: int | None, over: bool) -> LastRun:
    started, stopped = course.fold.started, course.fold.stopped
    since = None if started is None else started.at
    if held and (started is None or process not in (None, started.pid)):
        return LastRun(JobsNow.STARTING, process, None, None)
    who = None if started is None else started.pid
    if stopped is None:
        if held:
            return LastRun(JobsNow.RUNNING, who, since, None)
        return LastRun(JobsNow.LOST, who, since, max(course.last_at, tally.last_at or 0.0) or None)
    if stopped.reason in _ENDS:
        return LastRun(_ENDS[stopped.reason], who, since, stopped.at, told=stopped.told)
    if over and stopped.told is None:  # a signal that came too late to stop anything
        return LastRun(JobsNow.COMPLETE, who, since, stopped.at)
    reason = None if stopped.reason == JobsNow.STOPPED else stopped.reason
    return LastRun(JobsNow.STOPPED, who, since, stopped.at, reason, stopped.told)


def _lapse(course: JournalFollower, tally: RecordCounts, run: LastRun, now: float) -> Lapse | None:
    if run.going is not JobsNow.RUNNING or run.since is None:
        return None
    seconds = min(LOOKS_BACK, now - run.since)
    if seconds < LEAST:
        return None
    then = now - seconds
    return Lapse(
        seconds,
        submits=course.submits.between(then, now),
        records=tally.lately.between(then, now),
        refused=course.refused.between(then, now),
        unconfirmed=course.lost.between(then, now),
    )
