"""Events, in the past tense, and instructions, in the imperative.

Events about a job name it and its attempt; a stale one is counted and dropped. Named tuples, because two of
each are made for every poll.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from batchrun.core.jobs.ended_ids import EndedIds
from batchrun.core.jobs.job import CancelReason, Job, Row
from batchrun.core.journal.fold import JournaledRow
from batchrun.core.records.artifacts import Found, Stored
from batchrun.core.responses.verdict import Accepted, Ambiguous, JobReport, Refused, Unclear


class BatchFile(Enum):
    """The two append files of a batch."""

    JOURNAL = "journal"
    OUTPUT = "output"

    __hash__ = object.__hash__


class StopMode(Enum):
    """How a run is to stop before its end."""

    INTERRUPT = "interrupt"  # by a user: as DRAIN, and with --cancel-on-interrupt cancel what runs on the service
    DRAIN = "drain"  # submit nothing more, wait for the POSTs in flight
    DETACH = "detach"  # submit everything, poll nothing
    NOW = "now"  # leave everything as it is


class Outcome(Enum):
    """How a run ended."""

    COMPLETE = "complete"
    PARTIAL = "partial"  # all that it could do is done, and rows are left to another run
    HALTED = "halted"
    STOPPED = "stopped"
    DETACHED = "detached"
    WRITE_FAILED = "write failed"


# --- events ---


class Recovered(NamedTuple):
    """What an earlier run left: the states of the rows that are finished, and the counts.

    The rows that are open follow in parts, as RowsTakenUp; until the last of them nothing is submitted, no row of the
    input is asked for, and only a stop ends the run. `to_cancel` are rows, by their keys or their jobs' ids, that
    other processes ask to cancel (None: all of them); a CancelRequested that repeats this follows. `files` are names of
    files in the folder of artifacts, by the open row to which they belong; `ended_ids` those of its jobs that are over;
    `left_open` tells of jobs that rows may share how many rows have each that are not taken up, and not to be cancelled.
    """

    finished: Mapping[str, str]
    accepted: int
    retries: int
    gen: int
    output_end: int
    requests_read_to: int = 0
    cancel_all: bool = False  # an earlier request to cancel every row
    to_cancel: AbstractSet[str] | None = frozenset()
    new_key: bool = False  # another API key: nothing is submitted before one of the open jobs was found with it
    files: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    ended_ids: EndedIds | None = None
    left_open: Mapping[str, int] = MappingProxyType({})
    durations: Sequence[float] = ()  # of jobs that ended lately, in seconds


class RowsTakenUp(NamedTuple):
    """Rows that an earlier run left open, with their entries; `more` where others follow."""

    rows: Sequence[tuple[Row, JournaledRow]]
    more: bool = False


class RowsRecalled(NamedTuple):
    """Other processes ask to cancel rows that an earlier run left open and that this one had left alone."""

    rows: Sequence[tuple[Row, JournaledRow]]


class RowRead(NamedTuple):
    row: Row


class InputEnded(NamedTuple):
    """No more rows; `for_now` where more may be given while the batch runs."""

    for_now: bool = False


class PlaceFreed(NamedTuple):
    """It is this batch's turn to take a place that it shares with others."""


class Synced(NamedTuple):
    """The first `upto` lines that this process gave to `file` are on the disk."""

    file: BatchFile
    upto: int


class WriteFailed(NamedTuple):
    file: BatchFile
    message: str


class SubmitAccepted(NamedTuple):
    """`warnings` tell what was sent otherwise than the row says."""

    job: Job
    attempt: int
    accepted: Accepted
    warnings: tuple[str, ...] = ()


class SubmitRefused(NamedTuple):
    job: Job
    attempt: int
    refused: Refused


class SubmitFailed(NamedTuple):
    """The request was sent, at least in part, and the outcome is unknown."""

    job: Job
    attempt: int
    ambiguous: Ambiguous


class PollAnswered(NamedTuple):
    job: Job
    attempt: int
    seen: JobReport


class PollFailed(NamedTuple):
    job: Job
    attempt: int
    unclear: Unclear


class CancelAnswered(NamedTuple):
    job: Job
    attempt: int
    answer: JobReport | Unclear


class ArtifactsStored(NamedTuple):
    """The files of a job are on the disk: one value for each that was asked for, None where its base64 cannot be decoded."""

    job: Job
    attempt: int
    stored: tuple[Stored | None, ...]


class ArtifactsDiscarded(NamedTuple):
    """The files of a job are gone, and would be after a power cut."""

    job: Job
    attempt: int
    names: tuple[str, ...]


class ArtifactsFailed(NamedTuple):
    """The files of a job could not be written or removed; nothing is stored any more."""

    job: Job
    attempt: int
    message: str


class CancelRequested(NamedTuple):
    """End these rows, named by their keys or their jobs' ids; None means all of them, those not yet read included.

    An interrupt ends what may be on the service and leaves open what was never sent. `unread` are those of the `keys`
    that the input holds; `read_to` is set where another process asked: how far the file of requests was read.
    """

    keys: frozenset[str] | None
    reason: CancelReason
    unread: frozenset[str] = frozenset()
    read_to: int | None = None


class StopRequested(NamedTuple):
    mode: StopMode


class TimerFired(NamedTuple):
    pass


class SuspensionEnded(NamedTuple):
    """The process had been suspended for `gap` seconds."""

    gap: float


Event = (
    Recovered | RowsTakenUp | RowsRecalled | RowRead | InputEnded | Synced | WriteFailed | SubmitAccepted | SubmitRefused | SubmitFailed
    | PollAnswered | PollFailed | CancelAnswered | ArtifactsStored | ArtifactsDiscarded | ArtifactsFailed | CancelRequested
    | StopRequested | TimerFired | SuspensionEnded | PlaceFreed
)  # fmt: skip


# --- instructions ---


class ReadRows(NamedTuple):
    """Read up to so many rows more."""

    rows: int


class Submit(NamedTuple):
    job: Job
    attempt: int


class Poll(NamedTuple):
    """Ask for the job; `dated` where the report is to have the service's clock."""

    job: Job
    attempt: int
    dated: bool = False


class Cancel(NamedTuple):
    job: Job
    attempt: int


class StoreArtifacts(NamedTuple):
    """Write the base64 strings `found` in `body` into files."""

    job: Job
    attempt: int
    body: bytes
    found: tuple[Found, ...]


class DiscardArtifacts(NamedTuple):
    """Remove files of a job; those that do not exist are no error."""

    job: Job
    attempt: int
    names: tuple[str, ...]


class Append(NamedTuple):
    """Append a line to the journal. A lazy one need not be synced for its own sake."""

    line: bytes
    lazy: bool


class Emit(NamedTuple):
    """Append a record to the output."""

    line: bytes


class KeepUnreadable(NamedTuple):
    """Keep a body that could not be read, for the user to inspect."""

    key: str
    body: bytes


class Wake(NamedTuple):
    """Send TimerFired at this time, and at no earlier one that was asked for."""

    at: float


class Halt(NamedTuple):
    """Tell the user that nothing more will be submitted, and why."""

    reason: str
    message: str


class Note(NamedTuple):
    """Tell the user something; the run goes on."""

    text: str


class Finish(NamedTuple):
    """The run is over; nothing follows."""

    outcome: Outcome


Instruction = (
    ReadRows
    | Submit
    | Poll
    | Cancel
    | StoreArtifacts
    | DiscardArtifacts
    | Append
    | Emit
    | KeepUnreadable
    | Wake
    | Halt
    | Note
    | Finish
)
