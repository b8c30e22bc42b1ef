"""Rough estimates of the tokens and bytes of a batch, before anything is paid.

No tokeniser is right for every model, and none is quick enough for ten million rows: four bytes a token is
the usual rule of thumb for English, too high for pictures and escapes. Results count as 500 tokens
where the row does not cap them lower. The sizes of records were measured on typical results; the text of a result is in
its record twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BYTES_PER_TOKEN = 4
USUAL_RESULT = 500  # tokens
_RECORD = 2_200  # bytes of a record without the text of its result
_FIXED = {"/embeddings": 36_000, "/images/generations": 2_200_000}  # 1,536 floats; a PNG of 1024 × 1024 in base64


def result_tokens(body: Mapping[str, Any]) -> int:
    """Tokens of the result of `body`, if it is a usual one."""
    cap = body.get("max_output_tokens") or body.get("max_completion_tokens") or body.get("max_tokens")
    return cap if type(cap) is int and 0 < cap < USUAL_RESULT else USUAL_RESULT


def input_tokens(size: int) -> int:
    """Tokens of rows that have `size` bytes together."""
    return round(size / BYTES_PER_TOKEN)


def output_bytes(plain_path: str, rows: int, tokens: int) -> int:
    """Bytes of the records of `rows` rows whose results have `tokens` tokens together."""
    return rows * _RECORD + (rows * _FIXED[plain_path] if plain_path in _FIXED else 2 * BYTES_PER_TOKEN * tokens)
