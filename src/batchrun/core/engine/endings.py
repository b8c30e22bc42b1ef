"""How a job ends: its files first, if its response holds any, then its record.

A job that is over waits here where its response holds files, or where an earlier run left some of its row. Its record
is written once the disk has the files that it names and no other of the row:

1. **No record before its files are synced.** A crash before leaves files without a record; the job's id is in the
   journal, the next run polls again and writes them again under the same names.
2. **A cancel that comes meanwhile still counts**, and the files that were written are removed before the record.
   So are files of an earlier run that the record would not name.
3. A record without a payload of a row that was not cancelled (its job expired meanwhile, its response was lost) leaves
   files of an earlier run where they are, and names them in a warning: they are all there is of a paid result.
4. **A failure submits nothing more, and loses nothing.** A job that can be polled again stays open for the next run.
   A result that came with its submit cannot: it is written into its record as it came.

While a body waits here its bytes count as those of unsynced records do: reading and polling pause beyond.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from batchrun.core.engine.breakers import Breakers
from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import CancelReason, Job, Timers, WaitsFor
from batchrun.core.jobs.jobs import Jobs, Wait, cancelled, keeps_payload
from batchrun.core.jobs.lifecycle import Phase, Step
from batchrun.core.journal.entries import AttemptEnded
from batchrun.core.limits.gate import Gate
from batchrun.core.records.artifact_names import row_name
from batchrun.core.records.artifacts import UNREADABLE, Artifact, Found, find, referring
from batchrun.core.records.record import Attempt, Response
from batchrun.core.responses.outcome import Ended
from batchrun.core.responses.retry_after import floor_with_jitter, full_jitter
from batchrun.core.taxonomy.rules import HaltReason, State


@dataclass(frozen=True, slots=True)
class _Ending:
    """A job that is over, and what its record waits for."""

    end: Ended
    response: Response | None
    then: Wait | None
    found: tuple[Found, ...]
    on_disk: frozenset[str]  # names of the row's files
    artifacts: tuple[tuple[Found, Artifact], ...] = ()

    @property
    def size(self) -> int:
        return 0 if self.response is None else len(self.response.body)


class Endings:
    """Ends jobs. `folder` is where files are written, as records name it; None: results stay in their records."""

    def __init__(self, jobs: Jobs, folder: str | None) -> None:
        self._jobs = jobs
        self._folder = folder
        self._endings: dict[Job, _Ending] = {}
        self._stuck = 0  # of them, those that only the next run can collect
        self._left: dict[str, tuple[str, ...]] = {}  # files of an earlier run, by the key of their open row
        self.broken = False

    def recovered(self, files: Mapping[str, tuple[str, ...]]) -> None:
        """Files that an earlier run left, by the key of their open row."""
        self._left.update(files)

    def at_rest(self) -> bool:
        """Whether no file is being written or removed."""
        return len(self._endings) == self._stuck

    def end(self, job: Job, end: Ended, response: Response | None, then: Wait | None = None) -> None:
        """Write the record of a job that ended so, after its files; `then(job)` is called once it is synced."""
        if self._folder is None or not self._files_first(job, end, response, then):
            self._jobs.record(job, end, response, then)

    def _files_first(self, job: Job, end: Ended, response: Response | None, then: Wait | None) -> bool:
        """Whether files come before the record of `job`."""
        jobs = self._jobs
        found: tuple[Found, ...] = ()
        if response is not None:
            found, unreadable = find(response.body, row_name(jobs.run_id, job.key))
            if unreadable:
                job.warn(UNREADABLE)
        left = self._left.pop(job.key, ())
        if response is None and left and not _unwanted(job):
            job.warn(*(f"artifact_kept:{self._path(name)}" for name in left))
            return False
        if not found and not left:
            return False
        ending = _Ending(end, response, then, found, frozenset(left))
        if self.broken and self._cannot_be_polled_again(job, ending):
            job.warn("artifact_not_stored")
            return False
        jobs.move(job, Step.FILES_FIRST)
        self._endings[job] = ending
        jobs.hold(ending.size)
        if self.broken:
            self._stuck += 1
        elif response is not None and found:
            jobs.instruct(m.StoreArtifacts(job, job.attempt, response.body, found))
        else:
            self._discard_or_conclude(job, ending)
        return True

    def stored(self, event: m.ArtifactsStored) -> None:
        job = event.job
        ending = self._endings[job]
        whole = [
            (found, stored) for found, stored in zip(ending.found, event.stored, strict=True) if stored is not None
        ]
        if len(whole) < len(ending.found):
            job.warn(UNREADABLE)
        artifacts = tuple(
            (found, Artifact(self._path(found.name), found.media_type, stored.size, stored.sha256, found.at))
            for found, stored in whole
        )
        on_disk = ending.on_disk.union(found.name for found, _ in whole)
        self._discard_or_conclude(job, replace(ending, artifacts=artifacts, on_disk=on_disk))

    def discarded(self, event: m.ArtifactsDiscarded) -> None:
        ending = self._endings[event.job]
        self._discard_or_conclude(event.job, replace(ending, on_disk=ending.on_disk.difference(event.names)))

    def failed(self, event: m.ArtifactsFailed) -> bool:
        """Nothing is stored any more. What cannot be polled again is written as it came. True for the first failure."""
        first = not self.broken
        self.broken = True
        job = event.job
        ending = self._endings[job]
        if self._cannot_be_polled_again(job, ending):
            job.warn("artifact_not_stored")
            self._conclude(job, replace(ending, artifacts=()))
        else:
            self._stuck += 1
        return first

    def _discard_or_conclude(self, job: Job, ending: _Ending) -> None:
        self._endings[job] = ending
        named = set() if _unwanted(job) else {found.name for found, _ in ending.artifacts}
        surplus = ending.on_disk - named
        if surplus:
            self._jobs.instruct(m.DiscardArtifacts(job, job.attempt, tuple(sorted(surplus))))
        else:
            self._conclude(job, ending)

    def _conclude(self, job: Job, ending: _Ending) -> None:
        del self._endings[job]
        self._jobs.release(ending.size)
        end, response, artifacts = ending.end, ending.response, ending.artifacts
        if response is not None and _unwanted(job):
            assert job.cancel_reason is not None
            end, response, artifacts = cancelled(job.cancel_reason, end, sent=True), None, ()
        elif response is not None and artifacts:
            body = referring(response.body, artifacts)
            response = Response(response.status_code, response.request_id, body)
        self._jobs.record(job, end, response, ending.then, tuple(artifact for _, artifact in artifacts))

    def _cannot_be_polled_again(self, job: Job, ending: _Ending) -> bool:
        """Whether the result came with the submit, so that no poll can bring it again."""
        return ending.response is not None and not self._jobs.is_watched(job) and not _unwanted(job)

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"


def _unwanted(job: Job) -> bool:
    """Whether a user cancelled the row: no file of it may stay. A deadline keeps what came."""
    return job.cancel_reason in (CancelReason.USER, CancelReason.INTERRUPT)


# --- What follows on an attempt that ended: the row's record, or a retry that waits for its time ---


_FOR_LOAD = frozenset({State.RATE_LIMITED, State.OVERLOADED})

RETRIES_FREE, RETRIES_SHARE = 100, 4
"""The batch's own budget of retries: RETRIES_FREE + accepted jobs / RETRIES_SHARE, and one for each row that was in flight
when the service was found to fail all (`Breakers`)."""


class Retries:
    """Decides whether an ended job is retried, and holds the rows that wait for their retry."""

    def __init__(self, jobs: Jobs, endings: Endings, gate: Gate, breakers: Breakers) -> None:
        self._jobs = jobs
        self._endings = endings
        self._gate = gate
        self._breakers = breakers
        self._timers = Timers(WaitsFor.RETRY)
        self._free = 0  # retries that the batch's own budget is not charged for

    def conclude(self, job: Job, end: Ended, response: Response | None, then: Wait | None = None) -> None:
        """The service ended the job so; `then(job)` is called once that is on the disk."""
        jobs, gate = self._jobs, self._gate
        if end.usage.total_tokens is not None:
            gate.tokens_used(jobs.now, job.about.tokens, end.usage.total_tokens)
        reason = job.cancel_reason
        if reason is not None:
            kept = response if keeps_payload(reason, end) else None
            self._endings.end(job, cancelled(reason, end, sent=True), kept, then)
            return
        history = job.history
        if history is not None and history.earlier_state is not None:
            self._conclude_reopened(job, history.earlier_state, end, response, then)
            return
        if end.halts and end.problem is not None:
            halt = HaltReason(end.billing_reason or HaltReason.AUTH.value)
            gate.halt(halt, f"a job ended with {end.problem.code or end.state}: {end.problem.message}")
        self._let_submits_wait(job, end)
        is_free = self._breakers.ended(job, end)
        may_retry = job.about.sendable and job.attempt - 1 < end.retry.allowance(jobs.settings.retries)
        if may_retry and not (job.had(job.job_id) and jobs.is_watched(job)):  # a retry that brought the same job again
            self._free += is_free
            self._retry_within_budget(job, end, then)
        else:
            self._endings.end(job, end, response, then)

    def wait_until(self, job: Job, at: float) -> None:
        """Retry the row at `at`."""
        self._timers.put(job, at)

    def take(self, now: float) -> Job | None:
        """The next row whose time for a retry has come."""
        while (job := self._timers.take(now)) is not None:
            if job.phase is Phase.WAITING:
                return job
        return None

    def next_due(self) -> float:
        """When the next of them may have to be retried; NEVER where none waits."""
        return self._timers.next_due()

    def _conclude_reopened(
        self, job: Job, earlier: State, end: Ended, response: Response | None, then: Wait | None
    ) -> None:
        """A job whose record was dropped was polled again. A result is kept; a failure is worth the retry that the user
        asked for: at once, whatever its code, and not counted against any budget. Where the row cannot be sent (its body is
        gone, or it may have been sent already) the failure is its record again."""
        is_result = end.state is State.SUCCEEDED or (end.state is State.INCOMPLETE and earlier is not State.INCOMPLETE)
        if is_result or not job.about.sendable:
            self._endings.end(job, end, response, then)
        else:
            self._retry(job, end, 0.0, then)

    def _let_submits_wait(self, job: Job, end: Ended) -> None:
        """A job that failed for a rate or an overload says something of all rows like its own, retried or not."""
        gate, now = self._gate, self._jobs.now
        lane = gate.lane(job.about.resource, now)
        if end.state is State.SUCCEEDED:
            lane.job_succeeded()
        elif end.state in _FOR_LOAD and end.problem is not None:
            lower = end.problem.code == "slow_down"
            if end.retry_after is not None:
                gate.job_failed_for_load(lane, now, end.retry_after, end.problem.message, lower=lower)
            elif lower:
                lane.slow_down()

    def _retry_within_budget(self, job: Job, end: Ended, then: Wait | None) -> None:
        jobs, gate = self._jobs, self._gate
        delay = full_jitter(job.attempt, jobs.chance())
        if end.retry_after is not None:
            delay = max(delay, floor_with_jitter(end.retry_after, jobs.chance()))
        self._retry(job, end, delay, then)
        jobs.count_retry()
        budget = jobs.settings.retry_budget
        if budget is None:
            budget = RETRIES_FREE + jobs.accepted // RETRIES_SHARE + self._free
        if jobs.retries > budget:
            code = None if end.problem is None else end.problem.code
            gate.halt(HaltReason.RETRY_BUDGET, f"{jobs.retries} retries, the last after {code or end.state}")

    def _retry(self, job: Job, end: Ended, delay: float, then: Wait | None) -> None:
        """Journal how the attempt ended; the row is retried in `delay` seconds."""
        jobs = self._jobs
        code = None if end.problem is None else end.problem.code
        entry = AttemptEnded(
            key=job.key,
            attempt=job.attempt,
            job_id=job.job_id,
            state=end.state.value,
            code=code,
            billing=end.billing.value,
            retry_at=jobs.wall + delay,
            at=jobs.wall,
        )
        jobs.append(entry, job, then)
        jobs.move(job, Step.TO_BE_RETRIED)
        jobs.retry(job, Attempt(job.job_id, end.state, code, end.billing))
        self._timers.put(job, jobs.now + delay)
