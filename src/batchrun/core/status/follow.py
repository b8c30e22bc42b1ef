"""The journal of a batch, followed while it grows, by whoever only wants to know how the batch stands.

A row whose record is known is forgotten, so that memory is a matter of what is in flight and not of what is done.

`done` markers are believed for that, because whoever reads a million of them cannot compare a million keys. They
are wrong where somebody shortened the output: `trusts_too_much` tells, and a course that is begun anew as
`sceptical` forgets a row only when its record was seen.
"""

from __future__ import annotations

from typing import Any

from batchrun.core.journal.fold import Folding, JournalState
from batchrun.core.status.counts import RecentRecords


class JournalFollower:
    """Takes the lines of a journal. Of what happened before `since` no time is kept."""

    def __init__(self, *, sceptical: bool = False) -> None:
        self._folding = Folding(
            told={
                "started": self._moment,
                "intent": self._intent,
                "submitted": self._moment,
                "ended": self._moment,
                "cleared": self._cleared,
                "unconfirmed": self._unconfirmed,
                "cancelling": self._moment,
                "done": self._done,
            }
        )
        self.take = self._folding.take
        self.last_at = 0.0
        self.since = 0.0
        self.submits, self.refused, self.lost = RecentRecords(), RecentRecords(), RecentRecords()
        self._ends: dict[int, int] = {}  # of a generation: where its last record ends
        self._seen: set[str] | None = set() if sceptical else None

    @property
    def fold(self) -> JournalState:
        return self._folding.fold

    @property
    def records_end(self) -> int:
        """Up to here the output is known to have been on the disk."""
        return self._ends.get(self.fold.gen, 0)

    def trusts_too_much(self, output_size: int) -> bool:
        """Whether records that it took for written are not in an output of that size."""
        if self._seen is not None or self.fold.rewrite is not None:  # between two generations nothing fits
            return False
        return self.records_end > output_size or any(gen != self.fold.gen for gen in self._ends)

    def recorded(self, key: str) -> None:
        """The row's record was read in the output."""
        self.fold.trails.pop(key, None)
        if self._seen is not None:
            self._seen.add(key)

    # --- told by the fold ---

    def _moment(self, values: dict[str, Any]) -> None:
        self.last_at = max(self.last_at, values["at"])

    def _intent(self, values: dict[str, Any]) -> None:
        self._count(self.submits, values["at"])

    def _cleared(self, values: dict[str, Any]) -> None:
        self._count(self.refused, values["at"])

    def _unconfirmed(self, values: dict[str, Any]) -> None:
        self._count(self.lost, values["at"])

    def _count(self, lately: RecentRecords, at: float) -> None:
        self.last_at = max(self.last_at, at)
        if at >= self.since:
            lately.add(at)

    def _done(self, values: dict[str, Any]) -> None:
        gen, end = values["gen"], values["offset"] + values["length"]
        self._ends[gen] = max(self._ends.get(gen, 0), end)
        if self._seen is None or values["key"] in self._seen:
            self.fold.trails.pop(values["key"], None)
