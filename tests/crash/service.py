"""A simulated service in virtual time: it answers from a script that follows from a seed, and keeps books."""

from base64 import b64encode
from dataclasses import dataclass, field, replace
from zlib import crc32

import orjson

from batchrun.core.responses.http import Answer, Cause, Failure

REFUSED, AMBIGUOUS, CREATED = "refused", "ambiguous", "created"
RETRYABLE = {"server_error", "rate_limit_exceeded"}
SAID = {"server_error", "invalid_prompt"}  # codes with which jobs end


def chance(*facts) -> float:
    """A number in [0, 1) that follows from `facts` alone, so that a copy of the world goes on alike."""
    return crc32(repr(facts).encode()) / 2**32


@dataclass
class RemoteJob:
    id: str
    key: str
    created_at: float
    duration: float
    ends: str  # "completed", "incomplete", or an error code
    cancelled_at: float | None = None
    turns_back_after: float | None = None  # a cancelled job that completes all the same

    def status(self, now: float) -> str:
        if self.cancelled_at is not None:
            turned = self.turns_back_after is not None and now >= self.cancelled_at + self.turns_back_after
            return "completed" if turned else "cancelled"
        if now < self.created_at + self.duration:
            return "queued" if now < self.created_at + self.duration / 3 else "in_progress"
        return self.ends if self.ends in ("completed", "incomplete") else "failed"

    def over(self, now: float) -> bool:
        return self.status(now) not in ("queued", "in_progress")

    def images(self) -> list[bytes]:
        """What is a file among the results: nothing of most jobs, of some one, of a few two."""
        count = (chance(self.id, "image") < 0.3) + (chance(self.id, "image") < 0.1)
        return [f"\x89PNG image {n} of {self.id}, payload of <{self.key}>".encode("latin-1") for n in range(count)]

    def body(self, now: float) -> bytes:
        status = self.status(now)
        body: dict = {"id": self.id, "status": status, "model": "sim", "usage": {"input_tokens": 7, "total_tokens": 7}}
        if status in ("completed", "incomplete"):
            body["output"] = [
                {"type": "message", "content": [{"type": "output_text", "text": f"payload of <{self.key}>"}]}
            ]
            body["output"] += [
                {"type": "image_generation_call", "status": "completed", "result": b64encode(image).decode()}
                for image in self.images()
            ]
        if status == "failed":
            body["error"] = {"code": self.ends, "message": "scripted"}
        return orjson.dumps(body)


@dataclass
class Post:
    """One POST as the service knows it: what it told the client, and what it created."""

    at: float
    told: str
    job: str | None = None


@dataclass
class Service:
    seed: int
    jobs: dict[str, RemoteJob] = field(default_factory=dict)
    posts: dict[str, list[Post]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    calm: bool = False
    asked: set[str] = field(default_factory=set)  # rows whose user asked to try again what had failed
    lost: set[str] = field(default_factory=set)  # jobs whose ids the client can never know
    heard: set[str] = field(default_factory=set)  # jobs whose ids it was told

    def copy(self) -> "Service":
        jobs = {id_: replace(job) for id_, job in self.jobs.items()}
        posts = {key: list(posts) for key, posts in self.posts.items()}
        return type(self)(
            self.seed, jobs, posts, list(self.violations), self.calm, set(self.asked), set(self.lost), set(self.heard)
        )

    def post(self, key: str, now: float) -> Answer | Failure:
        """A POST arrives. The promise is checked here: what came before must provably have created nothing or ended."""
        earlier = self.posts.setdefault(key, [])
        self._check_earlier(key, now)
        n = len(earlier)
        luck = 1.0 if self.calm else chance(self.seed, key, n, "submit")
        if luck < 0.08:
            earlier.append(Post(now, REFUSED))
            return Answer(429, {"retry-after-ms": "150"}, b'{"error":{"code":"rate_limit_exceeded","message":"slow"}}')
        if luck < 0.10:
            earlier.append(Post(now, REFUSED))
            return Answer(400, {}, b'{"error":{"code":"invalid_prompt","message":"no"}}')
        if luck < 0.12:
            earlier.append(Post(now, REFUSED))
            return Failure(sent=False, cause=Cause.CONNECT, message="refused")
        job = self._create(key, n, now) if luck >= 0.15 else None
        if luck < 0.19:  # half of these created a job that nobody hears of
            earlier.append(Post(now, AMBIGUOUS, job and job.id))
            self.lost |= {job.id} if job else set()
            return (
                Answer(502, {}, b"<html>Bad Gateway")
                if luck < 0.17
                else Failure(sent=True, cause=Cause.DROPPED, message="dropped")
            )
        assert job is not None
        earlier.append(Post(now, CREATED, job.id))
        return Answer(200, {}, job.body(now))

    def _check_earlier(self, key: str, now: float) -> None:
        for post in self.posts.get(key, ()):
            job = self.jobs.get(post.job or "")
            ended = job is not None and job.over(now) and self.may_try_again(job, key)
            if post.told == AMBIGUOUS or (post.told == CREATED and not ended):
                self.violations.append(
                    f"{key} was POSTed again at {now:.3f} although its POST at {post.at:.3f} was {post.told}"
                )

    @staticmethod
    def body_of(key: str) -> str:
        """What stands for the body of a row: every row has one of its own."""
        return key

    def may_try_again(self, job: RemoteJob, key: str) -> bool:
        """Whether a job that is over allows a new attempt of a row: a retryable end, or any failure if the user asked for it."""
        if key in self.asked:
            return job.cancelled_at is not None or job.ends != "completed"
        return job.cancelled_at is None and job.ends in RETRYABLE

    def _create(self, key: str, n: int, now: float) -> RemoteJob:
        luck = chance(self.seed, key, n, "outcome")
        ends = (
            "completed"
            if luck < 0.62
            else "server_error"
            if luck < 0.82
            else "incomplete"
            if luck < 0.9
            else "invalid_prompt"
        )
        at_once = chance(self.seed, key, n, "at once") < 0.06
        duration = 0.0 if at_once else 2.5 * chance(self.seed, key, n, "duration")
        back = 0.6 if chance(self.seed, key, n, "turns back") < 0.4 else None
        job = RemoteJob(f"job_{key}_{n}", key, now, duration, ends, turns_back_after=back)
        self.jobs[job.id] = job
        return job

    def get(self, job_id: str, now: float) -> Answer | Failure:
        if not self.calm and chance(self.seed, job_id, round(now, 3), "get") < 0.1:
            return (
                Answer(503, {}, b"")
                if chance(job_id, now) < 0.5
                else Failure(sent=True, cause=Cause.TIMEOUT, message="slow")
            )
        job = self.jobs.get(job_id)
        return Answer(404, {}, b"{}") if job is None else Answer(200, {}, job.body(now))

    def cancel(self, job_id: str, now: float) -> Answer | Failure:
        job = self.jobs.get(job_id)
        if job is None:
            return Answer(404, {}, b"{}")
        if job.over(now):
            return Answer(409, {}, b'{"error":{"message":"already over"}}')
        job.cancelled_at = now
        return Answer(200, {}, job.body(now))
