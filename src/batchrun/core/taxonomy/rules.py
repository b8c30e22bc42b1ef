"""The taxonomy: what went wrong, which exception that is, and whether trying again is worth it.

A background job that failed answers its poll with 200 OK, so no SDK raises anything typed for it
(openai-python#3212). This table closes the gap. It is public (`batchrun.taxonomy`) and versioned: `TAXONOMY_VERSION`
changes with its content, and a test holds them together. What a version promises is in the help topic `taxonomy`, and
is held by tests/core/taxonomy/promised.txt.

This module is data; ``classify`` finds the rule for an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from batchrun.core.text.readable import Action, Option, Text

# --- The status words of services, and the closed list of states of a record ---
#
# Services agree neither on words nor on spelling: OpenAI says ``cancelled``, its eval runs say
# ``canceled``, RunPod says ``TIMED_OUT``, Google ``JOB_STATE_SUCCEEDED``. Every word is normalised and
# then belongs to exactly one group. The group says what a runner may do next; it never says that a
# payload is good (`classify` and `core.responses.outcome` find that out).
#
# Invariants:
#
# 1. A word that is not in the table never means success. The job is polled on until its deadline.
# 2. A group is final or it is not; nothing in between.


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
    State.SUCCEEDED: "the service completed the job; `warnings` says what is odd about its result",
    State.INCOMPLETE: "the service stopped early (token cap, content filter); the partial result is kept",
    State.FAILED: "the job ended in an error that a retry would not fix, or whose code is unknown",
    State.CANCELLED: "cancelled, by us (`error.source` client) or by them (service)",
    State.EXPIRED: "the job expired on the service, or the service no longer has it",
    State.BLOCKED: "content filter or policy: the same input will be refused again",
    State.BLOCKED_BUDGET: "quota, credit or budget is used up; the row itself is fine",
    State.REJECTED: "the request itself is invalid; refused by the service or by the check before the run",
    State.REQUIRES_ACTION: "the job waits for a person or a tool, which a batch does not have",
    State.TIMEOUT: "not done in time, by the service's own limit or by `--deadline`",
    State.RATE_LIMITED: "refused for its rate until the retries ran out",
    State.OVERLOADED: "the service was overloaded until the retries ran out",
    State.SERVICE_UNAVAILABLE: "the service was unavailable until the retries ran out",
    State.INTERNAL_ERROR: "the service had internal errors until the retries ran out",
    State.ABORTED: "the service aborted the job",
    State.UNCONFIRMED: "sent, and the response was lost; the job may or may not exist on the service",
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
    StateGroup.IN_PROGRESS: "keep polling, with backoff",
    StateGroup.CANCELLING: "keep polling, for a limited time",
    StateGroup.SUCCESS: "final; the payload is inspected before it counts as success",
    StateGroup.PARTIAL: "final; payload and reason are kept",
    StateGroup.FAILURE: "final; the error's code decides whether it is retried",
    StateGroup.INPUT: "final; never retried",
    StateGroup.BILLING: "final; never retried; the run halts and can be resumed",
    StateGroup.CANCELLED: "final; `error.source` says who asked",
    StateGroup.EXPIRED: "final; not retried",
    StateGroup.RETRYABLE: "final for this job; retried with capped backoff",
    StateGroup.PERSON: "final for a batch; not retried",
    StateGroup.UNKNOWN: "never success; keep polling until the job's deadline, then say so",
}

_QUEUED = (
    "queued pending submitted accepted waiting queuing in_queue starting validating validating_files "
    "notrunning notstarted"
)
# In progress and not merely queued on the service: these set `running_at`.
_STARTED = (
    "in_progress inprogress processing preprocessing running generating searching interpreting calling finalizing "
    "compressing uploading updating"
)
_WORDS_OF_GROUP: dict[StateGroup, str] = {
    StateGroup.IN_PROGRESS: f"{_QUEUED} {_STARTED}",
    StateGroup.CANCELLING: "cancelling canceling cancel_requested cancellation_requested",
    StateGroup.SUCCESS: "completed complete succeeded success done",
    StateGroup.PARTIAL: "incomplete partially_succeeded",
    StateGroup.FAILURE: "failed fail error errored user_error",
    StateGroup.INPUT: "blocked rejected",
    StateGroup.BILLING: "blocked_budget budget_exceeded",
    StateGroup.CANCELLED: "cancelled canceled stopped",
    StateGroup.EXPIRED: "expired deleted",
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
    if word in WORDS:
        return word  # the usual spelling is that of the tables
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


TAXONOMY_VERSION: int = 3

DEFAULT_RETRIES = 4
"""Retries of a row at most, unless the user says otherwise: the default of `--retries`."""


class Retry(StrEnum):
    """How many retries a failure is worth, each a new paid job."""

    NO = "no"
    ONCE = "once"
    TWICE = "twice"
    LIMITED = "limited"
    YES = "yes"

    def allowance(self, retries: int) -> int:
        """Retries allowed when the user allows `retries` at most."""
        return min(_ALLOWANCE.get(self, retries), retries)


_ALLOWANCE = {Retry.NO: 0, Retry.ONCE: 1, Retry.TWICE: 2, Retry.LIMITED: 2}


class WordField(StrEnum):
    """The field of a response in which the word of a rule occurs."""

    CODE = "code"
    TYPE = "type"
    REASON = "reason"
    HTTP = "HTTP status"
    STATUS = "status"
    TOOL = "said by batchrun"


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the taxonomy."""

    word: str
    field: WordField
    kind: str  # the exception's name in batchrun.errors
    sdk: str | None  # the openai SDK's class
    http_status: int  # the status that the service would have sent, had the submit failed
    type: str  # the error's type, where the service names none
    retry: Retry
    state: State
    advice: str
    billing_reason: str | None = None
    halts: bool = False
    sdk_by_status: bool = False  # where the real HTTP status is known, it names the SDK's class
    since: int = 1  # the version of the table in which it was added

    @property
    def code(self) -> str:
        """As `word`."""
        return self.word

    @property
    def retryable(self) -> bool:
        """Whether a retry may help."""
        return self.retry is not Retry.NO

    @property
    def retries(self) -> int:
        """How many retries it is worth, each a new paid job, with the default of `--retries`."""
        return self.retry.allowance(DEFAULT_RETRIES)


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """An exception of batchrun.errors: its parent there and what it is in the openai SDK."""

    parent: str
    sdk: str | None
    http_status: int
    type: str
    meaning: str


KINDS: dict[str, ErrorKind] = {
    "APIStatusError": ErrorKind("JobError", "APIStatusError", 400, "api_error", "the service responded with an error status"),
    "BadRequestError": ErrorKind("APIStatusError", "BadRequestError", 400, "invalid_request_error", "the request itself is wrong"),
    "ContentPolicyError": ErrorKind("BadRequestError", "BadRequestError", 400, "content_policy_error", "refused for its content"),
    "PolicyViolationError": ErrorKind("BadRequestError", "BadRequestError", 400, "policy_error", "refused by a usage policy"),
    "AuthenticationError": ErrorKind("APIStatusError", "AuthenticationError", 401, "authentication_error", "the API key is missing, wrong or withdrawn"),
    "QuotaExceededError": ErrorKind("APIStatusError", "RateLimitError", 429, "insufficient_quota", "quota, credit or budget is used up"),
    "PermissionDeniedError": ErrorKind("APIStatusError", "PermissionDeniedError", 403, "permission_error", "this API key may not do that"),
    "NotFoundError": ErrorKind("APIStatusError", "NotFoundError", 404, "not_found_error", "model, file or job does not exist"),
    "ConflictError": ErrorKind("APIStatusError", "ConflictError", 409, "conflict_error", "it conflicted with another request"),
    "UnprocessableEntityError": ErrorKind("APIStatusError", "UnprocessableEntityError", 422, "invalid_request_error", "well formed, but not acceptable"),
    "RateLimitError": ErrorKind("APIStatusError", "RateLimitError", 429, "rate_limit_error", "too many requests or tokens for now"),
    "InternalServerError": ErrorKind("APIStatusError", "InternalServerError", 500, "internal_server_error", "the service had an internal error"),
    "APIConnectionError": ErrorKind("JobError", "APIConnectionError", 503, "connection_error", "no response: connection refused or lost"),
    "APITimeoutError": ErrorKind("APIConnectionError", "APITimeoutError", 408, "timeout_error", "not done in time, or no response in time"),
    "JobIncomplete": ErrorKind("JobError", None, 200, "incomplete", "stopped early; the partial result is in the record"),
    "LengthFinishReasonError": ErrorKind("JobIncomplete", "LengthFinishReasonError", 200, "length_error", "cut off at a token cap"),
    "ContentFilterFinishReasonError": ErrorKind("JobIncomplete", "ContentFilterFinishReasonError", 200, "content_filter_error", "cut off by the content filter"),
    "JobFailed": ErrorKind("JobError", None, 200, "job_failed", "failed for a reason that is not in the taxonomy"),
    "JobCancelled": ErrorKind("JobError", None, 200, "cancelled", "cancelled, by us or by the service"),
    "JobExpired": ErrorKind("JobError", None, 200, "expired", "expired on the service, or no longer kept there"),
    "JobNeedsAction": ErrorKind("JobError", None, 200, "requires_action", "waits for a person or a tool"),
    "JobUnconfirmed": ErrorKind("JobError", None, 200, "unconfirmed", "sent, and the response was lost"),
}  # fmt: skip


VERSIONS: dict[int, str] = {
    1: "The first table.",
    2: "Words of more services, and of batchrun itself, were added. No rule changed.",
    3: "The advice and the meanings are in plainer words. Nothing is judged differently.",
}
"""What changed in each version of the table."""

ADDED: dict[int, dict[WordField, str]] = {
    2: {
        WordField.CODE: "billing_not_active request_timeout server_overloaded usage_limit_exceeded",
        WordField.HTTP: "501 505",
        WordField.STATUS: "deleted inprogress notrunning notstarted preprocessing stopped",
        WordField.TOOL: "contradictory_status",
    },
}
"""The words that each version of the table added; those that are not here are of version 1."""

_SINCE = {
    (field, word): version
    for version, fields in ADDED.items()
    for field, words in fields.items()
    for word in words.split()
}


def _rules(
    field: WordField,
    words: str,
    kind: str,
    retry: Retry,
    state: State,
    advice: str,
    *,
    billing: str | None = None,
    halts: bool = False,
    http_status: int | None = None,
    type: str | None = None,  # noqa: A002 - the field's own name
    sdk: str | None = None,
) -> Iterator[Rule]:
    known = KINDS[kind]
    for word in words.split():
        yield Rule(
            word=word,
            field=field,
            kind=kind,
            sdk=sdk or known.sdk,
            http_status=http_status or known.http_status,
            type=type or known.type,
            retry=retry,
            state=state,
            advice=advice,
            billing_reason=billing,
            halts=halts,
            sdk_by_status=kind == "QuotaExceededError" or word == "previous_response_not_found",
            since=_SINCE.get((field, word), 1),
        )


# fmt: off
def _table() -> Iterator[Rule]:
    code, type_, reason, http, status, tool = WordField
    no, once, twice, limited, yes = Retry

    # Billing: the same row will run once the account is topped up.
    quota = "top up or raise the limit, then run the same command again; the row itself is fine"
    yield from _rules(code, "insufficient_quota", "QuotaExceededError", no, State.BLOCKED_BUDGET, quota, billing="quota", halts=True)
    yield from _rules(code, "credit_balance_exhausted organization_usage_limit_exceeded usage_limit_exceeded usage_not_included billing_not_active", "QuotaExceededError", no, State.BLOCKED_BUDGET, quota, billing="quota", halts=True)
    budget = "raise the budget or wait for its next period, then run the same command again; the row itself is fine"
    yield from _rules(code, "organization_spend_limit_exceeded project_spend_limit_exceeded billing_hard_limit_reached", "QuotaExceededError", no, State.BLOCKED_BUDGET, budget, billing="budget", halts=True)
    yield from _rules(code, "billing_error budget_exceeded blocked_budget", "QuotaExceededError", no, State.BLOCKED_BUDGET, budget, billing="budget", halts=True, http_status=402, sdk="APIStatusError")
    yield from _rules(type_, "insufficient_quota", "QuotaExceededError", no, State.BLOCKED_BUDGET, quota, billing="quota", halts=True)
    yield from _rules(type_, "billing_error budget_exceeded", "QuotaExceededError", no, State.BLOCKED_BUDGET, budget, billing="budget", halts=True, http_status=402, sdk="APIStatusError")
    yield from _rules(http, "402", "QuotaExceededError", no, State.BLOCKED_BUDGET, quota, billing="budget", halts=True, http_status=402, sdk="APIStatusError")
    yield from _rules(status, "blocked_budget budget_exceeded", "QuotaExceededError", no, State.BLOCKED_BUDGET, budget, billing="budget", halts=True, http_status=402, sdk="APIStatusError")

    # The service's own fault.
    server = "an internal error of the service; a retry often succeeds (at most two are made)"
    yield from _rules(code, "server_error internal_error internal_server_error", "InternalServerError", twice, State.INTERNAL_ERROR, server)
    busy = "the service is short of capacity; retried later; a lower --concurrency may help"
    yield from _rules(code, "server_is_overloaded server_overloaded overloaded overloaded_error", "InternalServerError", yes, State.OVERLOADED, busy, http_status=503)
    yield from _rules(code, "service_unavailable", "InternalServerError", yes, State.SERVICE_UNAVAILABLE, busy, http_status=503)
    rate = "too fast for this account; submits wait as long as Retry-After says; lower --rpm or --tpm if it repeats"
    yield from _rules(code, "rate_limit_exceeded rate_limited resource_unavailable", "RateLimitError", yes, State.RATE_LIMITED, rate)
    slow = "the service asks for a lower rate; lower --rpm or --concurrency if it repeats"
    yield from _rules(code, "slow_down", "RateLimitError", yes, State.RATE_LIMITED, slow)
    late = "it took too long on the service; a retry or a smaller request may be quicker"
    yield from _rules(code, "vector_store_timeout timeout timed_out request_timeout", "APITimeoutError", limited, State.TIMEOUT, late)

    # The request.
    image = "fix the image of this row; sent again unchanged, it fails again"
    yield from _rules(code, "invalid_image invalid_image_format invalid_base64_image invalid_image_url image_too_large image_too_small image_parse_error invalid_image_mode image_file_too_large unsupported_image_media_type empty_image_file", "BadRequestError", no, State.REJECTED, image)
    request = "fix the request of this row; sent again unchanged, it fails again"
    yield from _rules(code, "invalid_prompt invalid_request_error", "BadRequestError", no, State.REJECTED, request)
    yield from _rules(code, "context_length_exceeded", "BadRequestError", no, State.REJECTED, "shorten the input or choose a model with a larger context window")
    yield from _rules(code, "failed_to_download_image", "BadRequestError", once, State.REJECTED, "the service could not fetch the image; check that its address is public")
    yield from _rules(code, "image_file_not_found", "NotFoundError", no, State.REJECTED, "upload the file again in the project of this API key, and use its new id")
    yield from _rules(code, "model_not_found", "NotFoundError", no, State.REJECTED, "check the model's name, and that the project of this API key may use it")
    yield from _rules(code, "previous_response_not_found", "NotFoundError", limited, State.REJECTED, "the service does not know the previous response, or not yet")
    yield from _rules(code, "data_residency_mismatch permission_denied", "PermissionDeniedError", no, State.REJECTED, "this API key may not do that here: check its project, its region and its rights")
    yield from _rules(code, "invalid_api_key", "AuthenticationError", no, State.REJECTED, "give a valid API key, then run the same command again", halts=True)

    # Content and policy.
    content = "the content filter refused it; change the input"
    yield from _rules(code, "image_content_policy_violation content_policy_violation moderation_blocked content_filter ResponsibleAIPolicyViolation", "ContentPolicyError", no, State.BLOCKED, content)
    yield from _rules(type_, "image_generation_user_error", "ContentPolicyError", no, State.BLOCKED, content)
    policy = "a usage policy refused it; change the input, or ask the service for access"
    yield from _rules(code, "bio_policy cyber_policy misalignment_policy_violation", "PolicyViolationError", no, State.BLOCKED, policy)

    # Stopped early.
    length = "raise the token cap of the request; the partial result was paid for and is in the record"
    yield from _rules(reason, "max_output_tokens max_completion_tokens max_prompt_tokens length max_tokens", "LengthFinishReasonError", no, State.INCOMPLETE, length)
    yield from _rules(reason, "content_filter", "ContentFilterFinishReasonError", no, State.INCOMPLETE, "the content filter cut it off; the partial result is in the record")
    yield from _rules(reason, "max_messages steered", "JobIncomplete", no, State.INCOMPLETE, "stopped early by the service; the partial result is in the record")

    # Types, where a failed job names nothing better.
    yield from _rules(type_, "invalid_request_error", "BadRequestError", no, State.REJECTED, request)
    yield from _rules(type_, "authentication_error", "AuthenticationError", no, State.REJECTED, "give a valid API key, then run the same command again", halts=True)
    yield from _rules(type_, "permission_error", "PermissionDeniedError", no, State.REJECTED, "this API key may not do that: check its project and its rights")
    yield from _rules(type_, "not_found_error", "NotFoundError", no, State.REJECTED, "what the request names does not exist for this API key")
    yield from _rules(type_, "rate_limit_error requests tokens", "RateLimitError", yes, State.RATE_LIMITED, rate)
    yield from _rules(type_, "overloaded_error", "InternalServerError", yes, State.OVERLOADED, busy, http_status=503)
    yield from _rules(type_, "server_error api_error internal_server_error internal_error", "InternalServerError", twice, State.INTERNAL_ERROR, server)
    yield from _rules(type_, "timeout_error", "APITimeoutError", limited, State.TIMEOUT, late)

    # HTTP. On a poll 408, 429 and 5xx are all transient: the job is still running on the service.
    yield from _rules(http, "3xx", "APIStatusError", no, State.REJECTED, "redirects are never followed; give the final address with --base-url", http_status=307)
    yield from _rules(http, "400", "BadRequestError", no, State.REJECTED, request)
    yield from _rules(http, "401", "AuthenticationError", no, State.REJECTED, "give a valid API key, then run the same command again", halts=True)
    yield from _rules(http, "403", "PermissionDeniedError", no, State.REJECTED, "this API key may not do that: check its project, its region and its rights")
    yield from _rules(http, "404", "NotFoundError", no, State.REJECTED, "on a submit: check model and path; on a poll: polled again before the job counts as expired")
    yield from _rules(http, "408", "APIStatusError", limited, State.TIMEOUT, "on a poll: polled again; on a submit: unknown whether a job was created", http_status=408)
    yield from _rules(http, "409", "ConflictError", limited, State.FAILED, "on a cancel: polled again; on a submit: unknown whether a job was created")
    yield from _rules(http, "422", "UnprocessableEntityError", no, State.REJECTED, request)
    yield from _rules(http, "425 499", "APIStatusError", no, State.FAILED, "on a submit: unknown whether a job was created")
    yield from _rules(http, "429", "RateLimitError", yes, State.RATE_LIMITED, rate)
    yield from _rules(http, "405 410 413 415 4xx", "APIStatusError", no, State.REJECTED, request)
    outage = "on a poll: always transient; on a submit: unknown whether a job was created"
    for number in (501, 505):  # said by the HTTP layer in front of the service: the request was not carried out
        yield from _rules(http, str(number), "InternalServerError", no, State.REJECTED, "on a poll: transient; on a submit: not supported by the service, nothing was created", http_status=number)
    yield from _rules(http, "503", "InternalServerError", yes, State.SERVICE_UNAVAILABLE, outage, http_status=503)
    yield from _rules(http, "529", "InternalServerError", yes, State.OVERLOADED, outage, http_status=529)
    yield from _rules(http, "5xx", "InternalServerError", twice, State.INTERNAL_ERROR, outage)

    # The status word, where the response says nothing else.
    yield from _rules(status, "failed fail error errored user_error", "JobFailed", no, State.FAILED, "the service gave no reason that is in the taxonomy; see error.message and the response")
    yield from _rules(status, "blocked", "ContentPolicyError", no, State.BLOCKED, content)
    yield from _rules(status, "rejected", "BadRequestError", no, State.REJECTED, request)
    yield from _rules(status, "incomplete partially_succeeded", "JobIncomplete", no, State.INCOMPLETE, "stopped early by the service; the partial result is in the record")
    yield from _rules(status, "cancelled canceled stopped", "JobCancelled", no, State.CANCELLED, "cancelled; `error.source` says by whom (client: we asked; service: they did)")
    yield from _rules(status, "expired deleted", "JobExpired", no, State.EXPIRED, "its time on the service ran out; --retry-failed expired submits it again")
    yield from _rules(status, "requires_action requires_continuation paused", "JobNeedsAction", no, State.REQUIRES_ACTION, "it waits for a person or a tool, and a batch has neither; take the tool out of the request")
    yield from _rules(status, "timeout timed_out timeout_exceeded", "APITimeoutError", limited, State.TIMEOUT, late)
    yield from _rules(status, "rate_limited", "RateLimitError", yes, State.RATE_LIMITED, rate)
    yield from _rules(status, "overloaded", "InternalServerError", yes, State.OVERLOADED, busy, http_status=503)
    yield from _rules(status, "service_unavailable", "InternalServerError", yes, State.SERVICE_UNAVAILABLE, busy, http_status=503)
    yield from _rules(status, "internal_error", "InternalServerError", twice, State.INTERNAL_ERROR, server)
    yield from _rules(status, "aborted", "APIStatusError", no, State.ABORTED, "aborted; retried only where the response says that the system did it", http_status=500)

    # Errors that batchrun itself states.
    row = "fix the line in the input and run the same command again"
    yield from _rules(tool, "invalid_json invalid_utf8 invalid_unicode not_an_object invalid_custom_id row_too_large no_body no_model unknown_url invalid_method unknown_field", "BadRequestError", no, State.REJECTED, row)
    yield from _rules(tool, "duplicate_id", "BadRequestError", no, State.REJECTED, "give the later of the two rows another custom_id")
    yield from _rules(tool, "connection_failed", "APIConnectionError", yes, State.SERVICE_UNAVAILABLE, "nothing was sent; submits wait and are retried automatically")
    yield from _rules(tool, "queue_full", "RateLimitError", yes, State.OVERLOADED, "the service's queue is full (some services say so with a 400); submits wait and are retried automatically")
    yield from _rules(tool, "aborted_by_system", "APIStatusError", yes, State.ABORTED, "the service itself aborted it; retried", http_status=500)
    yield from _rules(tool, "answer_lost", "JobUnconfirmed", no, State.UNCONFIRMED, "it may have been created and billed; --resubmit-unconfirmed sends it again and may pay twice")
    yield from _rules(tool, "duplicate_job_id", "JobUnconfirmed", no, State.UNCONFIRMED, "the response named another row's job, and what became of this row is unknown; --resubmit-unconfirmed sends it again and may pay twice; where a service gives equal requests one job, its profile says repeats_ids = true")
    yield from _rules(tool, "unusable_job_id", "JobUnconfirmed", no, State.UNCONFIRMED, "the service accepted it under an id that cannot be polled; check the service's own list of jobs before you send it again")
    yield from _rules(tool, "cancelled_by_user cancelled_by_interrupt", "JobCancelled", no, State.CANCELLED, "cancelled as requested; --retry-failed cancelled submits it again")
    yield from _rules(tool, "deadline_exceeded", "APITimeoutError", no, State.TIMEOUT, "not done within --deadline; cancelled on the service; --retry-failed timeout polls its old job before it pays for another")
    yield from _rules(tool, "job_not_found", "JobExpired", no, State.EXPIRED, "the service no longer knows the job; --retry-failed expired submits it again")
    yield from _rules(tool, "result_too_large", "JobFailed", no, State.FAILED, "the result is still on the service; --retry-failed failed with a larger --max-body fetches it")
    yield from _rules(tool, "contradictory_status", "JobFailed", no, State.FAILED, "the service gave the job two contradictory final statuses; the response is in the record, and the job may have been paid for")
    yield from _rules(tool, "unreadable_result", "JobFailed", no, State.FAILED, "the response is kept unchanged in a file next to the output; the job was very likely paid for")
# fmt: on


TAXONOMY: tuple[Rule, ...] = tuple(_table())


# --- Why a run halts: submits nothing more, and what to do about it ---


class HaltReason(StrEnum):
    """Why nothing is submitted any more."""

    QUOTA = "quota"
    BUDGET = "budget"
    AUTH = "auth"
    ALL_REFUSED = "all refused"
    UNKNOWN_RESPONSE = "unknown response"
    NO_ACCEPTANCE = "no acceptance"
    OUTAGE = "outage"
    UNREACHABLE = "unreachable"
    RETRY_BUDGET = "retry budget"
    UNKNOWN_TO_SERVICE = "unknown to service"
    UNAUTHORISED = "unauthorised"
    WRITE_FAILED = "write failed"
    MAX_WAIT = "max wait"


HALT_ADVICE: dict[HaltReason, Text] = {
    HaltReason.QUOTA: ("top up or raise the limit, then ", Action.RUN_AGAIN, "; the rows themselves are fine"),
    HaltReason.BUDGET: ("raise the budget or wait for its next period, then ", Action.RUN_AGAIN),
    HaltReason.AUTH: ("give a valid API key, then ", Action.RUN_AGAIN),
    HaltReason.ALL_REFUSED: (
        "fix what the service's message names, then ",
        Action.RUN_AGAIN,
        "; ",
        Option("keep_going"),
        " sends every row regardless",
    ),
    HaltReason.UNKNOWN_RESPONSE: (
        "describe the service in a profile and give it with ",
        Option("service", "profile.toml"),
        ", then ",
        Action.RUN_AGAIN,
        "; ",
        Option("keep_going"),
        " sends the other rows regardless",
    ),
    HaltReason.NO_ACCEPTANCE: ("check the service's status page and your limits there, then ", Action.RUN_AGAIN),
    HaltReason.OUTAGE: ("wait until the service is back, then ", Action.RUN_AGAIN),
    HaltReason.UNREACHABLE: (
        "check the address (",
        Option("base_url"),
        "), the network and the proxy, then ",
        Action.RUN_AGAIN,
    ),
    HaltReason.RETRY_BUDGET: (
        "check the codes above before you pay for more retries; a larger ",
        Option("retry_budget"),
        " continues",
    ),
    HaltReason.UNKNOWN_TO_SERVICE: (
        "use the API key, project and base URL of the run that sent them; ",
        Option("write_off"),
        " gives them up",
    ),
    HaltReason.UNAUTHORISED: ("give an API key that may read these jobs, then ", Action.RUN_AGAIN),
    HaltReason.WRITE_FAILED: ("free space or fix the disk, then ", Action.RUN_AGAIN),
    HaltReason.MAX_WAIT: (Action.RUN_AGAIN, " to collect what is still running and to continue"),
}
"""What to do about each halt."""
