"""Typed exceptions for jobs that did not succeed, named as in the openai SDK where it has one.

A background job that failed answers its poll with 200 OK, so the SDK raises nothing for it. These do::

    try:
        record.raise_for_state()
    except batchrun.errors.RateLimitError as error:
        print(error.code, error.retryable)

``error.to_openai()`` is a real instance of the installed SDK's class, for code that expects those.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from batchrun.core.responses.error import Problem
from batchrun.core.taxonomy.classify import classify
from batchrun.core.taxonomy.rules import KINDS
from batchrun.core.taxonomy.states import State, normalise
from batchrun.results.record import Record
from batchrun.version import install

SYNTHETIC_HEADER = "x-batchrun-synthetic"


class BatchrunError(Exception):
    """What batchrun raises, but for `Interrupted`, which like every interruption is no `Exception`."""


class JobError(BatchrunError):
    """A row that did not succeed; `record` holds all that is known of it."""

    def __init__(self, record: Record, problem: Problem) -> None:
        super().__init__(f"{record.key}: {problem.message}")
        self.record = record
        self.problem = problem

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.record, self.problem)

    @property
    def message(self) -> str:
        return self.problem.message

    @property
    def code(self) -> str | None:
        return self.problem.code

    @property
    def type(self) -> str:
        return self.problem.type

    @property
    def param(self) -> str | None:
        return self.problem.param

    @property
    def retryable(self) -> bool:
        """Whether a new attempt of the same row is worth its price."""
        return self.problem.retryable

    @property
    def billing_reason(self) -> str | None:
        return self.record.billing_reason

    def to_openai(self) -> Exception:
        """The same error as the installed openai SDK would have raised it, with this one as its cause.

        The answer inside is synthetic and says so in its header `x-batchrun-synthetic`. Where the SDK has
        no class of its own it is an `openai.APIError`. Raises ImportError where openai is not installed.
        """
        error = _openai_error(self)
        error.__cause__ = self
        return error


class APIStatusError(JobError):
    """The service answered with an error status."""


class BadRequestError(APIStatusError):
    """The request itself is wrong; sent again as it is, it fails again."""


class ContentPolicyError(BadRequestError):
    """Refused for its content."""


class PolicyViolationError(BadRequestError):
    """Refused by a usage policy."""


class AuthenticationError(APIStatusError):
    """The API key is missing, wrong or withdrawn."""


class QuotaExceededError(APIStatusError):
    """Quota, credit or budget is used up; `billing_reason` tells which."""


class PermissionDeniedError(APIStatusError):
    """This key may not do that."""


class NotFoundError(APIStatusError):
    """A model, file or job does not exist for this key."""


class ConflictError(APIStatusError):
    """It collided with another request."""


class UnprocessableEntityError(APIStatusError):
    """Well formed, but not acceptable."""


class RateLimitError(APIStatusError):
    """Too many requests or tokens for now."""


class InternalServerError(APIStatusError):
    """The service failed by its own fault."""


class APIConnectionError(JobError):
    """No answer: connection refused or lost."""


class APITimeoutError(APIConnectionError):
    """Not done, or not answered, in time."""


class JobIncomplete(JobError):
    """Stopped early; the partial result is in the record."""


class LengthFinishReasonError(JobIncomplete):
    """Cut off at a token cap."""


class ContentFilterFinishReasonError(JobIncomplete):
    """Cut off by the content filter."""


class JobFailed(JobError):
    """Failed for a reason that the taxonomy does not know."""


class JobCancelled(JobError):
    """Cancelled, by us or by the service."""


class JobExpired(JobError):
    """Ran out over there, or is no longer kept."""


class JobNeedsAction(JobError):
    """Waits for a person or a tool."""


class JobUnconfirmed(JobError):
    """Sent, and the answer was lost: the job may or may not exist."""


BY_KIND: dict[str, type[JobError]] = {
    name: found for name in KINDS if isinstance(found := globals()[name], type) and issubclass(found, JobError)
}
"""The exceptions by `error.kind`."""

for _of in (BatchrunError, JobError, *BY_KIND.values()):
    _of.__module__ = "batchrun.errors"  # where people find them


def error_of(record: Record) -> JobError | None:
    """The exception of a record; None for one that succeeded."""
    if record.state is State.SUCCEEDED or record.error is None:
        return None
    return BY_KIND.get(record.error.kind, JobFailed)(record, record.error)


def _openai_error(error: JobError) -> Exception:
    openai, http = _sdk()
    sdk, status = _sdk_class(error)
    message = error.problem.message
    body = {"code": error.code, "type": error.type, "param": error.param, "message": message}
    request = http.Request("GET", f"https://batchrun.invalid/jobs/{error.record.job_id or ''}")
    if sdk == "ContentFilterFinishReasonError":
        made: Exception = openai.ContentFilterFinishReasonError()
    elif sdk == "APITimeoutError":
        made = openai.APITimeoutError(request)
    elif sdk == "APIConnectionError":
        made = openai.APIConnectionError(message=message, request=request)
    elif sdk is None or sdk == "LengthFinishReasonError":  # the SDK's needs a whole ChatCompletion
        made = openai.APIError(message, request, body=body)
    else:
        answer = http.Response(status, json={"error": body}, headers={SYNTHETIC_HEADER: "true"}, request=request)
        made = getattr(openai, sdk)(message, response=answer, body=body)
    return made


_SDK_BY_STATUS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
}


def _sdk_class(error: JobError) -> tuple[str | None, int]:
    """The name of the SDK's class, and the HTTP status that goes with it."""
    problem, kind = error.problem, KINDS[error.problem.kind]
    found, _ = classify(
        problem.code, problem.type, problem.http_status, normalise(error.record.status), problem.message
    )
    if found.kind != problem.kind:  # judged by a reason or by ourselves: the kind alone decides
        return kind.sdk, kind.http_status
    if found.sdk_by_status and (problem.http_status or 0) >= 400:
        return _SDK_BY_STATUS.get(problem.http_status or 0, "APIStatusError"), problem.http_status or 0
    return found.sdk, found.http_status


def _sdk() -> tuple[ModuleType, ModuleType]:
    """The openai package and the HTTP package whose objects its exceptions carry."""
    try:
        import openai
    except ImportError as error:
        missing = f"to_openai() needs the openai package: {install('openai')}"
        raise ImportError(missing) from error
    # openai 3 carries httpx2 objects, earlier ones httpx's; its module knows which.
    inside = vars(import_module("openai._exceptions"))
    return openai, inside.get("httpx2") or inside["httpx"]
