"""Where one row of a journal stands."""

from __future__ import annotations

from struct import Struct

from batchrun.core.journal.entries import AttemptEnded

PLACE = Struct(">QQQI")  # big-endian: packed markers sort as their records stand in the file
Marker = tuple[int, int, int, int, str]
"""Of a record: generation, offset, length, CRC, state."""


class JournaledRow:
    """What the journal knows of one row, after its last entry."""

    __slots__ = (
        "again",
        "attempt",
        "cancel",
        "ended",
        "job_id",
        "open_intent",
        "recorded_as",
        "recorded_at",
        "retry_at",
        "row_sha256",
        "submitted_at",
        "unconfirmed",
    )

    def __init__(self) -> None:
        self.attempt = 1
        self.row_sha256 = ""
        self.open_intent = False  # an intent without an end: perhaps sent
        self.job_id: str | None = None
        self.submitted_at = 0.0
        self.ended: tuple[AttemptEnded, ...] = ()
        self.retry_at: float | None = None
        self.unconfirmed = False
        self.cancel: str | None = None
        self.again: str | None = None  # the state in which its job had ended, where it is to be looked at once more
        self.recorded_at: bytes | None = None  # its marker, packed: a million of them are in memory at once
        self.recorded_as = ""

    @property
    def marker(self) -> Marker | None:
        """Where its record stands, as far as the journal knows."""
        if self.recorded_at is None:
            return None
        gen, offset, length, crc = PLACE.unpack(self.recorded_at)
        return gen, offset, length, crc, self.recorded_as

    @marker.setter
    def marker(self, marker: Marker) -> None:
        *place, self.recorded_as = marker
        self.recorded_at = PLACE.pack(*place)

    @property
    def is_void(self) -> bool:
        """Whether the row is as if it had never been touched: no attempt that counts, no cancel, no record."""
        return not (
            self.open_intent or self.job_id or self.ended or self.unconfirmed or self.cancel or self.recorded_at
        )

    @property
    def waits(self) -> bool:
        """Whether the row can only go on by being sent: its last attempt is over, and is to be followed by another."""
        over = not (self.open_intent or self.job_id or self.unconfirmed or self.cancel or self.recorded_at)
        return over and bool(self.ended)
