"""The jobs over there: what was decided at the submit, kept in few bytes, and what a look shows now.

Everything about a job is decided when it is created. A look derives the answer from those facts and the
moment; nothing runs in between, no timer, no task. A million jobs are 66 MB.
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

from batchrun.simulator.outcomes import CANCELS, CODES, COMPLETED, OUTCOMES, STUCK_QUEUED

_FACTS = struct.Struct("<dddfQIIIHHBB")
_WATCH = struct.Struct("<dI")
_SIZE = _FACTS.size + _WATCH.size
_OUTCOMES = (*OUTCOMES, *CODES)
_OUTCOME_NUMBER = {word: number for number, word in enumerate(_OUTCOMES)}
CANCEL_WORD = ("", *CANCELS)
_BACKGROUND, _ID_CHANGES = 1, 2
MOST = 2**32 - 1  # of what is kept in 32 bits

_STATUS = {
    "incomplete": "incomplete",
    "filtered": "incomplete",
    "partial": "failed",
    "failed": "failed",
    "expired": "expired",
    "cancelled": "cancelled",
    "requires_action": "requires_action",
    **dict.fromkeys(CODES, "failed"),
}


class SimulatedJob(NamedTuple):
    """A job as it was decided at its submit. Times are seconds since 1970; `ends` may be infinite."""

    created: float
    starts: float
    ends: float
    hidden: float  # seconds from `created` in which it answers 404
    row: int
    nonce: int  # chance for what is decided later: its text, what a cancel does
    input_tokens: int
    output_tokens: int
    outcome: str
    model: str
    background: bool
    id_changes: bool
    cancel: str  # what a cancel of it does; empty: as the scenario says

    def status(self, now: float) -> str:
        """The status word at `now`, if nobody cancels it."""
        if now < self.starts or self.outcome == STUCK_QUEUED:
            return "queued"
        return "in_progress" if now < self.ends else self.final

    @property
    def final(self) -> str:
        """The status word at its end."""
        return _STATUS.get(self.outcome, COMPLETED)


class Cancelled(NamedTuple):
    """That somebody cancelled a job: when, in which of the ways of `CANCELS`, and how late the odd ways end."""

    at: float
    way: str
    late: float

    def end(self, job: SimulatedJob) -> tuple[str, float]:
        """The job's last word and since when it holds."""
        match self.way:
            case "ignored":
                return job.final, job.ends
            case "slow":
                return "cancelled", self.at + self.late
            case "late_completed":
                return COMPLETED, self.at + self.late
            case _:
                return "cancelled", self.at

    def open_until(self, job: SimulatedJob) -> float:
        """When the job's work ends, as far as a count of open jobs sees it."""
        return self.at if self.way == "late_completed" else self.end(job)[1]

    def status(self, job: SimulatedJob, now: float) -> str:
        """The status word at `now`."""
        word, since = self.end(job)
        if now >= since:
            return word
        return "cancelled" if self.way == "late_completed" else job.status(min(now, math.nextafter(job.ends, 0)))


class Jobs:
    """All jobs by serial number, as records of one block of memory."""

    __slots__ = ("_block", "_model_number", "_models", "cancelled", "count", "deleted", "notes")

    def __init__(self) -> None:
        self._block = bytearray()
        self._models: list[str] = []
        self._model_number: dict[str, int] = {}
        self.count = 0
        self.cancelled: dict[int, Cancelled] = {}
        self.deleted: set[int] = set()
        self.notes: dict[int, bytes] = {}  # what an answer echoes of the request, of the few that gave something

    def add(self, job: SimulatedJob) -> int:
        """Keep `job` and return its serial number."""
        model = self._model_number.get(job.model)
        if model is None:
            model = self._model_number[job.model] = min(len(self._models), 0xFFFF)
            self._models.append(job.model)
        self._block += _FACTS.pack(
            job.created, job.starts, job.ends, job.hidden, job.row, job.nonce,
            min(job.input_tokens, MOST), min(job.output_tokens, MOST),
            _OUTCOME_NUMBER[job.outcome], model,
            _BACKGROUND * job.background | _ID_CHANGES * job.id_changes, CANCEL_WORD.index(job.cancel),
        )  # fmt: skip
        self._block += bytes(_WATCH.size)
        self.count += 1
        return self.count - 1

    def job(self, serial: int) -> SimulatedJob:
        created, starts, ends, hidden, row, nonce, tokens_in, tokens_out, outcome, model, flags, cancel = (
            _FACTS.unpack_from(self._block, serial * _SIZE)
        )
        return SimulatedJob(
            created, starts, ends, hidden, row, nonce, tokens_in, tokens_out, _OUTCOMES[outcome],
            self._models[model], bool(flags & _BACKGROUND), bool(flags & _ID_CHANGES), CANCEL_WORD[cancel],
        )  # fmt: skip

    def polled(self, serial: int, now: float) -> tuple[int, float | None]:
        """Note a poll; the number of polls before it, and seconds since the last one."""
        place = serial * _SIZE + _FACTS.size
        last, polls = _WATCH.unpack_from(self._block, place)
        _WATCH.pack_into(self._block, place, now, min(polls + 1, MOST))
        return polls, now - last if polls else None

    def rows(self) -> list[int]:
        """The row of each job, by serial number."""
        return [facts[4] for facts in map(self._facts, range(self.count))]

    def _facts(self, serial: int) -> tuple[int, ...]:
        return _FACTS.unpack_from(self._block, serial * _SIZE)
