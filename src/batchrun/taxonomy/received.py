"""A response in whatever form a program has it, as batchrun's own HTTP transport would have given it.

Nothing here says what a response means. Objects are known by what they have, so that no SDK is imported: openai's and
those of the same make (Anthropic, Cloudflare, …), httpx, httpx2, requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from batchrun.core.responses.http import Answer, Cause, Failure

_NO_RESPONSE = {"APIConnectionError", "TransportError", "RequestException", "ConnectionError", "TimeoutError"}
"""Exceptions of SDKs, HTTP clients and Python for a request that has no response, or only a part of it."""
_NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ConnectionRefusedError", "gaierror"}
"""Of these, and of their causes, those after which no byte of the request was sent."""


class Received(NamedTuple):
    """A response, or the lack of one. `method` and `path` are its request's, where it is known."""

    answer: Answer | Failure
    method: str | None = None
    path: str = ""


def received(response: object) -> Received:
    """What was received. Raises TypeError for what is not a response."""
    if isinstance(response, str):
        return _ok(response.encode("utf-8", "surrogatepass"))
    if isinstance(response, bytes | bytearray | memoryview):
        return _ok(bytes(response))
    if isinstance(response, Mapping):
        return _ok(_json(dict(response)))
    if isinstance(response, BaseException):
        return _of_exception(response)
    response = getattr(response, "http_response", response)  # openai's with_raw_response
    if _is_http(response):
        return _of_http(response)
    if (body := _dumped(response)) is not None:
        return _ok(_json(body))
    return _refuse(response)


def _ok(body: bytes) -> Received:
    return Received(Answer(200, {}, body))


def _json(value: Any) -> bytes:
    return json.dumps(value, default=str, separators=(",", ":")).encode()


def _dumped(response: Any) -> Any:
    """The fields of an SDK's object; None where it is not one."""
    if isinstance(response, type):
        return None
    if callable(dump := getattr(response, "model_dump", None)):
        return dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)  # as it was received
    return dump() if callable(dump := getattr(response, "to_dict", None)) else None


def _is_http(response: Any) -> bool:
    return isinstance(getattr(response, "status_code", None), int) and hasattr(response, "headers")


def _of_http(response: Any) -> Received:
    headers = {str(name).lower(): str(value) for name, value in response.headers.items()}
    try:
        request = getattr(response, "request", None)
    except RuntimeError:  # httpx, where the response was made without one
        request = None
    return Received(Answer(response.status_code, headers, bytes(response.content)), *_of_request(request))


def _of_request(request: Any) -> tuple[str | None, str]:
    method, url = getattr(request, "method", None), getattr(request, "url", None)
    return (method.upper() if isinstance(method, str) else None), urlsplit(str(url or "")).path


def _of_exception(error: BaseException) -> Received:
    parts: Any = error
    body = getattr(parts, "body", None)
    if _is_http(response := getattr(parts, "response", None)):
        found = _of_http(response)
        if isinstance(found.answer, Answer) and not found.answer.body and isinstance(body, Mapping):
            found = found._replace(answer=found.answer._replace(body=_error(body)))
        return found
    if (completion := getattr(parts, "completion", None)) is not None:  # openai.LengthFinishReasonError
        return received(completion)
    names = _names(error)
    if "ContentFilterFinishReasonError" in names:
        return _ok(_json({"choices": [{"finish_reason": "content_filter", "message": {}}]}))
    request = _of_request(getattr(parts, "request", None))
    if names & _NO_RESPONSE:
        chain = list(_chain(error))
        is_sent = not any(_names(one) & _NOT_SENT for one in chain)
        is_timeout = any("Timeout" in name for name in names)
        message = ": ".join(dict.fromkeys(str(one) or type(one).__name__ for one in chain))
        return Received(Failure(is_sent, Cause.TIMEOUT if is_timeout else Cause.DROPPED, message), *request)
    if "APIError" in names:  # one that a stream reported
        return Received(Answer(200, {}, _error(body or {"message": str(error)})), *request)
    return _refuse(error)


def _error(body: Any) -> bytes:
    """The body of a response with the error that an exception of an SDK has as its `body`: without what was around it."""
    return _json(body if isinstance(body, Mapping) and "error" in body else {"error": body})


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes."""
    one: BaseException | None = error
    for _ in range(10):
        if one is None:
            return
        yield one
        one = one.__cause__


def _refuse(response: object) -> Received:
    kind = type(response)
    raise TypeError(
        "expected a response (an SDK's object or exception, a dict, JSON as bytes or text, or an httpx.Response), "
        f"got {kind.__module__}.{kind.__qualname__}"
    )
