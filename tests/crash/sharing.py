"""A service that answers equal requests with one job, as its profile says: three rows each have the same body."""

from collections import Counter
from typing import ClassVar

from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import Job
from batchrun.core.jobs.lifecycle import OPEN_PHASES
from batchrun.core.responses.http import Answer, Failure
from tests.crash.service import CREATED, Post, RemoteJob, Service, chance
from tests.crash.world import Process, Violation

RUNNING, OVER, LOST = "a running job", "a job that is over", "a job of a row whose response was lost"


class Sharing(Service):
    met: ClassVar[Counter[str]] = Counter()

    @staticmethod
    def body_of(key: str) -> str:
        return f"body {int(key.partition('-')[2]) // 3}"

    def post(self, key: str, now: float) -> Answer | Failure:
        job = self._equal(key, now)
        if job is None or chance(self.seed, key, now, "share") < 0.2:
            return super().post(key, now)
        self._check_earlier(key, now)
        self.posts.setdefault(key, []).append(Post(now, CREATED, job.id))
        self.met[LOST if job.id in self.lost else OVER if job.over(now) else RUNNING] += 1
        return Answer(200, {}, job.body(now))

    def _equal(self, key: str, now: float) -> RemoteJob | None:
        """A job for the same body that another row was given, and that was not cancelled and does not ask for a retry."""
        given = {post.job for post in self.posts.get(key, ())}
        for job in self.jobs.values():
            equal = job.key != key and self.body_of(job.key) == self.body_of(key) and job.id not in given
            if equal and job.cancelled_at is None and not (job.over(now) and self.may_try_again(job, key)):
                return job
        return None


class SharingProcess(Process):
    service_class = Sharing
    repeats_ids = True

    def carry_out(self, instruction: m.Instruction) -> None:
        if isinstance(instruction, m.Cancel):
            self.check_cancel(instruction.job)
        super().carry_out(instruction)

    def check_cancel(self, cancelled: Job) -> None:
        """A cancel is sent only where no other row wants the job."""
        for job in self.engine.jobs.all():
            wants = job.cancel_reason is None and job.phase in OPEN_PHASES
            if job is not cancelled and job.job_id == cancelled.job_id and wants:
                raise Violation(f"{cancelled.job_id} is cancelled for {cancelled.key}; rows still want it: {job.key}")
