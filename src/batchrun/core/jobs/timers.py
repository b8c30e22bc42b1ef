"""Everything that waits for a time, by due time.

A wheel of buckets: one list of jobs for each tick of 1/64 s, and a heap of the ticks in use. There are at
most a few thousand ticks between now and the farthest poll, so the heap stays small however many jobs
wait: putting and taking cost the same at a thousand jobs and at a million. A plain heap of jobs was
declined: its cost and its memory (a tuple and a float for each entry) grow with the number of jobs.

A job waits for one time at most: `job.due` is its tick. An entry whose job has meanwhile moved is stale
and skipped when its tick comes. Due times are rounded up to the tick, never down.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import ceil

from batchrun.core.jobs.job import IDLE, Job

TICKS_PER_SECOND = 64
NEVER = float("inf")


class Timers:
    """Jobs by due time; times are seconds on the engine's clock."""

    def __init__(self) -> None:
        self._buckets: dict[int, list[Job]] = {}
        self._ticks: list[int] = []

    def put(self, job: Job, at: float) -> None:
        """Let `job` wait until `at`; an earlier wait of it is forgotten."""
        tick = ceil(at * TICKS_PER_SECOND)
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = [job]
            heappush(self._ticks, tick)
        else:
            bucket.append(job)
        job.due = tick

    @staticmethod
    def forget(job: Job) -> None:
        """Let `job` wait for nothing."""
        job.due = IDLE

    def take(self, now: float) -> Job | None:
        """The next job that is due, or None; it waits no longer."""
        ticks = self._ticks
        while ticks and ticks[0] <= now * TICKS_PER_SECOND:
            tick = ticks[0]
            bucket = self._buckets[tick]
            while bucket:
                job = bucket.pop()
                if job.due == tick:
                    job.due = IDLE
                    return job
            heappop(ticks)
            del self._buckets[tick]
        return None

    def soonest(self) -> float:
        """A time before which no job is due, near enough to ask again then; NEVER where none waits.

        Unlike `next_due` it does not check whether that tick's entries are stale.
        """
        return self._ticks[0] / TICKS_PER_SECOND if self._ticks else NEVER

    def next_due(self) -> float | None:
        """When the next job will be due; None where none waits."""
        while self._ticks:
            tick = self._ticks[0]
            bucket = self._buckets[tick]
            while bucket:
                if bucket[-1].due == tick:
                    return tick / TICKS_PER_SECOND
                bucket.pop()
            heappop(self._ticks)
            del self._buckets[tick]
        return None
