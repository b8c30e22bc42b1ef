"""What the user gave: a row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the input as the engine knows it; its body stays in the input until it is sent.

    `key` is the custom_id, or a hash of the row with its occurrence. `ordinal` counts the rows of the
    input from 0 and leads back to the line. `metadata` is the user's own, as JSON, and travels to the record.
    """

    key: str
    ordinal: int
    model: str | None = None
    metadata: bytes | None = None
