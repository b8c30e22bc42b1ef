"""What the user gave, and what is in flight: a row, and the job that is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.records.record import Attempt
from batchrun.core.responses.error import Problem
from batchrun.core.responses.outcome import Running
from batchrun.core.responses.usage import NO_USAGE, Usage
from batchrun.core.taxonomy.states import State


@dataclass(frozen=True, slots=True)
class About:
    """What a record needs of its row. Rows without metadata of their own share one.

    `metadata` is the user's own, as a JSON object. `tokens` is the estimate that the token rate counts.
    `sendable` is false where the input no longer holds the body that was sent: no attempt can follow.
    """

    model: str | None = None
    metadata: bytes | None = None
    tokens: int = 0
    sendable: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the input as the engine knows it; its body stays in the input until it is sent.

    `key` is the custom_id, or a hash of the row with its occurrence, and leads back to the line.
    `problem` is set where the check refused the row: it then ends without a request.
    """

    key: str
    about: About = About()
    row_sha256: str = ""
    problem: Problem | None = None


class CancelReason(StrEnum):
    """Who wants a job to end."""

    USER = "user"
    DEADLINE = "deadline"
    INTERRUPT = "interrupt"


class History:
    """What only few jobs need to remember: earlier attempts, warnings, trouble, a cancel."""

    __slots__ = (
        "again",
        "again_since",
        "attempts",
        "cancel_sent",
        "final_at",
        "latch_synced",
        "latched_at",
        "looks",
        "reason",
        "trouble_since",
        "usage",
        "warnings",
    )

    def __init__(self) -> None:
        self.attempts: tuple[Attempt, ...] = ()
        self.warnings: tuple[str, ...] = ()
        # an ended job that is looked at once more: the state in which it had ended, and since when it is watched anew
        self.again: State | None = None
        self.again_since = 0.0
        # looks that did not find the job, in a row, and since when
        self.looks = 0
        self.trouble_since = 0.0
        # the latch of a cancel
        self.reason: CancelReason | None = None
        self.latched_at = 0.0
        self.latch_synced = False
        self.cancel_sent = False
        self.final_at: float | None = None  # when a cancelled job first showed a final word
        self.usage: Usage = NO_USAGE


IDLE = -1
"""The `due` of a job that waits for no time."""


class Job:
    """A row in flight: small, because there may be a million of them.

    Only the engine writes to it. The runner carries it from an instruction to the event that answers it
    and reads `key`, `job_id` and `attempt`.
    """

    __slots__ = (
        "about",
        "attempt",
        "due",
        "history",
        "job_id",
        "key",
        "look",
        "phase",
        "polls",
        "row_sha256",
        "running_at",
        "submitted_at",
    )

    def __init__(self, row: Row) -> None:
        self.key = row.key
        self.about = row.about
        self.row_sha256 = row.row_sha256
        self.phase = Phase.WAITING
        self.attempt = 1
        self.due = IDLE
        self.job_id: str | None = None
        self.look: Running | None = None
        self.polls = 0
        self.submitted_at: float | None = None
        self.running_at: float | None = None
        self.history: History | None = None

    @property
    def reason(self) -> CancelReason | None:
        """Why the job is to end; None while it is not."""
        return None if self.history is None else self.history.reason

    def remember(self) -> History:
        """The job's history, begun where there was none."""
        if self.history is None:
            self.history = History()
        return self.history

    def warn(self, *warnings: str) -> None:
        history = self.remember()
        history.warnings = tuple(dict.fromkeys((*history.warnings, *warnings)))

    def __repr__(self) -> str:
        return f"<Job {self.key} {self.phase} attempt {self.attempt} id {self.job_id}>"

    def story(self) -> str:
        """All that is known of the job, for an error that should never be seen."""
        parts = [f"{name}={getattr(self, name)!r}" for name in self.__slots__ if name != "history"]
        if self.history is not None:
            parts += [f"{name}={getattr(self.history, name)!r}" for name in History.__slots__]
        return ", ".join(parts)
