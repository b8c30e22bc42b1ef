"""What the service stores: jobs by id, cancels, deletions; and the answers to polls."""

from __future__ import annotations

from batchrun.simulator import bodies
from batchrun.simulator.distributions import AT_ONCE, quantile
from batchrun.simulator.ids import Ids, demo_id, job_of_demo_id
from batchrun.simulator.jobs import Cancelled, JobTable, SimulatedJob
from batchrun.simulator.replies import Reply, error, page, refusal, reply
from batchrun.simulator.request_statistics import RequestStatistics
from batchrun.simulator.scenario import Scenario

_POLL, _CANCEL, _LATENCY = 1, 2, 3  # what a quantile is drawn for


class JobStore:
    """The jobs of one service."""

    def __init__(self, scenario: Scenario, statistics: RequestStatistics) -> None:
        self.scenario = scenario
        self._statistics = statistics
        self._jobs = JobTable()
        self._ids = Ids(scenario.seed)
        self._demo_serials: dict[bytes, int] = {}

    def add(self, job: SimulatedJob, echo: bytes | None, now: float, *, kept: bool = True) -> tuple[int, bytes]:
        """Store `job` and return its serial number and id; without `kept` no poll finds it."""
        serial = self._jobs.add(job)
        self._statistics.opened(now, job.ends)
        if echo is not None:
            self._jobs.echoes[serial] = echo
        if not kept:
            self._jobs.deleted.add(serial)
        if not self.scenario.demo:
            return serial, self._ids.name(serial)
        name = demo_id(job)
        self._demo_serials[name] = serial
        return serial, name

    def shown(self, serial: int, job: SimulatedJob, name: bytes, now: float) -> bytes:
        """The body of a poll of a job."""
        cancelled = self._jobs.cancelled.get(serial)
        echo = self._jobs.echoes.get(serial, bodies.PLAIN_ECHO)
        size = self.scenario.image_bytes
        if cancelled is None:
            return bodies.response(job, name, job.status(now), job.ends, echo, size)
        return bodies.response(job, name, cancelled.status(job, now), cancelled.end(job)[1], echo, size)

    def poll(self, name: bytes, now: float) -> Reply:
        """The answer to ``GET /responses/{name}``."""
        scenario = self.scenario
        serial = self._serial(name, now)
        if serial is None:
            self._statistics.poll(now, None)
            return _unknown(name)
        polls, gap = self._jobs.polled(serial, now)
        self._statistics.poll(now, gap)
        delay = 0.0
        if scenario.times.poll is not AT_ONCE:
            delay = scenario.times.poll.at(quantile(scenario.seed, serial, polls, _LATENCY))
        job = self._jobs.job(serial)
        if self._is_gone(serial, job, now):
            return _unknown(name, delay)
        if scenario.polls:
            refusal_name = scenario.polls.pick(quantile(scenario.seed, job.row, job.nonce, polls, _POLL))
            if refusal_name is not None:
                return refusal(refusal_name, scenario.times.retry_after)._replace(delay=delay)
        shown = self._ids.changing(serial, polls) if job.id_changes else name
        return Reply(200, self.shown(serial, job, shown, now), b"", delay)

    def cancel(self, name: bytes, now: float) -> Reply:
        """The answer to ``POST /responses/{name}/cancel``."""
        self._statistics.cancels += 1
        serial = self._serial(name, now)
        if serial is None or self._is_gone(serial, job := self._jobs.job(serial), now):
            return _unknown(name)
        if not job.background:
            return error(400, "only background responses can be cancelled")
        scenario = self.scenario
        if serial in self._jobs.cancelled or now >= job.ends:
            if now >= job.ends and scenario.finished_cancel != 200:
                return error(scenario.finished_cancel, f"the response is already {job.final}")
            return Reply(200, self.shown(serial, job, name, now))
        way = job.cancel or scenario.cancels.pick(quantile(scenario.seed, job.row, job.nonce, _CANCEL)) or "cancelled"
        match way:
            case "conflict":
                return error(409, "the response cannot be cancelled now", type="conflict_error")
            case "refused":
                return error(400, "the response cannot be cancelled")
            case "http_500":
                return page(500)
            case _:
                pass
        cancelled = self._jobs.cancelled[serial] = Cancelled(now, way, scenario.times.late)
        self._statistics.moved(now, job.ends, cancelled.open_until(job))
        return Reply(200, self.shown(serial, job, name, now))

    def delete(self, name: bytes, now: float) -> Reply:
        """The answer to ``DELETE /responses/{name}``."""
        self._statistics.deletes += 1
        serial = self._serial(name, now)
        if serial is None or self._is_gone(serial, job := self._jobs.job(serial), now):
            return _unknown(name)
        self._jobs.deleted.add(serial)
        cancelled = self._jobs.cancelled.get(serial)
        self._statistics.moved(now, job.ends if cancelled is None else cancelled.open_until(job), now)
        return reply({"id": name.decode(), "object": "response", "deleted": True})

    def _serial(self, name: bytes, now: float) -> int | None:
        """The job's serial number; a demo id of an earlier process is added."""
        if not self.scenario.demo:
            return self._ids.serial(name, self._jobs.count)
        serial = self._demo_serials.get(name)
        if serial is None and (job := job_of_demo_id(name)) is not None:
            serial = self._demo_serials[name] = self._jobs.add(job)
            self._statistics.adopted(now, job.ends)
        return serial

    def _is_gone(self, serial: int, job: SimulatedJob, now: float) -> bool:
        """Whether the service has no such job: deleted, hidden for now, or no longer kept."""
        if serial in self._jobs.deleted or now < job.created + job.hidden:
            return True
        cancelled = self._jobs.cancelled.get(serial)
        end = job.ends if cancelled is None else cancelled.end(job)[1]
        return now >= end + self.scenario.times.retention


def _unknown(name: bytes, delay: float = 0.0) -> Reply:
    shown = name[:200].decode("ascii", "replace")
    return error(404, f"response with id {shown!r} not found", param="id")._replace(delay=delay)
