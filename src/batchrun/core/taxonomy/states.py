"""The status words of services, and the closed list of states of a record.

Services agree neither on words nor on spelling: OpenAI says ``cancelled``, its eval runs say
``canceled``, RunPod says ``TIMED_OUT``, Google ``JOB_STATE_SUCCEEDED``. Every word is normalised and
then belongs to exactly one group. The group says what a runner may do next; it never says that a
payload is good (`classify` and `payload` find that out).

Invariants:

1. A word that is not in the table never means success. The job is polled on until its deadline.
2. A group is final or it is not; nothing in between.
"""

from __future__ import annotations

import re
from enum import StrEnum


class State(StrEnum):
    """How a row ended: the closed list of ``state`` in a record."""

    SUCCEEDED = "succeeded"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    BLOCKED = "blocked"
    BLOCKED_BUDGET = "blocked_budget"
    REJECTED = "rejected"
    REQUIRES_ACTION = "requires_action"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    SERVICE_UNAVAILABLE = "service_unavailable"
    INTERNAL_ERROR = "internal_error"
    ABORTED = "aborted"
    UNCONFIRMED = "unconfirmed"


STATE_MEANING: dict[State, str] = {
    State.SUCCEEDED: "the service completed the job; look at `warnings` for what is odd about its result",
    State.INCOMPLETE: "the service stopped early (token cap, content filter); the partial result is kept",
    State.FAILED: "the job ended in an error that a new attempt would not mend, or that nobody knows",
    State.CANCELLED: "cancelled, by us (`error.source` client) or by them (service)",
    State.EXPIRED: "the service let the job run out, or no longer has it",
    State.BLOCKED: "content filter or policy: the same input will be refused again",
    State.BLOCKED_BUDGET: "quota, credit or budget is used up: nothing is wrong with the row",
    State.REJECTED: "the request itself is invalid, said by the service or by the check before the run",
    State.REQUIRES_ACTION: "the job waits for a person or a tool, which a batch does not have",
    State.TIMEOUT: "not done in time: by the service's own word, or by `--deadline`",
    State.RATE_LIMITED: "refused for its rate until the attempts ran out",
    State.OVERLOADED: "the service was overloaded until the attempts ran out",
    State.SERVICE_UNAVAILABLE: "the service was not there until the attempts ran out",
    State.INTERNAL_ERROR: "the service failed by its own fault until the attempts ran out",
    State.ABORTED: "the service broke the job off",
    State.UNCONFIRMED: "sent, and the answer was lost: the job may or may not exist over there",
}


class StateGroup(StrEnum):
    """What a status word means for the run."""

    IN_PROGRESS = "in progress"
    CANCELLING = "cancelling"
    SUCCESS = "success"
    PARTIAL = "partial"
    FAILURE = "failure"
    INPUT = "failure, input must change"
    BILLING = "failure, billing"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    RETRYABLE = "retryable"
    PERSON = "needs a person"
    UNKNOWN = "unknown"


GROUP_MEANING: dict[StateGroup, str] = {
    StateGroup.IN_PROGRESS: "poll on, with backoff",
    StateGroup.CANCELLING: "poll on, bounded",
    StateGroup.SUCCESS: "final; the payload is inspected before it counts as success",
    StateGroup.PARTIAL: "final; payload and reason are kept",
    StateGroup.FAILURE: "final; the error's code decides whether a new attempt is worth it",
    StateGroup.INPUT: "final; never tried again",
    StateGroup.BILLING: "final; never tried again; the run halts, resumable",
    StateGroup.CANCELLED: "final; `error.source` tells who asked",
    StateGroup.EXPIRED: "final; not tried again",
    StateGroup.RETRYABLE: "final for this job; a new attempt with capped backoff",
    StateGroup.PERSON: "final for a batch; not tried again",
    StateGroup.UNKNOWN: "never success; poll on until the job's deadline, then say so",
}

_QUEUED = "queued pending submitted accepted waiting queuing in_queue starting validating validating_files"
# In progress and not merely queued on the service: these set `running_at`.
_STARTED = (
    "in_progress processing running generating searching interpreting calling finalizing compressing uploading updating"
)
_WORDS_OF_GROUP: dict[StateGroup, str] = {
    StateGroup.IN_PROGRESS: f"{_QUEUED} {_STARTED}",
    StateGroup.CANCELLING: "cancelling canceling cancel_requested cancellation_requested",
    StateGroup.SUCCESS: "completed complete succeeded success done",
    StateGroup.PARTIAL: "incomplete partially_succeeded",
    StateGroup.FAILURE: "failed fail error errored user_error",
    StateGroup.INPUT: "blocked rejected",
    StateGroup.BILLING: "blocked_budget budget_exceeded",
    StateGroup.CANCELLED: "cancelled canceled",
    StateGroup.EXPIRED: "expired",
    StateGroup.RETRYABLE: (
        "timeout timed_out timeout_exceeded rate_limited overloaded service_unavailable internal_error aborted"
    ),
    StateGroup.PERSON: "requires_action requires_continuation paused",
    # `ended` (Anthropic batches) says that a job stopped but not how; a profile must name the field that does.
    StateGroup.UNKNOWN: "unspecified ended",
}

WORDS: dict[str, StateGroup] = {word: group for group, words in _WORDS_OF_GROUP.items() for word in words.split()}
STARTED_WORDS = frozenset(_STARTED.split())

_SEPARATORS = re.compile(r"[\s-]+")


def normalise(word: object) -> str | None:
    """A status word as the tables spell it: ``" JOB_STATE_Timed-Out "`` becomes ``"timed_out"``.

    None for what is not a word: null, numbers, lists, the empty string.
    """
    if not isinstance(word, str):
        return None
    spelled = _SEPARATORS.sub("_", word.strip().lower()).removeprefix("job_state_")
    return spelled or None


def group_of(word: object) -> StateGroup:
    """The group of a status word as a service spelled it; UNKNOWN for everything not in the table."""
    if isinstance(word, str):
        exact = WORDS.get(word)
        if exact is not None:
            return exact
    return WORDS.get(normalise(word) or "", StateGroup.UNKNOWN)


_WORDS = {state.value: state.value for state in State}


def interned_state(word: str) -> str:
    """The one shared string equal to `word`, to save memory."""
    return _WORDS.get(word, word)
