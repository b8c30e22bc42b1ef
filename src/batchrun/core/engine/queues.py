"""Rows that wait for their turn to be submitted.

There is one queue for each endpoint and model, since that is what a service may limit: rows of one that waits do not hold
up the others. Among those that may go, the one goes first that came first.

A row that alone takes more tokens than a minute has goes alone, once no other of its queue waits: a minute after the last
one, and the rate then makes the next wait for its tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from batchrun.core.jobs.job import NEVER, Job
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.limits.lane import Lane, Resource
from batchrun.core.text.readable import visible

ALONE_AFTER = 60.0
"""A row with more than a minute's tokens is sent so long after the last one, in seconds."""


def oversized_note(key: str, tokens: int, limit: float, model: str | None) -> str:
    """What a user is told of such a row, whose tokens are estimated."""
    of = f" of {visible(model, 40)}" if model else ""
    shown = f"{visible(key, 60)} takes about {tokens:,} tokens, more than the {limit:,.0f} per minute{of}"
    return f"{shown}: rows like it go alone, after the others"


class LaneQueue:
    """The rows of one lane, each with its place in the order of all rows."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self._rows: deque[tuple[int, Job]] = deque()
        self._oversized: deque[tuple[int, Job]] = deque()

    def __len__(self) -> int:
        return len(self._rows) + len(self._oversized)

    def put(self, place: int, job: Job) -> None:
        self._rows.append((place, job))

    def put_first(self, place: int, job: Job) -> None:
        """Before all others of the queue; `place` is used where there are none."""
        self._rows.appendleft((self._rows[0][0] if self._rows else place, job))

    def put_oversized(self, place: int, job: Job) -> None:
        self._oversized.append((place, job))

    def first(self) -> int | None:
        """The place of the row that is the next to go; None where none waits."""
        for rows in (self._rows, self._oversized):
            while rows:
                place, job = rows[0]
                if job.phase is Phase.WAITING:
                    return place
                rows.popleft()  # cancelled while it waited
        return None

    def opens_at(self, jobs: int) -> float | None:
        """From when on its first row may go, with so many `jobs` in flight; None where only an event can change that."""
        opens = self.lane.opens_at(jobs)
        if self._rows or opens is None:
            return opens
        return None if self.lane.in_flight else max(opens, self.lane.last_at + ALONE_AFTER)

    def take(self) -> Job:
        """Take the first row out."""
        return (self._rows or self._oversized).popleft()[1]


class Queues:
    """All queues, by what their rows are limited by."""

    def __init__(self) -> None:
        self._queues: dict[Resource, LaneQueue] = {}
        self._entered = 0
        self._at_hand = 0

    @property
    def at_hand(self) -> int:
        """Rows that wait for a turn, as of the last `next`, but for those whose lane waits."""
        return self._at_hand

    def any_wait(self) -> bool:
        return any(len(queue) for queue in self._queues.values())

    def all(self) -> tuple[LaneQueue, ...]:
        return tuple(self._queues.values())

    def enter(self, lane: Lane, job: Job, *, oversized: bool = False) -> None:
        """A row waits behind all others; with `oversized` behind all that are not."""
        self._entered += 1
        queue = self._of(lane)
        if oversized:
            queue.put_oversized(self._entered, job)
        else:
            queue.put(self._entered, job)
            self._at_hand += 1

    def enter_first(self, lane: Lane, job: Job) -> None:
        """A row waits before all others of its lane."""
        self._of(lane).put_first(self._entered, job)

    def next(self, now: float, open_jobs: Mapping[Resource, int]) -> tuple[LaneQueue | None, float]:
        """The queue whose first row is the next to go, and `now`; without one, None and when there may be one."""
        chosen, least, soonest, at_hand = None, 0, NEVER, 0
        for resource, queue in self._queues.items():
            place = queue.first()
            if place is None:
                continue
            opens = queue.opens_at(open_jobs[resource])
            if opens is None:
                at_hand += len(queue)  # until the next event
            elif opens > now:
                soonest = min(soonest, opens)
            else:
                at_hand += len(queue)
                if chosen is None or place < least:
                    chosen, least = queue, place
        self._at_hand = at_hand
        return chosen, soonest if chosen is None else now

    def _of(self, lane: Lane) -> LaneQueue:
        queue = self._queues.get(lane.resource)
        if queue is None:
            queue = self._queues[lane.resource] = LaneQueue(lane)
        return queue
