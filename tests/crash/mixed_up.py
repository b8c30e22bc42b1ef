"""A service that repeats ids and swaps them: responses name jobs of other rows, running ones and such as are over.

What it mixes up, the client can find out: it names no job whose id the client can never have heard of. A poll may name
one of which the client hears a moment later; a POST does not, for nothing could tell whose that is.
"""

from collections import Counter
from typing import ClassVar

import orjson

from batchrun.core.responses.http import Answer, Failure
from tests.crash.service import AMBIGUOUS, CREATED, Post, RemoteJob, Service, chance
from tests.crash.world import Process

REPEATED = "repeated"
MISNAMED, OWN_AGAIN, SWAPPED, NOT_HEARD_YET, ALIAS, CANCEL_SWAPPED = MIXED = (
    "a POST answered with another row's job",
    "a retry answered with its own ended job",
    "a poll answered with another row's job",
    "a poll answered with a job whose POST is not answered yet",
    "a poll answered under an id that no row has",
    "a cancel answered with another row's job",
)


class MixedUp(Service):
    met: ClassVar[Counter[str]] = Counter()  # of all that were made, with their copies

    def post(self, key: str, now: float) -> Answer | Failure:
        earlier = self.posts.get(key, ())
        if any(post.told == REPEATED for post in earlier) and key not in self.asked:
            self.violations.append(f"{key} was POSTed again after its own job was named again")
        luck = chance(self.seed, key, len(earlier), "mixed up")
        last = self.jobs.get(earlier[-1].job or "") if earlier else None
        if last is not None and earlier[-1].told == CREATED and luck < 0.3:
            self._check_earlier(key, now)
            self.posts[key].append(Post(now, REPEATED, last.id))
            self.met[OWN_AGAIN] += 1
            return Answer(200, {}, last.body(now))
        answer = super().post(key, now)
        other = self._other(key, (now, "post"), self.heard)
        post = self.posts[key][-1]
        if post.told != CREATED or luck < 0.85 or other is None:
            return answer
        post.told = AMBIGUOUS
        self.lost.add(post.job or "")
        self.met[MISNAMED] += 1
        return Answer(200, {}, other.body(now))

    def get(self, job_id: str, now: float) -> Answer | Failure:
        answer = super().get(job_id, now)
        luck = chance(self.seed, job_id, round(now, 3), "mixed up")
        if isinstance(answer, Failure) or answer.status != 200 or luck >= 0.3:
            return answer
        if luck < 0.03:
            self.met[ALIAS] += 1
            return Answer(200, {}, orjson.dumps({**orjson.loads(answer.body), "id": f"alias_{job_id}"}))
        other = self._other(self.jobs[job_id].key, (now, "get"), self.jobs.keys())
        if other is None:
            return answer
        self.met[SWAPPED if other.id in self.heard else NOT_HEARD_YET] += 1
        return Answer(200, {}, other.body(now))

    def cancel(self, job_id: str, now: float) -> Answer | Failure:
        answer = super().cancel(job_id, now)
        other = self._other(self.jobs[job_id].key, (now, "cancel"), self.jobs.keys())
        if other is None or chance(self.seed, job_id, round(now, 3), "cancel mixed up") >= 0.3:
            return answer
        self.met[CANCEL_SWAPPED] += 1
        return Answer(200, {}, other.body(now))

    def _other(self, key: str, moment: tuple, among) -> RemoteJob | None:
        """A job of another row, over rather than running: that could do harm."""
        jobs = [self.jobs[one] for one in sorted(among - self.lost) if self.jobs[one].key != key]
        over = [job for job in jobs if job.over(moment[0])]
        jobs = over if over and chance(self.seed, key, *moment, "over") < 0.7 else jobs
        return jobs[int(chance(self.seed, key, *moment) * len(jobs))] if jobs else None


class MixedUpProcess(Process):
    service_class = MixedUp
