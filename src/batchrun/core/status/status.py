"""The status of a batch from its files alone, during a run or after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import orjson

from batchrun.core.jobs.jobs import SAMPLE_LENGTH
from batchrun.core.journal.entries import Header
from batchrun.core.journal.fold import Folding, JournaledRow, JournalState
from batchrun.core.status.own_fault import EndedJobs, FailingJobs, failing_jobs
from batchrun.core.status.snapshot import LEAST_SECONDS, RECENT_SECONDS, Stalled, Unusual
from batchrun.core.status.told_times import ToldTimes
from batchrun.core.taxonomy.rules import State, interned_state
from batchrun.core.text.readable import seconds_of_utc, utc

# --- The two files of a batch, followed while they grow, by whoever only wants its status ---
#
# Of the output, counters alone are kept, however many records there are. Of the journal, the rows without a record: a
# row whose record is known is forgotten, so that memory depends on what is in flight and not on what is done.
#
# `done` entries are trusted for that, because comparing a million keys would be too slow. They are wrong where somebody
# shortened the output: `trusts_too_much` detects it, and a follower that is started again as `sceptical` forgets a row
# only when its record was read.


_TOKENS = ("input_tokens", "output_tokens", "total_tokens")
_STATES = frozenset(state.value for state in State)
_EVER = ""


class CountsPerSecond:
    """How often something happened in each second, as far back as is still asked for."""

    def __init__(self) -> None:
        self._seconds: Counter[int] = Counter()

    def add(self, at: float) -> None:
        self._seconds[int(at)] += 1

    def between(self, since: float, until: float) -> int:
        """The count between the two times. What was earlier is forgotten."""
        for second in [second for second in self._seconds if second < int(since)]:
            del self._seconds[second]
        return sum(count for second, count in self._seconds.items() if second <= until)


class RecordCounts:
    """Counts of records. The times of those that ended before `since` (ISO 8601, as in records) are not kept."""

    def __init__(self) -> None:
        self.records = 0
        self.states: Counter[str] = Counter()
        self.codes: Counter[tuple[str, str]] = Counter()  # (state, error code) of those that did not succeed
        self.samples: dict[tuple[str, str], tuple[str, str]] = {}  # row key and message of one of them
        self.with_warnings = 0  # succeeded, with something odd about the result
        self.tokens: dict[str, int | None] = dict.fromkeys(_TOKENS)  # None until a record has a number
        self.recent = CountsPerSecond()
        self.times = ToldTimes()
        self.ended_jobs = EndedJobs()
        self.since = _EVER
        self._last = ""

    @property
    def last_at(self) -> float | None:
        """When the last record was written."""
        return seconds_of_utc(self._last)

    def keep_times_since(self, since: float) -> None:
        """From now on keep the times of records that ended after `since`."""
        self.since = utc(since)

    def take(self, line: bytes) -> str | None:
        """Count the record on `line`; return its row's key, or None if the line is not a record."""
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(record, dict):
            return None
        key, state = record.get("custom_id"), record.get("state")
        if not (isinstance(key, str) and isinstance(state, str)):
            return None
        self.records += 1
        self.states[interned_state(state)] += 1
        if state != State.SUCCEEDED:
            self._count_error(key, interned_state(state), record.get("error"))
        elif record.get("warnings"):
            self.with_warnings += 1
        self._count_tokens(record.get("usage"))
        self.times.take(record)
        finished = record.get("finished_at")
        if isinstance(finished, str):
            self._last = max(self._last, finished)
            self.ended_jobs.take(record, finished, state)
            if finished >= self.since and (at := seconds_of_utc(finished)) is not None:
                self.recent.add(at)
        return key

    def _count_error(self, key: str, state: str, error: Any) -> None:
        code = (error.get("code") or error.get("kind")) if isinstance(error, dict) else None
        if isinstance(code, str) and state in _STATES:
            self.codes[state, code] += 1
            message = error.get("message")
            if (state, code) not in self.samples and isinstance(message, str):
                self.samples[state, code] = key, message[:SAMPLE_LENGTH]

    def _count_tokens(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        tokens = self.tokens
        for name in _TOKENS:
            count = usage.get(name)
            if type(count) is int:
                tokens[name] = (tokens[name] or 0) + count


class JournalFollower:
    """Takes the lines of a journal. The times of what happened before `since` are not kept."""

    def __init__(self, *, sceptical: bool = False) -> None:
        self.submits, self.refused, self.lost = CountsPerSecond(), CountsPerSecond(), CountsPerSecond()
        self.ended_jobs = EndedJobs()
        self._folding = Folding(
            told={
                "started": self._moment,
                "intent": partial(self._count, self.submits),
                "submitted": self._moment,
                "ended": self._attempt_ended,
                "cleared": partial(self._count, self.refused),
                "unconfirmed": partial(self._count, self.lost),
                "cancelling": self._moment,
                "done": self._done,
            }
        )
        self.take = self._folding.take
        self.last_at = 0.0
        self.since = 0.0
        self._ends: dict[int, int] = {}  # of a generation: where its last record ends
        self.marked = 0  # bytes of the records that it names
        self._seen: set[str] | None = set() if sceptical else None

    @property
    def fold(self) -> JournalState:
        return self._folding.fold

    @property
    def records_end(self) -> int:
        """The output was on the disk at least up to here."""
        return self._ends.get(self.fold.gen, 0)

    def trusts_too_much(self, output_size: int) -> bool:
        """Whether records that it took for written are missing from an output of this size."""
        if self._seen is not None or self.fold.rewrite is not None:  # between two generations nothing fits
            return False
        return self.records_end > output_size or any(gen != self.fold.gen for gen in self._ends)

    def recorded(self, key: str) -> None:
        """The row's record was read in the output."""
        self.fold.journaled_rows.pop(key, None)
        if self._seen is not None:
            self._seen.add(key)

    def _moment(self, values: dict[str, Any]) -> None:
        self.last_at = max(self.last_at, values["at"])

    def _attempt_ended(self, values: dict[str, Any]) -> None:
        self._moment(values)
        self.ended_jobs.add(values["at"], values["state"], values["code"], values["attempt"])

    def _count(self, counts: CountsPerSecond, values: dict[str, Any]) -> None:
        at = values["at"]
        self.last_at = max(self.last_at, at)
        if at >= self.since:
            counts.add(at)

    def _done(self, values: dict[str, Any]) -> None:
        gen, end = values["gen"], values["offset"] + values["length"]
        self._ends[gen] = max(self._ends.get(gen, 0), end)
        self.marked += values["length"]
        if values["length"] and (self._seen is None or values["key"] in self._seen):  # else it may be gone
            self.fold.journaled_rows.pop(values["key"], None)


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
    PARTIAL = "partial"  # it did what it was asked to, and rows are left
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
    samples: Mapping[tuple[str, str], tuple[str, str]]
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
    polls_per_job: float | None  # of the jobs that the run submitted itself, as is the next
    mean_lag: float | None  # seconds
    forecast: tuple[float, float] | None  # seconds to the last record, at least and at most; None where unknown
    unusual: Unusual | None  # jobs that run unusually long
    failing: FailingJobs | None = None  # jobs that the service fails by its own fault
    edited: str | None = None  # what is odd about the output, in words, where somebody edited it
    refused: int = 0  # rows that were refused, and wait to be sent again
    stalled: Stalled | None = None  # jobs that have not ended for long

    @property
    def done(self) -> int:
        return sum(self.states.values())

    @property
    def open_rows(self) -> int | None:
        return None if self.total is None else self.total - self.done

    @property
    def left(self) -> float | None:
        """Seconds to the last record, about; None where unknown."""
        if self.forecast is not None:
            return sum(self.forecast) / 2
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
    assert fold.header is not None, "expected a journal with a header"
    stages = dict.fromkeys(BatchStage, 0)
    jobs = gone = refused = 0
    oldest: Oldest | None = None
    open_jobs: list[tuple[str, float]] = []
    for key, journaled in fold.journaled_rows.items():
        stage = stage_of(journaled)
        stages[stage] += 1
        if stage is BatchStage.WAITING:
            refused += journaled.only_refused
            continue
        if journaled.job_id is not None:
            jobs += 1
            if oldest is None or journaled.submitted_at < oldest.submitted_at:
                oldest = Oldest(key, journaled.job_id, journaled.submitted_at)
            if stage is BatchStage.WATCHING:
                open_jobs.append((key, journaled.submitted_at))
        gone += _is_gone(journaled, fold.gen, unread)
    touched = sum(stages.values()) - stages[BatchStage.WAITING]
    total = None if follower.fold.rows is None else max(follower.fold.rows, counts.records + touched)
    if total is None:
        del stages[BatchStage.WAITING]
    else:
        stages[BatchStage.WAITING] = total - counts.records - touched
    run = _last_run(follower, counts, held=held, process=process, over=total == counts.records)
    recent = _recent(follower, counts, run, now)
    mean_lag, forecast, unusual, stalled, failing = counts.times.mean_lag(), None, None, None, None
    if run.is_on and run.since is not None:
        failing = failing_jobs((follower.ended_jobs, counts.ended_jobs), run.since)
    if run.state is RunState.RUNNING and recent is not None and run.since is not None:
        stalled = counts.times.stalled(now, run.since, open_jobs)
    if run.state is RunState.RUNNING and recent is not None:
        outlook, unusual = counts.times.outlook(now, mean_lag, open_jobs)
        if outlook is not None and total is not None and recent.records:
            posting = stages[BatchStage.SUBMITTING]
            rows = total - counts.records - len(open_jobs) - posting
            rate = recent.submits / recent.seconds
            forecast = outlook.left(now, rows, places=len(open_jobs) + posting, posting=posting, rate=rate)
    return BatchStatus(
        at=now,
        header=fold.header,
        run=run,
        total=total,
        states=counts.states,
        codes=counts.codes,
        samples=counts.samples,
        with_warnings=counts.with_warnings,
        tokens=counts.tokens,
        stages=stages,
        jobs=jobs,
        oldest=oldest,
        recent=recent,
        new_attempts=fold.retries,
        gone=gone,
        rewriting=fold.rewrite is not None,
        cancel_all=fold.cancel_all,
        polls_per_job=counts.times.polls_per_job,
        mean_lag=mean_lag,
        forecast=forecast,
        unusual=unusual,
        failing=failing,
        refused=refused,
        stalled=stalled,
    )


def stage_of(journaled: JournaledRow) -> BatchStage:
    """The stage of a row without a record."""
    if journaled.is_void:
        return BatchStage.WAITING
    if journaled.cancel is not None:
        return BatchStage.CANCELLING
    if journaled.job_id is not None or journaled.recorded_at is not None:
        return BatchStage.WATCHING
    return BatchStage.RETRYING if journaled.waits else BatchStage.SUBMITTING


def _is_gone(journaled: JournaledRow, gen: int, unread: tuple[int, int]) -> bool:
    if journaled.marker is None:
        return False
    of_gen, offset, length, _, _ = journaled.marker
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
    if stopped.reason == RunState.COMPLETE and not over:
        return LastRun(RunState.PARTIAL, who, since, stopped.at)
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
