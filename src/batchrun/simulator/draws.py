"""Random draws that repeat: each follows from the seed, the row and its turn.

Order of arrival is no argument. A batch that is sent again with the same seed, in any order and at any
concurrency, gets the same outcomes; the second attempt of a row is its second draw.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import NamedTuple

import orjson

_ROW_AND_TURN = struct.Struct("<QQ")
_WORDS = struct.Struct("<8Q")
_SEED = struct.Struct("<Q")
_WORD = struct.Struct("<Q")

# What a client adds to a row's body on its own; two POSTs that differ in these alone are one row.
_CLIENTS_OWN = ("background", "store", "stream")


class Draw(NamedTuple):
    """Eight quantiles in [0, 1)."""

    refusal: float
    outcome: float
    queued: float
    duration: float
    tokens: float
    latency: float
    trait: float
    nonce: float


def draw(seed: int, row: int, turn: int) -> Draw:
    """What chance decides about the `turn`-th POST of `row`."""
    digest = blake2b(_ROW_AND_TURN.pack(row, turn), key=_SEED.pack(seed), digest_size=64).digest()
    return Draw._make([(word >> 11) * 2.0**-53 for word in _WORDS.unpack(digest)])


def quantile(seed: int, *facts: int) -> float:
    """One quantile in [0, 1) that follows from `seed` and `facts`."""
    digest = blake2b(b"".join(map(_WORD.pack, facts)), key=_SEED.pack(seed), digest_size=8).digest()
    return float(_WORD.unpack(digest)[0] >> 11) * 2.0**-53


def row_of(body: object) -> tuple[int, str | None]:
    """The number by which a row is recognised, and its custom_id if `metadata` in the body names one.

    Rows without a custom_id are recognised by their body, whatever the order of its keys, without what a
    client adds on its own (background, store, stream).
    """
    if isinstance(body, dict):
        metadata = body.get("metadata")
        if isinstance(metadata, dict) and isinstance(name := metadata.get("custom_id"), str) and name:
            return row_of_name(name), name
        body = {key: value for key, value in body.items() if key not in _CLIENTS_OWN}
    return _number(b"body", orjson.dumps(body, option=orjson.OPT_SORT_KEYS)), None


def row_of_name(custom_id: str) -> int:
    return _number(b"name", custom_id.encode("utf-8", "surrogatepass"))


def _number(kind: bytes, text: bytes) -> int:
    number: int = _WORD.unpack(blake2b(text, person=kind, digest_size=8).digest())[0]
    return number
