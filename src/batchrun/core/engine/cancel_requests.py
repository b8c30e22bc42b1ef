"""What was asked of the run: rows that are to end, by their keys or by their jobs' ids, or all of them.

Laws:

1. A wish is in hand once `RequestsAccepted` is journaled behind the `Cancelling` entries that it brought: only then may its
   bytes be passed over by the next run. Read again it does nothing new.
2. A wish for all rows stands until the last one has its record, across runs: rows that are not read yet have no
   entry of their own.
3. An interrupt ends jobs, not rows: what was never sent stays open.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from batchrun.core.engine.artifacts import Endings
from batchrun.core.engine.cancels import Cancels
from batchrun.core.engine.submits import Submits
from batchrun.core.jobs.job import CancelReason, Job, Row
from batchrun.core.jobs.jobs import Jobs
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.jobs.messages import CancelRequested
from batchrun.core.jobs.record_of import cancelled
from batchrun.core.journal.entries import Cancelling, RequestsAccepted

_UNSENT = frozenset({Phase.WAITING, Phase.INTENDING})


class CancelRequests:
    """Carries out cancels. `known` are rows that an earlier run finished or left open.

    With `collecting` there is no input: a key that nobody knows is left to a run with one.
    """

    def __init__(
        self,
        desk: Jobs,
        endings: Endings,
        cancels: Cancels,
        submits: Submits,
        known: AbstractSet[str],
        *,
        collecting: bool,
    ) -> None:
        self._desk = desk
        self._endings = endings
        self._cancels = cancels
        self._submits = submits
        self._known = known
        self._collecting = collecting
        self._early: dict[str, CancelReason] = {}  # of rows that are not read yet
        self.left_out: set[str] = set()  # rows that were read and are left to the next run
        self._heard_to = 0
        self._to_repeat: list[CancelRequested] | None = None  # what came while rows were being taken up
        self._left: int | None = None  # where the first wish begins that is left to a run with an input
        self.all = self.interrupted = False

    def recovered(self, heard_to: int, *, cancel_all: bool) -> None:
        """What an earlier run had in hand."""
        self._heard_to = heard_to
        self.all |= cancel_all
        self._to_repeat = []

    def taken_up(self) -> None:
        """All rows that an earlier run left are in hand: what was asked meanwhile concerns all of them."""
        repeated, self._to_repeat = self._to_repeat or [], None
        if self.all:
            self._end(self._jobs(), CancelReason.USER)
        for event in repeated:
            self.asked(event)

    def asked(self, event: CancelRequested) -> None:
        """Rows are to end: each is latched, and the wish taken in hand."""
        jobs = self._jobs()
        heard = event.heard_to is not None
        if self._to_repeat is not None:
            self._to_repeat.append(event)
            heard = False  # it is only then in hand (law 1)
        if event.keys is not None:
            wanted = [job for job in jobs if job.key in event.keys or job.job_id in event.keys]
            strangers = event.keys - {name for job in wanted for name in (job.key, job.job_id)} - self._known
            if self._collecting and strangers and self._left is None and self._to_repeat is None:
                self._left = self._heard_to
            self._remember(strangers & (event.unread | self.left_out), event.reason)
            self._end(wanted, event.reason)
        elif event.reason is CancelReason.INTERRUPT:
            self.interrupted = True
            self._end([job for job in jobs if job.phase not in _UNSENT], event.reason)
        else:
            self.all = True
            self._end(jobs, event.reason)
        if heard and event.heard_to is not None:
            self._heard_to = event.heard_to
        if heard or (self.all and event.keys is None):
            self._hear()

    def of(self, row: Row) -> CancelReason | None:
        """Why a row that is read just now is to end; None where it is not."""
        return self._early.pop(row.key, CancelReason.USER if self.all else None)

    def done(self) -> None:
        """Every row of the input has its record: a wish for all of them is fulfilled, and concerns no later row."""
        if self.all:
            self.all = False
            self._hear()

    def _jobs(self) -> tuple[Job, ...]:
        return (*self._desk.unsubmitted.values(), *self._desk.watched.values())

    def _end(self, jobs: Iterable[Job], reason: CancelReason) -> None:
        for job in jobs:
            if job.reason is not None or job.phase is Phase.FINISHED:
                continue
            if job.phase is Phase.ENDING:  # its record stands, if it reaches the disk; else the wish does
                self._desk.note(Cancelling(job.key, job.attempt, reason.value, self._desk.wall))
                continue
            self._cancels.latch(job, reason)
            if job.phase is Phase.WAITING:
                self._endings.end(job, cancelled(reason, None, sent=bool(job.remember().attempts)), None)
            elif job.phase is Phase.INTENDING:
                self._submits.cancel_intending(job)
            elif job.phase is Phase.WATCHING:
                self._cancels.begin(job)

    def _remember(self, keys: frozenset[str], reason: CancelReason) -> None:
        for key in sorted(keys - self._early.keys()):
            self._early[key] = reason
            self._desk.note(Cancelling(key, 1, reason.value, self._desk.wall))

    def _hear(self) -> None:
        self._desk.note(RequestsAccepted(self._heard_to, self.all, self._left))
