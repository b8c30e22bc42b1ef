"""The lane of files: a record that names files is written after them, and one that must not have any after they are gone.

A job that is over comes here before its record where its answer holds files, or where an earlier run left some of
its row. Its record is written once the disk has what it names and nothing else of the row:

1. **No record before its files are synced.** A crash before leaves files without a record; the job's id is in the
   journal, the next run looks again and writes them again under the same names.
2. **A cancel that comes meanwhile still counts**, and the files that were written are removed before the record.
   So are files of an earlier run that the record would not name.
3. A record without a payload that nobody wished away (its job expired meanwhile, its answer was lost) leaves files of
   an earlier run where they are, and tells of them in a warning: they are all there is of a paid result.
4. **A failure submits nothing more, and loses nothing.** What can be looked at again stays open for the next run.
   A result that came with its submit cannot: it is written into its record as it came.

While a body waits here its bytes count as those of unsynced records do: reading and polling pause beyond.
"""

from __future__ import annotations

from dataclasses import dataclass

from batchrun.core.jobs.job import CancelReason, Job
from batchrun.core.jobs.jobs import Jobs, Wait
from batchrun.core.jobs.lifecycle import Step
from batchrun.core.jobs.messages import (
    ArtifactsDiscarded,
    ArtifactsFailed,
    ArtifactsStored,
    DiscardArtifacts,
    StoreArtifacts,
)
from batchrun.core.jobs.record_of import cancelled
from batchrun.core.records.artifact_names import row_name
from batchrun.core.records.artifacts import UNREADABLE, Artifact, Found, find, referring
from batchrun.core.records.record import Response
from batchrun.core.responses.outcome import Ended


@dataclass(slots=True)
class _Ending:
    """A job that is over, and what its record waits for."""

    end: Ended
    response: Response | None
    then: Wait | None
    found: tuple[Found, ...]
    on_disk: set[str]  # names of the row's files
    artifacts: tuple[tuple[Found, Artifact], ...] = ()

    @property
    def size(self) -> int:
        return 0 if self.response is None else len(self.response.body)


class Endings:
    """Ends jobs. `folder` is where files are written, as records name it; None: results stay in their records."""

    def __init__(self, desk: Jobs, folder: str | None) -> None:
        self._desk = desk
        self._folder = folder
        self._endings: dict[Job, _Ending] = {}
        self._stuck = 0  # of them, those that only the next run can bring home
        self.left: dict[str, tuple[str, ...]] = {}  # files of an earlier run, by the key of their open row
        self.broken = False

    # --- asked ---

    def at_rest(self) -> bool:
        """Whether no file is on its way."""
        return len(self._endings) == self._stuck

    def waiting(self) -> int:
        return len(self._endings)

    # --- told ---

    def end(self, job: Job, end: Ended, response: Response | None, then: Wait | None = None) -> None:
        """Write the record of a job that ended so, after its files; `then(job)` is called once it is synced."""
        if self._folder is None or not self._files_first(job, end, response, then):
            self._desk.record(job, end, response, then)

    def _files_first(self, job: Job, end: Ended, response: Response | None, then: Wait | None) -> bool:
        """Whether files come before the record of `job`."""
        desk = self._desk
        found: tuple[Found, ...] = ()
        if response is not None:
            found, unreadable = find(response.body, row_name(desk.run_id, job.key))
            if unreadable:
                job.warn(UNREADABLE)
        left = self.left.pop(job.key, ())
        if response is None and left and not _unwanted(job):
            job.warn(*(f"artifact_kept:{self._path(name)}" for name in left))
            return False
        if not found and not left:
            return False
        ending = _Ending(end, response, then, found, set(left))
        if self.broken and self._is_all_there_is(job, ending):
            job.warn("artifact_not_stored")
            return False
        desk.move(job, Step.FILES_FIRST)
        self._endings[job] = ending
        desk.unsynced_records += ending.size
        if self.broken:
            self._stuck += 1
        elif response is not None and found:
            desk.instruct(StoreArtifacts(job, job.attempt, response.body, found))
        else:
            self._go_on(job, ending)
        return True

    def stored(self, event: ArtifactsStored) -> None:
        job = event.job
        ending = self._endings[job]
        whole = [
            (found, stored) for found, stored in zip(ending.found, event.stored, strict=True) if stored is not None
        ]
        if len(whole) < len(ending.found):
            job.warn(UNREADABLE)
        ending.artifacts = tuple(
            (found, Artifact(self._path(found.name), found.media_type, stored.size, stored.sha256, found.at))
            for found, stored in whole
        )
        ending.on_disk.update(found.name for found, _ in whole)
        self._go_on(job, ending)

    def discarded(self, event: ArtifactsDiscarded) -> None:
        ending = self._endings[event.job]
        ending.on_disk.difference_update(event.names)
        self._go_on(event.job, ending)

    def failed(self, event: ArtifactsFailed) -> None:
        """Nothing is stored any more. What cannot be looked at again is written as it came."""
        self.broken = True
        job = event.job
        ending = self._endings[job]
        if self._is_all_there_is(job, ending):
            job.warn("artifact_not_stored")
            ending.artifacts = ()
            self._conclude(job, ending)
        else:
            self._stuck += 1

    # --- within ---

    def _go_on(self, job: Job, ending: _Ending) -> None:
        named = set() if _unwanted(job) else {found.name for found, _ in ending.artifacts}
        surplus = ending.on_disk - named
        if surplus:
            self._desk.instruct(DiscardArtifacts(job, job.attempt, tuple(sorted(surplus))))
        else:
            self._conclude(job, ending)

    def _conclude(self, job: Job, ending: _Ending) -> None:
        desk = self._desk
        del self._endings[job]
        desk.unsynced_records -= ending.size
        end, response = ending.end, ending.response
        if response is not None and _unwanted(job):
            assert job.reason is not None
            end, response, ending.artifacts = cancelled(job.reason, end, sent=True), None, ()
        elif response is not None and ending.artifacts:
            body = referring(response.body, ending.artifacts)
            response = Response(response.status_code, response.request_id, body)
        desk.record(job, end, response, ending.then, tuple(artifact for _, artifact in ending.artifacts))

    def _is_all_there_is(self, job: Job, ending: _Ending) -> bool:
        """Whether the answer came with the submit, so that no look can bring it again."""
        watched = self._desk.watched.get(job.job_id or "") is job
        return ending.response is not None and not watched and not _unwanted(job)

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"


def _unwanted(job: Job) -> bool:
    """Whether somebody wished the row away: no file of it may stay. A deadline is no such wish."""
    return job.reason in (CancelReason.USER, CancelReason.INTERRUPT)
