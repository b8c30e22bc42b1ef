"""Rough sizes of what a batch will take and bring, for a look before it is paid for.

No tokeniser is right for every model, and none is quick enough for ten million rows: four bytes a token is
the usual rule of thumb for English, too high for pictures and escapes. Answers are taken at 500 tokens
where the row does not cap them lower. The sizes of records were measured on typical answers, the text of
an answer stands in its record twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BYTES_PER_TOKEN = 4
USUAL_ANSWER = 500  # tokens
_RECORD = 2_200  # bytes of a record without the text of its answer
_FIXED = {"/embeddings": 36_000, "/images/generations": 2_200_000}  # 1,536 floats; a PNG of 1024 × 1024 in base64


def answer_tokens(body: Mapping[str, Any]) -> int:
    """The tokens that the answer to `body` may have, if it is a usual one."""
    cap = body.get("max_output_tokens") or body.get("max_completion_tokens") or body.get("max_tokens")
    return cap if type(cap) is int and 0 < cap < USUAL_ANSWER else USUAL_ANSWER


def input_tokens(size: int) -> int:
    """Tokens of rows that have `size` bytes together."""
    return round(size / BYTES_PER_TOKEN)


def output_bytes(plain_path: str, rows: int, answers: int) -> int:
    """Bytes of the records of `rows` rows whose answers have `answers` tokens together."""
    return rows * _RECORD + (rows * _FIXED[plain_path] if plain_path in _FIXED else 2 * BYTES_PER_TOKEN * answers)
