"""Services that limit what they take, and batches that are run against them on virtual time, by the real engine.

Nothing is sent, no file is written and no clock is read: an hour of a service takes seconds, and the same seed gives the
same figures. What is simulated: rates over buckets of any width or over fixed minutes, of requests and of tokens; a cap of
jobs in flight; headers that are honest, missing or false; refusals at random; rows that are always refused.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

import orjson

from batchrun.core.engine.engine import Engine
from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import Row
from batchrun.core.limits.lane import Rates
from batchrun.core.responses.http import Answer
from batchrun.core.responses.verdict import Accepted, Ambiguous, JobReport, read_poll, read_submit
from batchrun.core.settings.settings import Settings
from batchrun.simulator.limits import Allowance, go_duration

Headers = dict[str, str]


class FixedMinutes:
    """So many units in each minute of the clock."""

    def __init__(self, per_minute: float, begins: float = 0.0) -> None:
        self.per_minute = per_minute
        self._begins = begins
        self._minute, self._used = -1, 0.0

    def wait(self, cost: float, now: float) -> float:
        minute = int((now - self._begins) // 60)
        if minute != self._minute:
            self._minute, self._used = minute, 0.0
        return 0.0 if self._used + cost <= self.per_minute else self._begins + 60 * (minute + 1) - now

    def take(self, cost: float) -> None:
        self._used += cost

    def remaining(self, _now: float) -> int:
        return int(self.per_minute - self._used)

    def reset(self, now: float) -> float:
        return self._begins + 60 * (self._minute + 1) - now


Limit = Allowance | FixedMinutes


@dataclass
class Service:
    """What it takes. `limits` are by kind ("requests", "tokens"); each change is a time and the limits from then on."""

    limits: dict[str, Limit] = field(default_factory=dict)
    changes: list[tuple[float, dict[str, Limit]]] = field(default_factory=list)
    by_model: bool = False
    most_jobs: int | None = None
    duration: float = 0.0  # of a job; 0: its result is in the response to its submit
    headers: Callable[[Service, float], Headers] | None = None
    retry_after: str = "none"  # "honest", "none", or the value of retry-after-ms
    named: bool = True  # whether the message says which limit it was
    fails: float = 0.0  # share of submits that are refused at random …
    status: int = 503  # … with this status
    bad: frozenset[str] = frozenset()  # rows that are always refused with 429
    seed: int = 1

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._jobs: dict[str, float] = {}
        self._ends: list[float] = []

    def post(self, row: Row, now: float) -> Answer:
        """The answer to a POST."""
        while self.changes and self.changes[0][0] <= now:
            self.limits = self.changes.pop(0)[1]
        while self._ends and self._ends[0] <= now:
            heappop(self._ends)
        shown = {} if self.headers is None else self.headers(self, now)
        if row.key in self.bad:
            return self._refusal(429, "rate_limit_exceeded", "rate limit reached", 1.0, shown)
        if self.fails and self._rng.random() < self.fails:
            code = "rate_limit_exceeded" if self.status == 429 else "server_overloaded"
            return self._refusal(self.status, code, "try later", 1.0, shown)
        if self.most_jobs is not None and len(self._ends) >= self.most_jobs:
            return self._refusal(429, "rate_limit_exceeded", "too many jobs", 1.0, shown)
        costs = {"requests": 1.0, "tokens": float(row.about.tokens)}
        for kind, limit in self.limits.items():
            if delay := limit.wait(costs[kind], now):
                message = f"rate limit reached for {kind} per minute" if self.named else "rate limit reached"
                return self._refusal(429, "rate_limit_exceeded", message, delay, shown)
        for kind, limit in self.limits.items():
            limit.take(costs[kind])
        job_id = f"job_{row.key}"
        if self.duration:
            self._jobs[job_id] = now + self.duration
            heappush(self._ends, now + self.duration)
            return Answer(200, shown, orjson.dumps({"id": job_id, "status": "queued"}))
        return Answer(200, shown, orjson.dumps({"id": job_id, "status": "completed", "output": "x"}))

    def get(self, job_id: str, now: float) -> Answer:
        done = self._jobs[job_id] <= now
        body = {"id": job_id, "status": "completed", "output": "x"} if done else {"id": job_id, "status": "in_progress"}
        return Answer(200, {}, orjson.dumps(body))

    def _refusal(self, status: int, code: str, message: str, delay: float, shown: Headers) -> Answer:
        asked: Headers = {}
        if self.retry_after == "honest":
            asked["retry-after-ms"] = str(round(delay * 1000) + 1)
        elif self.retry_after != "none":
            asked["retry-after-ms"] = self.retry_after
        return Answer(status, shown | asked, orjson.dumps({"error": {"code": code, "message": message}}))


def honest(service: Service, now: float) -> Headers:
    """The headers as the service means them."""
    found: Headers = {}
    for kind, limit in service.limits.items():
        found[f"x-ratelimit-limit-{kind}"] = f"{limit.per_minute:.0f}"
        found[f"x-ratelimit-remaining-{kind}"] = str(limit.remaining(now))
        found[f"x-ratelimit-reset-{kind}"] = go_duration(limit.reset(now))
    return found


def claiming(**limits: float) -> Callable[[Service, float], Headers]:
    """Headers that claim these limits, whatever they are."""
    shown = {f"x-ratelimit-limit-{kind}": f"{limit:.0f}" for kind, limit in limits.items()}
    return lambda _service, _now: shown


class World:
    """Batches of one process against a service. What was accepted and refused is counted by second."""

    def __init__(
        self, service: Service, *batches: list[Row], latency: float = 0.1, seed: int = 7, **settings: object
    ) -> None:
        self.now = 0.0
        self.service, self.latency = service, latency
        self.accepted: Counter[int] = Counter()  # by second
        self.refused: Counter[int] = Counter()
        self.tokens: Counter[int] = Counter()  # of what was accepted
        self.posts: list[tuple[float, str]] = []
        self.ended: dict[str, tuple[float, str]] = {}
        self.halts: list[tuple[float, str]] = []
        self.finished = 0
        self._rng = random.Random(seed)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        rates = Rates()
        given: dict[str, object] = {"concurrency": 100_000, "poll_rate": 1e6, "poll_min": 5.0, "poll_max": 10.0}
        self.batches = [_Batch(self, rows, Settings(**(given | settings)), rates) for rows in batches]  # type: ignore[arg-type]

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._heap, (when, self._count, what))

    def chance(self) -> float:
        return self._rng.random()

    def run(self, until: float = float("inf")) -> World:
        """Let everything happen that happens before `until`, or until all batches are over."""
        while self._heap and self._heap[0][0] <= until and self.finished < len(self.batches):
            self.now, _, what = heappop(self._heap)
            what()
        return self

    def between(self, since: float, until: float) -> tuple[int, int]:
        """How many submits were accepted and refused from `since` on, before `until`."""
        seconds = range(int(since), int(until))
        return sum(self.accepted[second] for second in seconds), sum(self.refused[second] for second in seconds)

    def share_refused(self, since: float, until: float) -> float:
        accepted, refused = self.between(since, until)
        return refused / max(1, accepted + refused)

    @property
    def last_second(self) -> int:
        """The last in which anything was accepted."""
        return max(self.accepted, default=0)


class _Batch:
    """One engine and what it asks for."""

    def __init__(self, world: World, rows: list[Row], settings: Settings, rates: Rates) -> None:
        self.world, self.rows = world, rows
        self._by_key = {row.key: row for row in rows}
        self.engine = Engine(settings, run_id="run", now=0.0, epoch=1e6, chance=world.chance, rates=rates)
        self._read, self._wake_at = 0, 0.0
        self._given: Counter[m.BatchFile] = Counter()
        world.at(0.0, lambda: self.feed(m.TimerFired()))

    def feed(self, event: m.Event) -> None:
        world = self.world
        files = set()
        for order in self.engine.handle(event, world.now):
            match order:
                case m.Append(_, lazy):
                    self._given[m.BatchFile.JOURNAL] += 1
                    if not lazy:
                        files.add(m.BatchFile.JOURNAL)
                case m.Emit(line):
                    record = orjson.loads(line)
                    world.ended[record["custom_id"]] = world.now, record["state"]
                    self._given[m.BatchFile.OUTPUT] += 1
                    files.add(m.BatchFile.OUTPUT)
                case m.Submit(job, attempt):
                    world.posts.append((world.now, job.key))
                    there = world.now + self._one_way()
                    world.at(there, lambda job=job, attempt=attempt: self._arrive(job, attempt))
                case m.Poll(job, attempt):
                    world.at(world.now + world.latency, lambda job=job, attempt=attempt: self._polled(job, attempt))
                case m.ReadRows(rows):
                    world.at(world.now, lambda rows=rows: self._read_rows(rows))
                case m.Wake(at):
                    self._wake_at = at
                    world.at(at, lambda at=at: self._woken(at))
                case m.Halt(reason, _):
                    world.halts.append((world.now, reason))
                case m.Finish():
                    world.finished += 1
        for file in files:
            self.feed(m.Synced(file, self._given[file]))

    def _one_way(self) -> float:
        return self.world.latency * (0.3 + 0.4 * self.world.chance())

    def _read_rows(self, rows: int) -> None:
        for row in self.rows[self._read : self._read + rows]:
            self.feed(m.RowRead(row))
        self._read += rows
        if self._read >= len(self.rows):
            self.feed(m.InputEnded())

    def _woken(self, at: float) -> None:
        if at == self._wake_at:
            self.feed(m.TimerFired())

    def _arrive(self, job: m.Job, attempt: int) -> None:
        world = self.world
        answer = world.service.post(self._by_key[job.key], world.now)
        second = int(world.now)
        if answer.status == 200:
            world.accepted[second] += 1
            world.tokens[second] += job.about.tokens
        else:
            world.refused[second] += 1
        verdict = read_submit(answer, 1e6)
        event: m.Event
        if isinstance(verdict, Accepted):
            event = m.SubmitAccepted(job, attempt, verdict)
        elif isinstance(verdict, Ambiguous):
            event = m.SubmitFailed(job, attempt, verdict)
        else:
            event = m.SubmitRefused(job, attempt, verdict)
        world.at(world.now + self._one_way(), lambda: self.feed(event))

    def _polled(self, job: m.Job, attempt: int) -> None:
        assert job.job_id is not None
        seen = read_poll(self.world.service.get(job.job_id, self.world.now), 1e6, job.job_id)
        assert isinstance(seen, JobReport)
        self.feed(m.PollAnswered(job, attempt, seen))
