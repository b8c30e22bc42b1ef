"""The exception that the openai SDK would have raised for an error of a job."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from batchrun.core.responses.error import Problem
from batchrun.core.taxonomy.classify import classify
from batchrun.core.taxonomy.rules import KINDS, normalise
from batchrun.core.text.readable import visible
from batchrun.version import install

SYNTHETIC_HEADER = "x-batchrun-synthetic"
"""The header that the response within such an exception carries: no service sent it."""


def openai_error(
    problem: Problem, status: str | None, job_id: str | None, completion: Callable[[], dict[str, Any]]
) -> Exception:
    """An instance of the installed SDK's class for `problem`, of a job whose last status word was `status`.

    `completion` gives the fields of the ChatCompletion that was cut off.
    """
    openai, http = _sdk()
    sdk, http_status = _sdk_class(problem, status)
    message = visible(problem.message, 5_000)  # the text of the exception; the body keeps it as it was received
    body = {"code": problem.code, "type": problem.type, "param": problem.param, "message": problem.message}
    request = http.Request("GET", f"https://batchrun.invalid/jobs/{job_id or ''}")
    if sdk == "ContentFilterFinishReasonError":
        error: Exception = openai.ContentFilterFinishReasonError()
    elif sdk == "LengthFinishReasonError":
        construct = import_module("openai.types.chat").ChatCompletion.construct  # unlike the class it takes any shape
        error = openai.LengthFinishReasonError(completion=construct(**completion()))
    elif sdk == "APITimeoutError":
        error = openai.APITimeoutError(request)
    elif sdk == "APIConnectionError":
        error = openai.APIConnectionError(message=message, request=request)
    elif sdk is None:
        error = openai.APIError(message, request, body=body)
    else:
        headers = {SYNTHETIC_HEADER: "true"}
        response = http.Response(http_status, json={"error": body}, headers=headers, request=request)
        error = getattr(openai, sdk)(message, response=response, body=body)
    return error


_SDK_BY_STATUS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
}


def _sdk_class(problem: Problem, status: str | None) -> tuple[str | None, int]:
    """The name of the SDK's class, and the HTTP status that goes with it."""
    kind = KINDS[problem.kind]
    word = normalise(status)
    found, _ = classify(problem.code, None, problem.http_status, word, problem.message)
    if (found.kind, found.type) != (problem.kind, problem.type):  # else the type may be ours and say nothing new
        found, _ = classify(problem.code, problem.type, problem.http_status, word, problem.message)
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
