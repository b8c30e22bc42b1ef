"""How many jobs in flight a service bears, where it limits those and not a rate: learned from its refusals.

Where the last INCIDENTS incidents agree in jobs in flight and not in rate, the places become that number. Each job that
is accepted adds GROWTH / places, so that a limit that was raised is found. Where twice as many jobs as there are places
were accepted since the last refusal, growth doubles with each further turn: it was no such limit.

A service with a limited rate may seem to agree in jobs as well while its first burst is used up. There jobs are accepted
between incidents although none ended; here each takes the place of one that did.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

INCIDENTS = 4
AGREE = 0.2
GROWTH = 0.5


class _Incident(NamedTuple):
    jobs: int
    rate: float
    accepted: int


class Places:
    """The places of one limited resource; `limit` is infinite until they are learned."""

    def __init__(self) -> None:
        self.limit = float("inf")
        self._incidents: deque[_Incident] = deque(maxlen=INCIDENTS)
        self._accepted = 0
        self._since_refusal = 0

    def concerns(self, jobs: int) -> bool:
        """Whether a refusal with so many `jobs` in flight is one for want of a place."""
        return jobs >= (1 - AGREE) * self.limit

    def accepted(self) -> None:
        self._accepted += 1
        if self.limit < float("inf"):
            self._since_refusal += 1
            turns = self._since_refusal / self.limit
            self.limit += GROWTH / self.limit * 2.0 ** max(0.0, min(turns, 20.0) - 2.0)

    def refused(self, jobs: int) -> None:
        """Refused for want of a place, with so many `jobs` in flight."""
        self._since_refusal = 0
        self.limit = max(1.0, float(min(jobs, self.limit)))

    def incident(self, jobs: int, rate: float) -> None:
        """Refused with so many jobs in flight, at that rate."""
        incidents = self._incidents
        if self.limit < float("inf"):  # with far fewer jobs than places: it is something else
            self.limit = float("inf")
            incidents.clear()
        incidents.append(_Incident(jobs, rate, self._accepted))
        if len(incidents) < INCIDENTS or not _agree([one.jobs for one in incidents]):
            return
        if _agree([one.rate for one in incidents]):
            return
        first, last = incidents[0], incidents[-1]
        accepted = last.accepted - first.accepted
        ended = accepted - (last.jobs - first.jobs)
        if jobs and ended >= accepted / 2 and accepted:
            self.limit = float(jobs)
            self._since_refusal = 0


def _agree(values: list[float] | list[int]) -> bool:
    middle = sum(values) / len(values)
    return all(abs(value - middle) <= AGREE * middle for value in values)
