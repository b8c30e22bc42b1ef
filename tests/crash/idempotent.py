"""A service that honours idempotency keys: with the same key it gives the same job, as long as it keeps the key. Four of ten
POSTs lose their response; half of those created a job."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import ClassVar

import orjson

from batchrun.core.jobs.job import Job
from batchrun.core.responses.http import Answer, Cause, Failure
from batchrun.edge.source.checked import row_sha256
from batchrun.services.idempotency import idempotency_key
from tests.crash.crashing import OUTPUT
from tests.crash.service import AMBIGUOUS, CREATED, REFUSED, Post, Service, chance
from tests.crash.trials import Trials
from tests.crash.world import Process, Violation, line_of

REPLAYED, MADE_LATE, REFUSED_LATE = "the job of before", "no job before", "refused"
KEEPS, BRIEFLY = 100_000.0, 123.0
"""Seconds; a key is sent again for 120 less: for all of a batch, or for three seconds."""


@dataclass
class Idempotent(Service):
    met: ClassVar[Counter[str]] = Counter()
    keeps: ClassVar[float] = KEEPS
    kept: dict[str, tuple[float, str | None]] = field(default_factory=dict)  # by key: since when, and the job
    refused: set[str] = field(default_factory=set)  # rows that were refused for good, when they were sent again perhaps

    def copy(self) -> "Idempotent":
        copied = super().copy()
        copied.kept, copied.refused = dict(self.kept), set(self.refused)
        return copied

    def post_with(self, key: str, idempotency: str, now: float) -> Answer | Failure:
        earlier = self.posts.setdefault(key, [])
        known = self.kept.get(idempotency)
        if known is None:
            self._check_earlier(key, now)
        elif now - known[0] > self.keeps:
            self.violations.append(f"{key} was sent again with a key that the service has forgotten")
        n = len(earlier)
        luck = 1.0 if self.calm else chance(self.seed, key, round(now, 6), "submit")
        if luck < 0.1:
            self.met[REFUSED_LATE] += known is not None
            self.refused |= {key} if luck >= 0.09 else set()
            if known is None:
                earlier.append(Post(now, REFUSED))
            return (
                Answer(429, {"retry-after-ms": "150"}, b'{"error":{"code":"rate_limit_exceeded","message":"slow"}}')
                if luck < 0.09
                else Answer(400, {}, b'{"error":{"code":"invalid_prompt","message":"no"}}')
            )
        if luck < 0.13:
            if known is None:
                earlier.append(Post(now, REFUSED))
            return Failure(sent=False, cause=Cause.CONNECT, message="refused")
        job = None if known is None or known[1] is None else self.jobs[known[1]]
        self.met[REPLAYED] += job is not None
        self.met[MADE_LATE] += known is not None and job is None
        arrives = luck >= 0.25
        if job is None and arrives:
            job = self._create(key, n, now)
        self.kept[idempotency] = (now if known is None else known[0], None if job is None else job.id)
        lost = luck < 0.55
        if known is None:
            earlier.append(Post(now, AMBIGUOUS if lost else CREATED, None if job is None else job.id))
        elif job is not None and not lost:
            earlier[-1] = replace(earlier[-1], told=CREATED, job=job.id)
        if lost:
            return (
                Answer(502, {}, b"<html>") if luck < 0.4 else Failure(sent=True, cause=Cause.DROPPED, message="dropped")
            )
        assert job is not None
        return Answer(200, {}, job.body(now))


class IdempotentProcess(Process):
    service_class = Idempotent
    keeps_keys = KEEPS

    def key_of(self, job: Job, attempt: int) -> str:
        return idempotency_key("run", job.key, attempt, row_sha256(line_of(job.key)))

    def submit(self, job: Job, attempt: int) -> None:
        """As of every process, with its key."""
        key = self.key_of(job, attempt)
        there, back = 0.15 * self.rng.random(), 0.15 * self.rng.random()
        on_its_way = (self.now + there, job.key, key)
        self.posts.append(on_its_way)

        def arrives() -> None:
            self.posts.remove(on_its_way)
            answer = self.service.post_with(job.key, key, self.now)
            self.schedule(back, lambda: self.submitted(job, attempt, answer))

        self.schedule(there, arrives)

    @staticmethod
    def arrives_after_all(service: Service, at: float, key: str, idempotency: str = "") -> None:
        assert isinstance(service, Idempotent)
        service.post_with(key, idempotency, at)


class Forgetful(Idempotent):
    keeps = BRIEFLY


class ForgetfulProcess(IdempotentProcess):
    service_class = Forgetful
    keeps_keys = BRIEFLY


class IdempotentTrials(Trials):
    """No row ends as unconfirmed, but for those that were refused for good when they were sent again. (One that was
    cancelled while its response was lost is unconfirmed once its user asks for it again.)"""

    def check(self, process: Process, seed: int) -> None:
        super().check(process, seed)
        assert isinstance(process.service, Idempotent)
        may = process.service.refused | process.truth.asked.keys()
        for line in process.paper.names[OUTPUT].durable.splitlines():
            record = orjson.loads(line)
            if record["state"] == "unconfirmed" and record["custom_id"] not in may:
                raise Violation(f"seed {seed}: {record['custom_id']} is unconfirmed: {record['error']}")
