"""The rows of the input, as they come: which are taken in hand, which are known already, and when more are wanted.

Only as many rows are in memory as may be in flight, and some ahead. A row that an earlier run finished or left open
is known and passed over; one beyond ``--limit`` is left to the next run.
"""

from __future__ import annotations

from batchrun.core.engine.artifacts import Endings
from batchrun.core.engine.cancel_requests import CancelRequests
from batchrun.core.engine.submits import Submits
from batchrun.core.jobs.jobs import Jobs
from batchrun.core.jobs.messages import InputEnded, ReadRows, RowRead
from batchrun.core.jobs.record_of import cancelled, rejected
from batchrun.core.limits.gate import Gate

READ_AHEAD = 64
"""Rows in memory beyond those that may be in flight."""


class RowsIn:
    """Takes rows. `known` are those that an earlier run finished or left open, until they are read.

    `ended`: no row comes any more; `dry`: none is at hand, and more may come; `left_out`: --limit leaves some to the
    next run.
    """

    def __init__(
        self, desk: Jobs, endings: Endings, gate: Gate, submits: Submits, requests: CancelRequests, known: set[str]
    ) -> None:
        self._desk = desk
        self._endings = endings
        self._gate = gate
        self._submits = submits
        self._requests = requests
        self.known = known
        self.ended = self.dry = self.left_out = False
        self._taken = 0  # rows of the input that this run took in hand
        self._asked_for = 0

    def row_read(self, event: RowRead) -> None:
        row = event.row
        self._asked_for = max(0, self._asked_for - 1)
        self.dry = False
        if row.key in self.known:
            self.known.discard(row.key)
            return
        if self.ended:  # beyond --limit
            self.left_out = True
            self._requests.left_out.add(row.key)
            return
        self._taken += 1
        if self._taken == self._desk.settings.limit:
            self.ended = self.left_out = True
        reason = self._requests.of(row)
        job = self._desk.open(row)
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
            self.known.clear()

    def read_on(self) -> None:
        """Ask for rows while there is room for them: a place in memory for each job in flight, and some ahead."""
        desk = self._desk
        if self.ended or self._gate.halted is not None or self._gate.closed:
            return
        in_memory = len(desk.unsubmitted) + len(desk.watched)
        room = self._gate.places + READ_AHEAD - in_memory - self._asked_for
        room = int(min(room, READ_AHEAD - self._submits.waiting() - self._asked_for))
        if room >= READ_AHEAD // 2 and desk.unsynced_records < desk.settings.max_memory:
            self._asked_for += room
            desk.instruct(ReadRows(room))
