"""Limits that several batches of one process share: a rate of submits, and a number of jobs in flight.

The rate is one `Rate` that all of them charge. Places are given first come first served: a batch that finds none waits in
line and is called when one is free, because the batch whose job has just ended would otherwise take its place again at
once, and the others would wait for its end. A batch that is called and no longer needs the place passes the turn on.
"""

from __future__ import annotations

from collections.abc import Callable

from batchrun.core.limits.rate import Rate


class Shared:
    """What batches share. A member is any object; it joins with what is to be called when it is its turn."""

    def __init__(self, *, rpm: float | None = None, concurrency: int | None = None) -> None:
        self.requests = Rate(rpm / 60 if rpm else None)
        self.concurrency = concurrency
        self._jobs: dict[object, int] = {}
        self._call: dict[object, Callable[[], object]] = {}
        self._line: dict[object, None] = {}  # in order
        self._turn: object | None = None

    @property
    def jobs(self) -> int:
        """Jobs in flight, all members' together."""
        return sum(self._jobs.values())

    @property
    def members(self) -> int:
        return len(self._call)

    def join(self, member: object, call: Callable[[], object]) -> None:
        """`call` must ask `has_room` soon, not at once, and then `passed`."""
        self._call[member] = call
        self._jobs[member] = 0

    def leave(self, member: object) -> None:
        """The member is over; what it has on the service no longer counts."""
        self._call.pop(member, None)
        self._jobs.pop(member, None)
        self._line.pop(member, None)
        self.passed(member)

    def has_room(self, member: object, jobs: int) -> bool:
        """Whether `member`, with `jobs` in flight, may start another; if not it waits in line."""
        self.count(member, jobs)
        if self.concurrency is None:
            return True
        if self.jobs < self.concurrency and (self._turn is member or (self._turn is None and not self._line)):
            return True
        self._line.setdefault(member)
        self.passed(member)
        return False

    def took(self, member: object, now: float) -> None:
        """`member` has started another; a turn is good for one."""
        self.requests.take(now)
        if member in self._jobs:
            self._jobs[member] += 1
        self.passed(member)

    def withdrew(self, now: float) -> None:
        """A request that was charged is not sent after all."""
        self.requests.settle(now, 1, 0)

    def count(self, member: object, jobs: int) -> None:
        """`member` has so many jobs in flight now."""
        fewer = jobs < self._jobs.get(member, 0)
        if member in self._jobs:
            self._jobs[member] = jobs
        if fewer:
            self._call_next()

    def passed(self, member: object) -> None:
        """`member` has used its turn, or does not want it."""
        if self._turn is member:
            self._turn = None
        self._call_next()

    def _call_next(self) -> None:
        if self._turn is None and self._line and (self.concurrency is None or self.jobs < self.concurrency):
            self._turn = next(iter(self._line))
            del self._line[self._turn]
            self._call[self._turn]()
