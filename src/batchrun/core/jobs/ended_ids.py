"""The ids of all jobs that ended, in this run or an earlier one, so that none of them counts for another row.

Of each id 64 bits of its hash are kept, in a table as that of the rows' keys (`core/rows/key_index.py`): 14 to 20 bytes
with its slots. Two ids among a million share a hash once in 30 million batches; the row that gets the second of them
ends unconfirmed, and nothing wrong is believed. Where the service repeats ids, a hash of the body is kept with each.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from batchrun.core.rows.key_index import KeyIndex


class EndedIds:
    """Which ids are known, by the hash of each in `index`; and with `bodies` a hash of the body that the first row of each
    sent, 0 where it is unknown."""

    __slots__ = ("_bodies", "index")

    def __init__(self, ids: Iterable[str] = (), bodies: Iterable[int] | None = None) -> None:
        self.index = KeyIndex()
        self.index.put_all(map(hash, ids))
        self._bodies = array("q") if bodies is None else array("q", bodies)

    def __len__(self) -> int:
        return len(self.index)

    def add(self, job_id: str, body_hash: int = 0) -> None:
        """A job ended; where it is shared, the first time counts."""
        if self.index.add(hash(job_id)) and (body_hash or self._bodies):
            missing = len(self.index) - 1 - len(self._bodies)
            self._bodies.extend([0] * missing)
            self._bodies.append(body_hash)

    def body_hash(self, job_id: str) -> int:
        """The hash of the body for which the job was made; 0 where it is unknown."""
        place = next(self.index.at(hash(job_id)), None)
        return 0 if place is None or place >= len(self._bodies) else self._bodies[place]
