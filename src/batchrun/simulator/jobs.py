"""The jobs of the service: what was decided at the submit, in few bytes, and what a poll shows of it.

Everything about a job is decided when it is created. A poll derives the answer from those facts and the
time; nothing runs in between, no timer, no task. A million jobs are 66 MB.
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

from batchrun.simulator.outcomes import CANCELS, CODES, COMPLETED, OUTCOMES, STUCK_QUEUED

_FACTS = struct.Struct("<dddfQIIIHHBB")
_POLLS = struct.Struct("<dI")
_SIZE = _FACTS.size + _POLLS.size
_OUTCOMES = (*OUTCOMES, *CODES)
_OUTCOME_NUMBER = {word: number for number, word in enumerate(_OUTCOMES)}
CANCEL_BY_NUMBER = ("", *CANCELS)
_BACKGROUND, _ID_CHANGES = 1, 2
MOST = 2**32 - 1  # in 32 bits

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
    hidden: float  # seconds from `created` in which a poll gets 404
    row: int
    nonce: int  # random bits for what is decided later: its text, what a cancel does
    input_tokens: int
    output_tokens: int
    outcome: str
    model: str
    background: bool
    id_changes: bool
    cancel: str  # what a cancel of it does; empty: by the scenario

    def status(self, now: float) -> str:
        """The status at `now`, if it is not cancelled."""
        if now < self.starts or self.outcome == STUCK_QUEUED:
            return "queued"
        return "in_progress" if now < self.ends else self.final

    @property
    def final(self) -> str:
        """The status at its end."""
        return _STATUS.get(self.outcome, COMPLETED)


class Cancelled(NamedTuple):
    """A cancel of a job: when, which of `CANCELS`, and how many seconds later the delayed ones end."""

    at: float
    way: str
    late: float

    def end(self, job: SimulatedJob) -> tuple[str, float]:
        """The final status and since when."""
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
        """Until when the job counts as open."""
        return self.at if self.way == "late_completed" else self.end(job)[1]

    def status(self, job: SimulatedJob, now: float) -> str:
        """The status at `now`."""
        word, since = self.end(job)
        if now >= since:
            return word
        return "cancelled" if self.way == "late_completed" else job.status(min(now, math.nextafter(job.ends, 0)))


class JobTable:
    """All jobs by serial number, as fixed-size records in one block of memory."""

    def __init__(self) -> None:
        self._block = bytearray()
        self._models: list[str] = []
        self._model_number: dict[str, int] = {}
        self.count = 0
        self.cancelled: dict[int, Cancelled] = {}
        self.deleted: set[int] = set()
        self.echoes: dict[int, bytes] = {}  # what polls repeat of the request, for the few with anything to repeat

    def add(self, job: SimulatedJob) -> int:
        """Store `job` and return its serial number."""
        model = self._model_number.get(job.model)
        if model is None:
            model = self._model_number[job.model] = min(len(self._models), 0xFFFF)
            self._models.append(job.model)
        self._block += _FACTS.pack(
            job.created, job.starts, job.ends, job.hidden, job.row, job.nonce,
            min(job.input_tokens, MOST), min(job.output_tokens, MOST),
            _OUTCOME_NUMBER[job.outcome], model,
            _BACKGROUND * job.background | _ID_CHANGES * job.id_changes, CANCEL_BY_NUMBER.index(job.cancel),
        )  # fmt: skip
        self._block += bytes(_POLLS.size)
        self.count += 1
        return self.count - 1

    def job(self, serial: int) -> SimulatedJob:
        created, starts, ends, hidden, row, nonce, tokens_in, tokens_out, outcome, model, flags, cancel = (
            _FACTS.unpack_from(self._block, serial * _SIZE)
        )
        return SimulatedJob(
            created, starts, ends, hidden, row, nonce, tokens_in, tokens_out, _OUTCOMES[outcome],
            self._models[model], bool(flags & _BACKGROUND), bool(flags & _ID_CHANGES), CANCEL_BY_NUMBER[cancel],
        )  # fmt: skip

    def polled(self, serial: int, now: float) -> tuple[int, float | None]:
        """Count a poll; the number of polls before it, and seconds since the last one."""
        offset = serial * _SIZE + _FACTS.size
        last, polls = _POLLS.unpack_from(self._block, offset)
        _POLLS.pack_into(self._block, offset, now, min(polls + 1, MOST))
        return polls, now - last if polls else None
