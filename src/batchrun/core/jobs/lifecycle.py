"""The life of a job: its phases, what may happen to it, and the transition table.

Two invariants:

1. The table is the truth. Code that decides a phase elsewhere is a bug; the table and diagram of `batchrun help internals`
   are printed from it.
2. What is not in the table cannot happen. If it does, it raises with all that is known of the job.

A cancel is no phase: it is a flag next to the phase (``Job.cancel_reason``). It never moves a job by itself; it
decides which of the steps below is taken next. A job whose cancel is journaled passes *cancelling* and
*settling* as soon as it has an id, and its record says so whatever the service answers later.

Why *intending* and *recording* are phases and not details: between them lies the one moment that cannot
be undone. A job is intending until its intent is on the disk, and only then POSTed; it is recording until
its id is on the disk, and only then watched. A crash between the two leaves it `unconfirmed`.

*Storing* comes before *ending* where a result is a file: the record names it, so it is on the disk first.
"""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """What a row in flight waits for."""

    WAITING = "waiting"  # for its turn: a slot, the rate, a pause, the delay before a retry
    INTENDING = "intending"  # for the sync of its intent; nothing was sent
    SUBMITTING = "submitting"  # for the answer to its POST
    UNANSWERED = "unanswered"  # its POST's response was lost: to be sent again with the same idempotency key
    RECORDING = "recording"  # accepted: for the sync of its id
    WATCHING = "watching"  # for its next poll
    POLLING = "polling"  # for the answer to its poll
    CANCELLING = "cancelling"  # for the sync of its cancel, then for the answer
    SETTLING = "settling"  # cancelled: for one more poll before its record is written
    STORING = "storing"  # over: for its files to be written, or removed
    ENDING = "ending"  # for the sync of its record
    FINISHED = "finished"

    __hash__ = object.__hash__  # members are single objects; this is on the poll path

    def __str__(self) -> str:
        return self.value


class Step(Enum):
    """What happened to a job."""

    TURN_TAKEN = "turn taken"
    INTENT_SYNCED = "intent synced"
    WITHDRAWN = "withdrawn"
    ACCEPTED = "accepted"
    REFUSED = "refused for now"
    RESPONSE_LOST = "response lost"
    ENDED = "ended"
    FILES_FIRST = "ended, files first"
    TO_BE_RETRIED = "ended, to be retried"
    ID_SYNCED = "id synced"
    POLL_DUE = "poll due"
    STILL_OPEN = "still open"
    CANCEL_DUE = "cancel due"
    CANCEL_ANSWERED = "cancel responded"
    UNSETTLED = "unsettled"
    RECORD_SYNCED = "record synced"
    RECOVERED = "recovered with an id"

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return self.value


TRANSITIONS: dict[tuple[Phase, Step], Phase] = {
    (Phase.WAITING, Step.TURN_TAKEN): Phase.INTENDING,
    # rejected by the check, cancelled before its submit, lost by an earlier crash
    (Phase.WAITING, Step.ENDED): Phase.ENDING,
    (Phase.WAITING, Step.FILES_FIRST): Phase.STORING,  # cancelled, and an earlier run left files of it
    (Phase.WAITING, Step.RECOVERED): Phase.WATCHING,
    (Phase.WAITING, Step.CANCEL_DUE): Phase.CANCELLING,  # recovered with an id and a cancel
    (Phase.WAITING, Step.RESPONSE_LOST): Phase.UNANSWERED,  # by an earlier crash
    (Phase.INTENDING, Step.INTENT_SYNCED): Phase.SUBMITTING,
    (Phase.INTENDING, Step.WITHDRAWN): Phase.WAITING,  # a stop, a pause or a halt came between: the intent is void
    (Phase.INTENDING, Step.ENDED): Phase.ENDING,  # cancelled
    (Phase.INTENDING, Step.FILES_FIRST): Phase.STORING,
    (Phase.SUBMITTING, Step.ACCEPTED): Phase.RECORDING,
    (Phase.SUBMITTING, Step.REFUSED): Phase.WAITING,
    (Phase.SUBMITTING, Step.RESPONSE_LOST): Phase.UNANSWERED,  # at a service that keeps idempotency keys
    (Phase.UNANSWERED, Step.TURN_TAKEN): Phase.SUBMITTING,  # its intent is on the disk
    (Phase.UNANSWERED, Step.ENDED): Phase.ENDING,  # the time of its key is over, or it is cancelled
    (Phase.UNANSWERED, Step.FILES_FIRST): Phase.STORING,
    (Phase.SUBMITTING, Step.TO_BE_RETRIED): Phase.WAITING,
    (Phase.SUBMITTING, Step.ENDED): Phase.ENDING,  # over at once, refused for good, or the answer was lost
    (Phase.SUBMITTING, Step.FILES_FIRST): Phase.STORING,
    (Phase.RECORDING, Step.ID_SYNCED): Phase.WATCHING,
    (Phase.RECORDING, Step.CANCEL_DUE): Phase.CANCELLING,
    (Phase.WATCHING, Step.POLL_DUE): Phase.POLLING,
    (Phase.WATCHING, Step.CANCEL_DUE): Phase.CANCELLING,
    (Phase.POLLING, Step.STILL_OPEN): Phase.WATCHING,
    (Phase.POLLING, Step.ENDED): Phase.ENDING,
    (Phase.POLLING, Step.FILES_FIRST): Phase.STORING,
    (Phase.POLLING, Step.TO_BE_RETRIED): Phase.WAITING,
    (Phase.POLLING, Step.CANCEL_DUE): Phase.CANCELLING,
    (Phase.POLLING, Step.UNSETTLED): Phase.SETTLING,
    (Phase.CANCELLING, Step.CANCEL_ANSWERED): Phase.SETTLING,
    (Phase.SETTLING, Step.POLL_DUE): Phase.POLLING,
    (Phase.STORING, Step.ENDED): Phase.ENDING,
    (Phase.ENDING, Step.RECORD_SYNCED): Phase.FINISHED,
}

# A job that the service may know: it holds one of the --concurrency places.
OPEN_PHASES = frozenset(Phase) - {Phase.WAITING, Phase.STORING, Phase.ENDING, Phase.FINISHED}


class ImpossibleTransition(RuntimeError):
    """A step that is not in the table: a bug."""

    def __init__(self, phase: Phase, step: Step, job: str) -> None:
        super().__init__(f"a job that is {phase} cannot take the step {str(step)!r}: {job}")
