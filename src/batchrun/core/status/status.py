"""The status of a batch from its files alone, during a run or after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from batchrun.core.journal.entries import Header
from batchrun.core.journal.fold import JournaledRow
from batchrun.core.status.follow import JournalFollower, RecordCounts
from batchrun.core.status.snapshot import LEAST_SECONDS, RECENT_SECONDS


class BatchStage(StrEnum):
    """The stage of a row without a record, as far as a journal shows it."""

    WAITING = "waiting"
    RETRYING = "retrying"
    SUBMITTING = "submitting"
    WATCHING = "watching"
    CANCELLING = "cancelling"


class RunState(StrEnum):
    """Whether the last run is still on, or how it ended."""

    STARTING = "starting"
    RUNNING = "running"
    COMPLETE = "complete"
    HALTED = "halted"
    DETACHED = "detached"
    STOPPED = "stopped"
    LOST = "lost"  # ended unexpectedly: killed, or the power or the disk failed


_ENDS = {state.value: state for state in (RunState.COMPLETE, RunState.HALTED, RunState.DETACHED)}


@dataclass(frozen=True, slots=True)
class LastRun:
    """The current or last run. `until` is when it ended, or for a lost one the last time known of it.

    `reason` is the signal or the other cause that stopped it; `message` is that of a halt.
    """

    state: RunState
    process: int | None
    since: float | None
    until: float | None
    reason: str | None = None
    message: str | None = None

    @property
    def is_on(self) -> bool:
        return self.state in (RunState.STARTING, RunState.RUNNING)


@dataclass(frozen=True, slots=True)
class Oldest:
    """The job that has been in flight longest."""

    key: str
    job_id: str
    submitted_at: float


@dataclass(frozen=True, slots=True)
class RecentCounts:
    """Counts of the last `seconds`."""

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
    """The status at one moment. `total` is None where no run has read the input to its end."""

    at: float
    header: Header
    run: LastRun
    total: int | None
    states: Mapping[str, int]
    codes: Mapping[tuple[str, str], int]
    with_warnings: int
    tokens: Mapping[str, int | None]
    stages: Mapping[BatchStage, int]  # without `waiting` where the total is unknown
    jobs: int  # in flight on the service
    oldest: Oldest | None
    recent: RecentCounts | None  # None where no run is on, or it has just started
    new_attempts: int
    gone: int  # records that the journal names and that are missing from the output
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
        """Seconds to the last record at the present pace; None where unknown."""
        if self.open_rows is None or self.recent is None or not self.recent.records:
            return None
        return self.open_rows * self.recent.seconds / self.recent.records


def status_of(
    follower: JournalFollower,
    counts: RecordCounts,
    now: float,
    *,
    held: bool,
    process: int | None,
    unread: tuple[int, int],
) -> BatchStatus:
    """The status at `now`.

    `held` is whether a run is on, and `process` which; `unread` is the part of the output that is still to be counted.
    """
    fold = follower.fold
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
    total = None if follower.fold.rows is None else max(follower.fold.rows, counts.records + touched)
    if total is None:
        del stages[BatchStage.WAITING]
    else:
        stages[BatchStage.WAITING] = total - counts.records - touched
    run = _last_run(follower, counts, held=held, process=process, over=total == counts.records)
    return BatchStatus(
        at=now,
        header=fold.header,
        run=run,
        total=total,
        states=counts.states,
        codes=counts.codes,
        with_warnings=counts.with_warnings,
        tokens=counts.tokens,
        stages=stages,
        jobs=jobs,
        oldest=oldest,
        recent=_recent(follower, counts, run, now),
        new_attempts=fold.retries,
        gone=gone,
        rewriting=fold.rewrite is not None,
        cancel_all=fold.cancel_all,
    )


def stage_of(trail: JournaledRow) -> BatchStage:
    """The stage of a row without a record."""
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


def _last_run(
    follower: JournalFollower, counts: RecordCounts, *, held: bool, process: int | None, over: bool
) -> LastRun:
    started, stopped = follower.fold.started, follower.fold.stopped
    since = None if started is None else started.at
    if held and (started is None or process not in (None, started.pid)):
        return LastRun(RunState.STARTING, process, None, None)
    who = None if started is None else started.pid
    if stopped is None:
        if held:
            return LastRun(RunState.RUNNING, who, since, None)
        return LastRun(RunState.LOST, who, since, max(follower.last_at, counts.last_at or 0.0) or None)
    if stopped.reason in _ENDS:
        return LastRun(_ENDS[stopped.reason], who, since, stopped.at, message=stopped.told)
    if over and stopped.told is None:  # a signal that came too late to stop anything
        return LastRun(RunState.COMPLETE, who, since, stopped.at)
    reason = None if stopped.reason == RunState.STOPPED else stopped.reason
    return LastRun(RunState.STOPPED, who, since, stopped.at, reason, stopped.told)


def _recent(follower: JournalFollower, counts: RecordCounts, run: LastRun, now: float) -> RecentCounts | None:
    if run.state is not RunState.RUNNING or run.since is None:
        return None
    seconds = min(RECENT_SECONDS, now - run.since)
    if seconds < LEAST_SECONDS:
        return None
    then = now - seconds
    return RecentCounts(
        seconds,
        submits=follower.submits.between(then, now),
        records=counts.recent.between(then, now),
        refused=follower.refused.between(then, now),
        unconfirmed=follower.lost.between(then, now),
    )
