"""How fast a batch goes, and when it will be done: from what was counted lately, never from the start.

A batch of a day speeds up, is paused, meets an outage; an average since the start would be wrong for hours.
So the rates are those of the last seconds and the time left follows from the records of the last five minutes.
Counts are those of this run: what earlier runs finished is done, and says nothing of the speed.

Samples are kept once a second at most: 300 of them, however often one is fed.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from batchrun.core.status.snapshot import Snapshot

LATELY = 10.0
"""Seconds over which submits and polls a second are taken."""
LOOKS_BACK = 300.0
"""Seconds over which records a second are taken, for the time left."""
LEAST = 2.0  # seconds of watching without which nothing is said of the time left
_STEP = 1.0


class _Sample(NamedTuple):
    at: float
    records: int
    submits: int
    polls: int


class Pace(NamedTuple):
    """What goes on, a second; `left` in seconds, None while nobody can know."""

    submits: float
    polls: float
    records: float
    left: float | None


class Throughput:
    """Fed with snapshots in the order of their time. `total` is None where nobody knows it."""

    __slots__ = ("_samples", "total")

    def __init__(self, total: int | None) -> None:
        self.total = total
        self._samples: deque[_Sample] = deque()

    def add(self, snapshot: Snapshot) -> Pace:
        """The pace as of `snapshot`."""
        samples = self._samples
        now = _Sample(snapshot.now, sum(snapshot.states.values()), snapshot.submits, snapshot.polls)
        if not samples or now.at - samples[-1].at >= _STEP:
            samples.append(now)
        while len(samples) > 1 and samples[1].at <= now.at - LOOKS_BACK:
            samples.popleft()
        lately = next(one for one in reversed(samples) if one.at <= now.at - LATELY or one is samples[0])
        records = _rate(now.records - samples[0].records, now.at - samples[0].at)
        return Pace(
            submits=_rate(now.submits - lately.submits, now.at - lately.at),
            polls=_rate(now.polls - lately.polls, now.at - lately.at),
            records=records,
            left=self._left(snapshot, records, now.at - samples[0].at),
        )

    def _left(self, snapshot: Snapshot, records: float, watched: float) -> float | None:
        if self.total is None:
            return None
        rows = self.total - snapshot.done
        if rows <= 0:
            return 0.0
        if snapshot.halted is not None or watched < LEAST or records <= 0:
            return None
        return rows / records


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
