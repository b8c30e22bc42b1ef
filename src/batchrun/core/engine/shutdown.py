"""How a run ends: what was asked for (a stop, an end to waiting), and what has come to rest by then.

Invariants:

1. A run ends in good order only when nothing is under way: no POST whose outcome is not safe, no line that something
   waits for, no file. Two things end it before: time is up for a stop, or the files cannot be written.
2. A detached run polls nothing, so nothing but its own submits can hold it.
3. While rows that an earlier run left open are being taken up only a stop ends it: those that are still to come stay
   open.
4. With a cancel of all rows the batch is complete only once the end of that cancel is journaled.
"""

from __future__ import annotations

from batchrun.core.engine.artifacts import Endings
from batchrun.core.engine.cancel_requests import CancelRequests
from batchrun.core.engine.polls import Polls
from batchrun.core.engine.rows_in import RowsIn
from batchrun.core.jobs.jobs import CancelReason, Jobs
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.jobs.messages import CancelRequested, Outcome, StopMode, StopRequested
from batchrun.core.jobs.timers import NEVER
from batchrun.core.limits.gate import Gate
from batchrun.core.taxonomy.rules import HaltReason


class Shutdown:
    """Knows when the run is over. With `collecting` there is no input to come to its end."""

    def __init__(
        self,
        jobs: Jobs,
        endings: Endings,
        gate: Gate,
        polls: Polls,
        rows_in: RowsIn,
        requests: CancelRequests,
        *,
        collecting: bool,
    ) -> None:
        self._jobs = jobs
        self._endings = endings
        self._gate = gate
        self._polls = polls
        self._rows_in = rows_in
        self._requests = requests
        self._collecting = collecting
        self._mode: StopMode | None = None
        self._stop_at = NEVER
        max_wait = jobs.settings.max_wait
        self._max_wait_at = jobs.now + max_wait if max_wait else NEVER

    def requested(self, event: StopRequested) -> None:
        settings, gate, polls = self._jobs.settings, self._gate, self._polls
        mode = self._mode = StopMode.DRAIN if event.mode is StopMode.INTERRUPT else event.mode
        if event.mode is StopMode.INTERRUPT and settings.cancel_on_interrupt:
            self._requests.requested(CancelRequested(None, CancelReason.INTERRUPT))
        interrupted = self._requests.interrupted
        if mode is StopMode.DETACH:
            gate.lift_places()
            poll = gate.doubted
        else:
            gate.close()
            poll = interrupted  # what an interrupt cancelled is polled once more, and only that
            grace = settings.drain + (settings.cancel_settle if interrupted else 0.0)
            self._stop_at = self._jobs.now + (grace if mode is StopMode.DRAIN else 0.0)
        if poll:
            polls.resume()
        else:
            polls.stop()

    def next_time(self) -> float:
        """When to be called again without an event."""
        return min(self._stop_at, self._max_wait_at)

    def advance(self) -> None:
        """Stop polling where the time for that has come."""
        if self._jobs.now >= self._max_wait_at:
            self._gate.halt(HaltReason.MAX_WAIT, f"--max-wait of {self._jobs.settings.max_wait:g} s is over")
            self._polls.stop()
        if self._mode is StopMode.DETACH and not self._gate.doubted:
            self._polls.stop()

    def outcome(self) -> Outcome | None:
        """How the run is over; None while it is not."""
        jobs, gate, rows_in = self._jobs, self._gate, self._rows_in
        cancels_in_flight = self._polls.cancels_in_flight
        if jobs.now >= self._stop_at:
            return Outcome.STOPPED
        if gate.exposed or not jobs.all_synced or not self._endings.at_rest():
            return None
        if self._mode is StopMode.DRAIN:
            interrupted = self._requests.interrupted
            waits = (jobs.to_end or not rows_in.taken_up) if interrupted else cancels_in_flight
            return Outcome.STOPPED if not waits else None
        if not rows_in.taken_up:
            return None
        settled = jobs.open_jobs == 0
        if gate.halted is not None:
            return Outcome.HALTED if settled or (self._polls.stopped and not cancels_in_flight) else None
        if self._collecting:
            if not settled:
                return None
            return Outcome.STOPPED if jobs.in_phase[Phase.WAITING] else Outcome.COMPLETE
        if not rows_in.ended or jobs.in_phase[Phase.WAITING]:
            return None
        if self._mode is StopMode.DETACH:
            return Outcome.DETACHED if not cancels_in_flight else None
        if not settled:
            return None
        return Outcome.COMPLETE if rows_in.left_out or self._requests.all_done() else None
