"""Idempotency keys: a POST that is sent again with the same key is the same request.

A service that honours them answers the second one with the job of the first. Then a row whose response was lost is sent
again, within the time for which the service keeps a key (core/engine/resends.py). None of the services that batchrun
knows by name does; a profile of the user's may say so.

A key is made of the batch, the row and its attempt, and of nothing else: after a crash the same one follows,
whatever flags, profile or version of batchrun the next run has. Of the body that is the hash of its row as it is written.
Where the body is another one all the same, such services refuse the request, and none creates a second job.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import orjson

LEAST_KEPT = 300.0
"""Seconds for which a key must be kept to be of use: less a margin for clocks, and a POST takes its time."""
MOST_KEPT = 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The header that carries the key, in lower case, and for how many seconds the service keeps it."""

    header: str
    keeps: float


def idempotency_key(run_id: str, key: str, attempt: int, row_sha256: str) -> str:
    """The key of the POST for a row's `attempt`: SHA-256 in hexadecimal."""
    return sha256(orjson.dumps((run_id, key, attempt, row_sha256))).hexdigest()
