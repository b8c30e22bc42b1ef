"""The counts of a run at one moment, and its speed: what progress displays and summaries are made from.

`Throughput` counts recent seconds, never from the start: a batch of a day speeds up, is paused, meets an outage, and an
average since the start would be wrong for hours. Rates are those of the last ten seconds. The time left follows from how
long jobs take (core/pacing/outlook.py); until that is known, from the records of the last five minutes of this run. It is
unknown while nothing moves. It keeps one sample per second at most, however often it is fed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from batchrun.core.limits.breaker import Failing
from batchrun.core.limits.lane import Waiting
from batchrun.core.pacing.outlook import Outlook
from batchrun.core.text.readable import duration, visible

MOST_UNUSUAL = 500
"""So many jobs at most are looked at for whether they run unusually long."""


@dataclass(frozen=True, slots=True)
class Unusual:
    """The jobs that run longer than is to be expected of as many as were seen, and the oldest of them."""

    jobs: int  # MOST_UNUSUAL at most
    key: str
    age: float  # seconds since its submit

    def __str__(self) -> str:
        """``3 jobs run unusually long, the oldest row-17, 42 min``."""
        key, age = visible(self.key, 30), duration(self.age)
        if self.jobs == 1:
            return f"1 job runs unusually long: {key}, {age}"
        return (
            f"{self.jobs:,}{'+' if self.jobs >= MOST_UNUSUAL else ''} jobs run unusually long, the oldest {key}, {age}"
        )


STALLED_AFTER = 900.0
"""Seconds after which jobs that do not end are told."""


@dataclass(frozen=True, slots=True)
class Stalled:
    """The jobs that have not ended for so long that they may never end, and the oldest of them."""

    jobs: int
    key: str
    age: float  # seconds since its submit
    least: float  # the same of the youngest
    tried: int = 0  # how many more jobs may be in flight in their place

    def __str__(self) -> str:
        """``15 jobs have not ended in 17 min, the oldest row-3; 1 more is tried instead``."""
        key, age = visible(self.key, 30), duration(self.age)
        if self.jobs == 1:
            text = f"{key} has not ended in {age}"
        else:
            oldest = f"the oldest {key}" + (f" in {age}" if age != duration(self.least) else "")
            text = f"{self.jobs:,} jobs have not ended in {duration(self.least)}, {oldest}"
        if not self.tried:
            return text
        return f"{text}; {self.tried:,} more {'is' if self.tried == 1 else 'are'} tried instead"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counts of one run. `…_before` is what earlier runs of the batch counted."""

    now: float  # on the run's clock, in seconds
    states_before: Mapping[str, int]
    states: Mapping[str, int]
    codes: Mapping[tuple[str, str], int]  # (state, error code) of the records that did not succeed
    with_warnings: int  # succeeded, with something odd about the result
    waiting: int  # rows in memory that wait for their turn or their retry
    in_flight: int  # jobs on the service, submits included
    submits_in_flight: int
    submits: int  # POSTs that were answered or lost
    accepted: int
    refusals: int
    polls: int
    new_attempts: int
    stale: int
    paused_until: float | None  # submits wait until then, because the service asked for it
    outage: bool  # submits stopped but for probes
    halted: tuple[str, str] | None  # reason and message
    watched: int  # jobs that keep running on the service if the run stops now
    trouble: str | None = None  # why submits wait: the last failure, until one is accepted
    to_end: int = 0  # jobs whose cancel is journaled and that have no record yet
    unanswered: str | None = None  # why polls fail, where none succeeded for a while
    silent: bool = False  # the last submit, or the last poll, was not answered
    silent_for: float | None = None  # seconds for which the service has not answered, where that is an outage
    silent_why: str | None = None  # the last failure
    connected: bool = True  # a connection to it was made
    accepted_before: int = 0
    new_attempts_before: int = 0
    samples: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)  # by `codes`: a row, its message
    polls_per_job: float | None = None  # of the jobs whose end a poll of this run showed
    mean_lag: float | None = None  # seconds from a job's end to the poll that showed it, as is to be expected
    unusual: Unusual | None = None  # jobs that run unusually long
    places: int = 0  # for jobs in flight
    outlook: Outlook | None = field(default=None, repr=False, compare=False)  # for the time left
    waits: tuple[Waiting, ...] = ()  # rows that wait since the service refused some
    stalled: Stalled | None = None  # jobs that have not ended for long
    failing: tuple[Failing, ...] = ()  # models whose jobs the service fails, so that their rows wait

    @property
    def finished_before(self) -> int:
        """Rows that earlier runs finished."""
        return sum(self.states_before.values())

    @property
    def done(self) -> int:
        """Rows with a record, earlier runs' included."""
        return self.finished_before + sum(self.states.values())

    @property
    def succeeded(self) -> int:
        return self.states.get("succeeded", 0)


SPEED_SECONDS = 10.0
"""Seconds over which submits and polls per second are counted."""
RECENT_SECONDS = 300.0
"""Seconds over which records per second are counted, for the time left."""
STILL_SECONDS, _STILL_RECORDS = 10.0, 5
"""Without a record for so long, and for as long as so many usually take, nothing moves: the time left is unknown."""
LEAST_SECONDS = 2.0  # shorter than this, the time left is not estimated
_STEP = 1.0


class _Sample(NamedTuple):
    at: float
    records: int
    submits: int
    accepted: int
    polls: int


class Pace(NamedTuple):
    """Counts per second; `left` in seconds, at least and at most, None where unknown."""

    submits: float
    polls: float
    records: float
    left: tuple[float, float] | None


class Throughput:
    """Takes snapshots in the order of their time. `total` is None where unknown."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self._samples: deque[_Sample] = deque()
        self._moved = (0, float("-inf"))  # records, and since when there are so many
        self._moved_at_rate = 0.0  # records per second, as of then
        self._forecast: tuple[float, tuple[float, float] | None] = float("-inf"), None  # and when it was made

    def add(self, snapshot: Snapshot) -> Pace:
        """The pace as of `snapshot`."""
        samples = self._samples
        if (count := sum(snapshot.states.values())) != self._moved[0] or not samples:
            self._moved = (count, snapshot.now)
        now = _Sample(snapshot.now, count, snapshot.submits, snapshot.accepted, snapshot.polls)
        if not samples or now.at - samples[-1].at >= _STEP:
            samples.append(now)
        while len(samples) > 1 and samples[1].at <= now.at - RECENT_SECONDS:
            samples.popleft()
        earlier = next(one for one in reversed(samples) if one.at <= now.at - SPEED_SECONDS or one is samples[0])
        records = _rate(now.records - samples[0].records, now.at - samples[0].at)
        if self._moved[1] == now.at:
            self._moved_at_rate = records
        return Pace(
            submits=_rate(now.submits - earlier.submits, now.at - earlier.at),
            polls=_rate(now.polls - earlier.polls, now.at - earlier.at),
            records=records,
            left=self._left(snapshot, records, now.at - samples[0].at),
        )

    def _left(self, snapshot: Snapshot, records: float, watched: float) -> tuple[float, float] | None:
        if self.total is None:
            return None
        rows = self.total - snapshot.done
        if rows <= 0:
            return 0.0, 0.0
        if snapshot.halted is not None or watched < LEAST_SECONDS:
            return None
        waits = snapshot.paused_until is not None and snapshot.paused_until > snapshot.now
        silent = snapshot.unanswered is not None or snapshot.silent_for is not None
        if waits or snapshot.outage or silent or snapshot.failing or _nothing_moves(snapshot, records):
            return None
        if snapshot.outlook is not None and snapshot.in_flight:
            return self._forecast_left(snapshot, snapshot.outlook)
        rate = self._moved_at_rate
        if records <= 0 or snapshot.now - self._moved[1] > max(STILL_SECONDS, _STILL_RECORDS / max(rate, records)):
            return None
        return rows / records, rows / records

    def _forecast_left(self, snapshot: Snapshot, outlook: Outlook) -> tuple[float, float] | None:
        """From how long jobs take; made once a second."""
        assert self.total is not None
        made_at, left = self._forecast
        if snapshot.now - made_at < _STEP:
            return left
        samples, ended = self._samples, sum(snapshot.states.values())
        jobs_per_row = 1 + snapshot.new_attempts / max(1, ended)
        left = outlook.left(
            snapshot.now,
            max(0, self.total - snapshot.done - snapshot.in_flight) * jobs_per_row,
            places=snapshot.places,
            posting=snapshot.submits_in_flight,
            rate=_rate(snapshot.accepted - samples[0].accepted, snapshot.now - samples[0].at),
        )
        self._forecast = snapshot.now, left
        return left


def _nothing_moves(snapshot: Snapshot, records: float) -> bool:
    """Whether the jobs in flight, which end as if their ages told nothing, may never do so."""
    if snapshot.stalled is not None and records <= 0:
        return True
    return snapshot.unusual is not None and snapshot.unusual.jobs >= snapshot.in_flight > 1


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
