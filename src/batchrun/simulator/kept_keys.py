"""Idempotency keys: a POST with the key of an earlier one gets the job of that one, for as long as keys are kept."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from batchrun.simulator.replies import Reply, error


class _Kept(NamedTuple):
    at: float
    body: bytes  # its hash
    answer: Callable[[float], Reply]  # to the same POST at a later time


class KeptKeys:
    """The keys of POSTs that created a job."""

    def __init__(self) -> None:
        self._kept: dict[bytes, _Kept] = {}

    def keep(self, key: bytes, body: bytes, now: float, answer: Callable[[float], Reply]) -> None:
        """The POST of `body` with `key` created a job, and is answered so whenever it comes again."""
        self._kept[key] = _Kept(now, _hash_of(body), answer)

    def answer(self, key: bytes, body: bytes, now: float, seconds: float) -> Reply | None:
        """The answer to a POST that came before, in the last so many seconds; None to one that did not."""
        kept = self._kept.get(key)
        if kept is None or now - kept.at > seconds:
            return None
        if kept.body != _hash_of(body):
            return error(422, "this idempotency key was used with another body", code="idempotency_key_reused")
        return kept.answer(now)


def _hash_of(body: bytes) -> bytes:
    return blake2b(body, digest_size=16).digest()
