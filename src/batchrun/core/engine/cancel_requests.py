"""What users ask to end: rows by their keys or by their jobs' ids, or all of them.

Invariants:

1. A request is accepted once `RequestsAccepted` is journaled behind the `Cancelling` entries that it caused: only then
   may the next run pass over its bytes. Read again it does nothing new.
2. A request for all rows stands until the last one has its record, across runs: rows that are not read yet have no
   entry of their own.
3. An interrupt ends jobs, not rows: what was never sent stays open.
"""

from __future__ import annotations

from collections.abc import Iterable

from batchrun.core.engine.artifacts import Endings
from batchrun.core.engine.polls import Polls
from batchrun.core.engine.rows_in import RowsIn
from batchrun.core.engine.submits import Submits
from batchrun.core.jobs.jobs import CancelReason, Job, Jobs
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.jobs.messages import CancelRequested
from batchrun.core.jobs.record_of import cancelled
from batchrun.core.journal.entries import Cancelling, RequestsAccepted

_UNSENT = frozenset({Phase.WAITING, Phase.INTENDING})


class CancelRequests:
    """Carries out cancels. With `collecting` there is no input: an unknown key is left to a run with one."""

    def __init__(
        self, jobs: Jobs, endings: Endings, polls: Polls, submits: Submits, rows_in: RowsIn, *, collecting: bool
    ) -> None:
        self._jobs = jobs
        self._endings = endings
        self._polls = polls
        self._submits = submits
        self._rows_in = rows_in
        self._collecting = collecting
        self._read_to = 0  # how far the file of requests was read
        self._left_from: int | None = None  # where the first request begins that is left to a run with an input
        self._to_repeat: list[CancelRequested] | None = None  # what came while rows were being taken up
        self.interrupted = False

    def recovered(self, read_to: int) -> None:
        """Earlier runs accepted the requests up to `read_to`; rows are being taken up."""
        self._read_to = read_to
        self._to_repeat = []

    def taken_up(self) -> None:
        """All rows that an earlier run left open are jobs now: what was requested meanwhile concerns them too."""
        repeated, self._to_repeat = self._to_repeat or [], None
        if self._rows_in.all_cancelled:
            self._cancel(self._all_jobs(), CancelReason.USER)
        for event in repeated:
            self.requested(event)

    def requested(self, event: CancelRequested) -> None:
        """Cancel these rows, and accept the request."""
        jobs = self._all_jobs()
        accept = event.read_to is not None
        if self._to_repeat is not None:
            self._to_repeat.append(event)
            accept = False  # only once it is repeated (invariant 1)
        if event.keys is not None:
            wanted = [job for job in jobs if job.key in event.keys or job.job_id in event.keys]
            unknown = self._rows_in.unknown(event.keys - {name for job in wanted for name in (job.key, job.job_id)})
            if self._collecting and unknown and self._left_from is None and self._to_repeat is None:
                self._left_from = self._read_to
            self._rows_in.cancel_unread(unknown, event.unread, event.reason)
            self._cancel(wanted, event.reason)
        elif event.reason is CancelReason.INTERRUPT:
            self.interrupted = True
            self._cancel([job for job in jobs if job.phase not in _UNSENT], event.reason)
        else:
            self._rows_in.cancel_all()
            self._cancel(jobs, event.reason)
        if accept and event.read_to is not None:
            self._read_to = event.read_to
        if accept or (self._rows_in.all_cancelled and event.keys is None):
            self._accept()

    def all_done(self) -> bool:
        """Every row of the input has its record. True where no cancel of all rows stands; else its end is journaled."""
        if not self._rows_in.all_cancelled:
            return True
        self._rows_in.all_are_cancelled()
        self._accept()
        return False

    def _all_jobs(self) -> tuple[Job, ...]:
        return (*self._jobs.unsubmitted.values(), *self._jobs.watched.values())

    def _cancel(self, jobs: Iterable[Job], reason: CancelReason) -> None:
        for job in jobs:
            if job.cancel_reason is not None or job.phase is Phase.FINISHED:
                continue
            if job.phase is Phase.ENDING:  # its record stands, if it reaches the disk; if not, the cancel does
                self._jobs.note(Cancelling(job.key, job.attempt, reason.value, self._jobs.wall))
                continue
            self._polls.cancel(job, reason)
            if job.phase is Phase.WAITING:
                self._endings.end(job, cancelled(reason, None, sent=bool(job.attempts)), None)
            elif job.phase is Phase.INTENDING:
                self._submits.cancel_intending(job)
            elif job.phase is Phase.WATCHING:
                self._polls.begin_cancel(job)

    def _accept(self) -> None:
        self._jobs.note(RequestsAccepted(self._read_to, self._rows_in.all_cancelled, self._left_from))
