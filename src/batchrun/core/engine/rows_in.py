"""Rows, as they come: those that an earlier run left open, then those of the input.

Only as many rows of the input are in memory as may be in flight, and some ahead. A row that an earlier run finished or
left open is known and passed over; one beyond ``--limit`` is left to the next run.

What an earlier run may have sent is never sent again unasked. The time of day may have been set back between the runs:
a job is then of age 0 until the service's clock is known, and a delay no longer than it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from batchrun.core.engine.endings import Endings, Retries
from batchrun.core.engine.polls import Polls
from batchrun.core.engine.resends import Resends
from batchrun.core.engine.submits import Submits
from batchrun.core.jobs.job import CancelReason, Job, Row
from batchrun.core.jobs.jobs import Jobs, cancelled, ended_by_us, rejected
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.jobs.messages import InputEnded, ReadRows, Recovered, RowRead, RowsRecalled, RowsTakenUp
from batchrun.core.journal.entries import AttemptEnded, Cancelling
from batchrun.core.journal.fold import JournaledRow
from batchrun.core.limits.gate import Gate
from batchrun.core.records.record import Attempt
from batchrun.core.responses.outcome import Billing
from batchrun.core.taxonomy.rules import State

READ_AHEAD = 64
"""Rows in memory beyond those that may be in flight."""
HELD_UP = 2_000
"""Rows in memory that were not submitted yet, at most, beyond the POSTs in flight: those of a model that waits are passed."""


class RowsIn:
    """Makes jobs of rows, and knows which rows are still to come.

    `taken_up`: no row that an earlier run left open is still to come; `ended`: no row of the input is; `dry`: none is
    at hand, and more may come; `left_out`: --limit leaves some to the next run; `left_open`: so many rows are left to a
    run with their input, which may send them again; `all_cancelled`: every row that is still to come ends as cancelled.
    """

    def __init__(
        self,
        jobs: Jobs,
        endings: Endings,
        gate: Gate,
        retries: Retries,
        polls: Polls,
        submits: Submits,
        resends: Resends,
        *,
        collecting: bool,
    ) -> None:
        self._jobs = jobs
        self._endings = endings
        self._gate = gate
        self._retries = retries
        self._polls = polls
        self._submits = submits
        self._resends = resends
        self._collecting = collecting
        self.left_open = 0
        self.taken_up = not collecting
        self.ended = self.dry = self.left_out = False
        self._known: set[str] = set()  # rows that an earlier run finished or left open, until they are read
        self._left_out: set[str] = set()  # rows that were read and are left to the next run
        self._cancelled: dict[str, CancelReason] = {}  # rows that are not read yet
        self._to_cancel: AbstractSet[str] | None = frozenset()  # of those to be taken up; None: all of them
        self._any_submitted = False  # of those that were taken up
        self._taken = 0  # rows of the input that became jobs
        self._asked_for = 0

    # --- rows of the input ---

    def row_read(self, event: RowRead) -> None:
        row = event.row
        self._asked_for = max(0, self._asked_for - 1)
        self.dry = False
        if row.key in self._known:
            self._known.discard(row.key)
            return
        if self.ended:  # beyond --limit
            self.left_out = True
            self._left_out.add(row.key)
            return
        self._taken += 1
        if self._taken == self._jobs.settings.limit:
            self.ended = self.left_out = True
        reason = self._cancelled.pop(row.key, CancelReason.USER if self._jobs.all_cancelled else None)
        job = self._jobs.open(row)
        if row.problem is not None:
            self._endings.end(job, rejected(row.problem), None)
        elif reason is not None:
            self._endings.end(job, cancelled(reason, None, sent=False), None)
        else:
            self._submits.enter(job)

    def input_ended(self, event: InputEnded) -> None:
        if event.for_now:
            self.dry = True
        else:
            self.ended = True
            self._known.clear()

    def read_on(self) -> None:
        """Ask for rows while there is room for them: one in memory for each job in flight, and some ahead."""
        jobs = self._jobs
        if self.ended or self._gate.halted is not None or self._gate.closed:
            return
        ahead = READ_AHEAD - self._submits.waiting() - self._asked_for
        if ahead < READ_AHEAD // 2:
            return
        # Rows of a model that waits, or for a retry, keep no others from being read.
        held_up = max(0, jobs.in_phase[Phase.WAITING] - self._submits.waiting())
        in_memory = len(jobs.unsubmitted) + len(jobs.watched) + jobs.shared - held_up
        places = self._gate.places + self._submits.given_back
        room = min(ahead, places + READ_AHEAD - in_memory - self._asked_for)
        room = int(min(room, jobs.settings.submits + HELD_UP - len(jobs.unsubmitted) - self._asked_for))
        if room >= READ_AHEAD // 2 and jobs.unsynced_records < jobs.settings.max_memory:
            self._asked_for += room
            jobs.instruct(ReadRows(room))

    # --- cancels of rows that are not read yet ---

    def unknown(self, keys: frozenset[str]) -> frozenset[str]:
        """Those of `keys` that no earlier run finished or left open."""
        return keys - self._known

    def cancel_unread(self, keys: frozenset[str], unread: frozenset[str], reason: CancelReason) -> None:
        """Journal the cancel of those of `keys` that are still to come: `unread` in this run, or left to the next."""
        for key in sorted((keys & (unread | self._left_out)) - self._cancelled.keys()):
            self._cancelled[key] = reason
            self._jobs.note(Cancelling(key, 1, reason.value, self._jobs.wall))

    # --- rows that an earlier run left open ---

    def recovered(self, event: Recovered) -> None:
        """An earlier run finished rows; those that it left open follow."""
        self._known.update(event.finished)
        self.taken_up = False
        self._polls.hold()
        self._to_cancel = event.to_cancel
        self._any_submitted = False
        if event.new_key:
            self._gate.doubt_key()
        if event.cancel_all:
            self._jobs.cancel_all()

    def rows_taken_up(self, event: RowsTakenUp) -> None:
        self._take_up_all(event.rows, self._to_cancel)
        self._any_submitted |= bool(self._jobs.watched)
        if not event.more:
            self.taken_up = True
            self._polls.release()
            self._to_cancel = frozenset()
            if not self._any_submitted:  # without a job there is nothing to find
                self._gate.trust_key()

    def rows_recalled(self, event: RowsRecalled) -> None:
        for _, journaled in event.rows:
            self._jobs.recalled(journaled.job_id or "")
        self._take_up_all(event.rows, None)

    def _take_up_all(self, rows: Sequence[tuple[Row, JournaledRow]], to_cancel: AbstractSet[str] | None) -> None:
        known, repeats_ids = self._known, self._jobs.repeats_ids
        some = to_cancel is None or bool(to_cancel)
        plain: list[tuple[Row, JournaledRow]] = []  # in their order: of rows with one job id the first has the job
        for each in rows:
            row, journaled = each
            key, job_id = row.key, journaled.job_id
            before = len(known)
            known.add(key)
            if len(known) == before:
                continue
            cancel = some and (to_cancel is None or key in to_cancel or job_id in to_cancel)
            plain_one = (
                journaled.cancel is journaled.again is None and not journaled.unconfirmed and not journaled.ended
            )
            if cancel or repeats_ids or not plain_one:
                self._take_up_plain(plain)
                plain = []
                self._take_up(row, journaled, cancel=cancel)
            else:
                plain.append(each)
        self._take_up_plain(plain)

    def _take_up_plain(self, rows: Sequence[tuple[Row, JournaledRow]]) -> None:
        sent, of_the_future, others = self._jobs.open_sent(rows)
        for job, submitted_at in of_the_future:
            self._polls.doubt_age(job, submitted_at)
        self._polls.poll_soon(sent)
        for row, journaled in others:
            self._take_up(row, journaled, cancel=False)

    def _take_up(self, row: Row, journaled: JournaledRow, *, cancel: bool) -> None:
        """Resume a row where its entries end.

        Where another process requests its `cancel`, it is taken up as one that was cancelled already: that request is
        on the disk, and is accepted behind the entry that is written here.
        """
        jobs = self._jobs
        again = self._may_be_sent_again(journaled)
        if again and self._collecting and not cancel:  # without its input it cannot be sent, and is not given up either
            self.left_open += 1
            return
        if (
            journaled.job_id is not None and journaled.unconfirmed
        ):  # a retry of it may have been sent, as a repair found
            row = row._replace(about=replace(row.about, sendable=False))
        job = jobs.open(row)
        job.resumed(
            journaled.attempt,
            tuple(Attempt(end.job_id, State(end.state), end.code, Billing(end.billing)) for end in journaled.ended),
        )
        reason = None if journaled.cancel is None else CancelReason(journaled.cancel)
        if reason is None and cancel:
            reason = CancelReason.USER
            jobs.note(Cancelling(row.key, journaled.attempt, reason.value, jobs.wall))
        if reason is not None:
            jobs.cancel(job, reason)
        if journaled.job_id is not None and (jobs.repeats_ids or journaled.job_id not in jobs.watched):
            if jobs.repeats_ids and not job.had(journaled.job_id):  # the earlier run compared the bodies
                jobs.share(job, journaled.job_id)
            jobs.identify(job, journaled.job_id, min(journaled.submitted_at, jobs.wall))
            if journaled.again is not None:
                job.reopened(State(journaled.again), jobs.wall)
            elif journaled.submitted_at > jobs.wall:
                self._polls.doubt_age(job, journaled.submitted_at)
            self._polls.recover(job)
        elif reason is None and journaled.marker is not None and journaled.recorded_as != State.UNCONFIRMED:
            # It was finished; its record is gone, and there is no id to fetch it by. It is not sent again.
            message = "its record is missing from the output, and it has no job id to fetch it by"
            self._endings.end(job, ended_by_us(State.EXPIRED, "job_not_found", message), None)
        elif journaled.may_have_been_sent:
            if not (again and reason is None and self._sends_again(job, journaled)):
                self._take_up_unconfirmed(job, journaled.job_id)
        elif reason is not None:
            self._endings.end(job, cancelled(reason, None, sent=False), None)
        elif journaled.ended and not row.about.sendable:
            self._poll_last_attempt(job, journaled)
        elif journaled.retry_at is not None:
            delay = min(journaled.retry_at - jobs.wall, journaled.retry_at - journaled.ended[-1].at)
            self._retries.wait_until(job, jobs.now + max(0.0, delay))
        else:
            self._submits.enter(job)

    def _may_be_sent_again(self, journaled: JournaledRow) -> bool:
        """Whether the service still keeps the idempotency key of the row's last POST, and its response was lost."""
        if journaled.job_id is not None or journaled.unconfirmed or journaled.recorded_at is not None:
            return False
        since = journaled.open_since
        return since is not None and journaled.cancel is None and self._resends.in_time(since)

    def _sends_again(self, job: Job, journaled: JournaledRow) -> bool:
        return journaled.open_since is not None and self._submits.lost_before(job, journaled.open_since)

    def _poll_last_attempt(self, job: Job, journaled: JournaledRow) -> None:
        """The row was to be retried, and its body is gone: its last job's end becomes its record."""
        jobs, last = self._jobs, journaled.ended[-1]
        if last.job_id is None or (last.job_id in jobs.watched and not jobs.repeats_ids):
            message = "its response was lost, and its body is missing"
            self._endings.end(job, ended_by_us(State.UNCONFIRMED, "answer_lost", message), None)
            return
        job.resumed(last.attempt, job.attempts[:-1])
        submitted_at = journaled.submitted_at or last.at  # a rewriting does not keep it
        jobs.identify(job, last.job_id, min(submitted_at, jobs.wall))
        self._polls.recover(job)

    def _take_up_unconfirmed(self, job: Job, job_id: str | None) -> None:
        """An earlier run ended between the row's submit and the response; or it took another row's `job_id` for the row's."""
        jobs = self._jobs
        code, message = "answer_lost", "an earlier run ended between its submit and the response"
        if job_id is not None:
            owner = jobs.watched[job_id].key
            code, message = "duplicate_job_id", f"the journal has the id {job_id} for it, which is the job of {owner!r}"
        if job.cancel_reason is not None:
            job.warn("submit_unanswered")
            self._endings.end(job, cancelled(job.cancel_reason, None, sent=True), None)
        elif jobs.settings.resubmit_unconfirmed and job.about.sendable:
            entry = AttemptEnded(
                job.key, job.attempt, None, State.UNCONFIRMED.value, code, "unknown", jobs.wall, jobs.wall
            )
            jobs.append(entry, job)
            jobs.retry(job, Attempt(None, State.UNCONFIRMED, code, Billing.UNKNOWN))
            self._submits.enter(job)
        else:
            self._endings.end(job, ended_by_us(State.UNCONFIRMED, code, message), None)
