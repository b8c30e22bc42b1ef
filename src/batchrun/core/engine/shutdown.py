"""How a run is over: what was asked for (a stop, an end to waiting), and what has come to rest by then.

Laws:

1. A run ends in good order only when nothing is on its way: no POST whose outcome is not safe, no line that somebody
   waits for, no file. Two things end it before: time is up for a stop, or the files cannot be written.
2. A detached run watches nothing, so nothing but its own submits can hold it.
3. While rows that an earlier run left are being taken up only a stop ends it: those that are still to come stay open.
4. With a cancel of all rows the batch is complete only once the wish itself is noted as fulfilled.
"""

from __future__ import annotations

from batchrun.core.engine.artifacts import Endings
from batchrun.core.engine.cancel_requests import CancelRequests
from batchrun.core.engine.cancels import Cancels
from batchrun.core.engine.polls import Polls
from batchrun.core.engine.rows_in import RowsIn
from batchrun.core.jobs.job import CancelReason
from batchrun.core.jobs.jobs import Jobs
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.jobs.messages import CancelRequested, Outcome, StopMode, StopRequested
from batchrun.core.jobs.timers import NEVER
from batchrun.core.limits.gate import Gate
from batchrun.core.taxonomy.halts import HaltReason


class Shutdown:
    """Knows when the run is over. With `collecting` there is no input to come to its end."""

    def __init__(
        self,
        desk: Jobs,
        endings: Endings,
        gate: Gate,
        watch: Polls,
        cancels: Cancels,
        requests: CancelRequests,
        inflow: RowsIn,
        *,
        collecting: bool,
    ) -> None:
        self._desk = desk
        self._endings = endings
        self._gate = gate
        self._watch = watch
        self._cancels = cancels
        self._requests = requests
        self._inflow = inflow
        self._collecting = collecting
        self.taken_up = not collecting  # what an earlier run left is in hand
        self._mode: StopMode | None = None
        self._stop_at = NEVER
        max_wait = desk.settings.max_wait
        self._max_wait_at = desk.now + max_wait if max_wait else NEVER

    def requested(self, event: StopRequested) -> None:
        settings, gate, watch = self._desk.settings, self._gate, self._watch
        mode = self._mode = StopMode.DRAIN if event.mode is StopMode.INTERRUPT else event.mode
        if event.mode is StopMode.INTERRUPT and settings.cancel_on_interrupt:
            self._requests.asked(CancelRequested(None, CancelReason.INTERRUPT))
        if mode is StopMode.DETACH:
            gate.places = NEVER  # no look will ever free a place
            watch.stopped = not gate.doubted
            return
        gate.closed = True
        # What an interrupt cancelled is looked at once more; nothing else is watched then.
        watch.stopped = not self._requests.interrupted
        patience = settings.drain + (settings.cancel_settle if self._requests.interrupted else 0.0)
        self._stop_at = self._desk.now + (patience if mode is StopMode.DRAIN else 0.0)

    def next_time(self) -> float:
        """When to look again without an event."""
        return min(self._stop_at, self._max_wait_at)

    def look(self) -> None:
        """Stop watching where the time for that has come."""
        if self._desk.now >= self._max_wait_at:
            self._gate.halt(HaltReason.MAX_WAIT, f"--max-wait of {self._desk.settings.max_wait:g} s is over")
            self._watch.stopped = True
        if self._mode is StopMode.DETACH and not self._gate.doubted:
            self._watch.stopped = True

    def outcome(self) -> Outcome | None:
        """How the run is over; None while it is not."""
        desk, gate = self._desk, self._gate
        if desk.now >= self._stop_at:
            return Outcome.STOPPED
        if gate.exposed or not desk.all_synced or not self._endings.at_rest():
            return None
        if self._mode is StopMode.DRAIN:
            interrupted = self._requests.interrupted
            waits = (desk.latched or not self.taken_up) if interrupted else self._cancels.in_flight
            return Outcome.STOPPED if not waits else None
        if not self.taken_up:
            return None
        settled = desk.open_jobs == 0
        if gate.halted is not None:
            return Outcome.HALTED if settled or (self._watch.stopped and not self._cancels.in_flight) else None
        if self._collecting:
            if not settled:
                return None
            return Outcome.STOPPED if desk.in_phase[Phase.WAITING] else Outcome.COMPLETE
        if not self._inflow.ended or desk.in_phase[Phase.WAITING]:
            return None
        if self._mode is StopMode.DETACH:
            return Outcome.DETACHED if not self._cancels.in_flight else None
        if not settled:
            return None
        if not self._inflow.left_out and self._requests.all:
            self._requests.done()
            return None  # once that is on the disk
        return Outcome.COMPLETE
