"""Typed exceptions: of jobs that did not succeed, named as in the openai SDK where it has one, and of runs.

The poll of a background job that failed returns 200 OK, so the SDK raises nothing for it. Records do::

    try:
        record.raise_for_state()
    except batchrun.errors.RateLimitError as error:
        print(error.code, error.retryable)

``error.to_openai()`` is a real instance of the installed SDK's class, for code that expects those.

What ends a run: `Interrupted` and `Halted` (with `.records` so far), `SettingsError`, `InputError`, `FilesError`.
"""

from batchrun.results.openai_errors import SYNTHETIC_HEADER
from batchrun.results.record import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    BatchrunError,
    ConflictError,
    ContentFilterFinishReasonError,
    ContentPolicyError,
    InternalServerError,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobIncomplete,
    JobNeedsAction,
    JobUnconfirmed,
    LengthFinishReasonError,
    NotFoundError,
    PermissionDeniedError,
    PolicyViolationError,
    QuotaExceededError,
    RateLimitError,
    UnprocessableEntityError,
    error_of,
)
from batchrun.results.run_errors import FilesError, Halted, InputError, Interrupted, SettingsError

__all__ = [
    "SYNTHETIC_HEADER",
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "BatchrunError",
    "ConflictError",
    "ContentFilterFinishReasonError",
    "ContentPolicyError",
    "FilesError",
    "Halted",
    "InputError",
    "InternalServerError",
    "Interrupted",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobIncomplete",
    "JobNeedsAction",
    "JobUnconfirmed",
    "LengthFinishReasonError",
    "NotFoundError",
    "PermissionDeniedError",
    "PolicyViolationError",
    "QuotaExceededError",
    "RateLimitError",
    "SettingsError",
    "UnprocessableEntityError",
    "error_of",
]
