"""A record as a program reads it: the line of the output, with attributes; and the exceptions that it raises.

A record raises its exception and the exception carries the record, so both are here; people find the exceptions as
`batchrun.errors`. They are named as in the openai SDK where it has one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import orjson

from batchrun.core.records.record import Attempt, LastRefusal, RecordLine, Refusals, read
from batchrun.core.responses.error import Problem, ToolError
from batchrun.core.responses.outcome import Billing, Usage
from batchrun.core.taxonomy.rules import KINDS, State
from batchrun.core.text.readable import visible
from batchrun.results.images import images_in

_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.DOTALL | re.IGNORECASE)
_LONG_NUMBER = re.compile(rb"[:\[,]\s*-?[0-9]{19}")  # orjson makes a double of an integer beyond 64 bits
_SHOWN = 60
_LONGEST_KEY, _LONGEST_MESSAGE = 500, 5_000  # characters in the text of an exception

_LEAST: dict[str, Any] = orjson.loads(RecordLine(id="", custom_id="", state=State.FAILED).to_json())
for _name in ("id", "custom_id", "state"):
    del _LEAST[_name]
"""The values of keys that a line lacks, because an earlier version wrote it. Without the three it is not a record."""


class Record:
    """How one row ended: the keys of its line in the output as attributes.

    `text` is the output text, `json()` reads it as JSON, `images()` gives the pictures, `body` is the
    service's response as received, and `raise_for_state()` raises for a row that did not succeed. The line is kept, and
    parsed when an attribute is first used.
    """

    __module__ = "batchrun"
    __slots__ = ("_data", "_folder", "_line")

    def __init__(self, line: bytes, folder: Path | None = None) -> None:
        self._line = line
        self._folder = folder
        self._data: dict[str, Any] | None = None

    def _all(self) -> dict[str, Any]:
        """The line, parsed, without the response's body: `body` parses that each time."""
        if self._data is None:
            self._data = data = _LEAST | orjson.loads(self._line)
            if data["response"] is not None:
                data["response"].pop("body", None)
        return self._data

    # --- identity ---

    @property
    def key(self) -> str:
        """The row's key: its custom_id, or a hash of the row."""
        return str(self._all()["custom_id"])

    @property
    def custom_id(self) -> str:
        """As `key`."""
        return self.key

    @property
    def id(self) -> str:
        """The record's own id, the same however often the batch is resumed."""
        return str(self._all()["id"])

    @property
    def job_id(self) -> str | None:
        """The id of the row's last job on the service."""
        return self._text("job_id")

    @property
    def metadata(self) -> dict[str, Any]:
        """The row's own metadata, which is not sent."""
        return dict(self._all()["metadata"])

    # --- outcome ---

    @property
    def state(self) -> State:
        """How the row ended, one of a closed list."""
        return State(self._all()["state"])

    @property
    def ok(self) -> bool:
        """Whether it succeeded; see `warnings` too."""
        return self.state is State.SUCCEEDED

    @property
    def status(self) -> str | None:
        """The service's last status word, untouched."""
        return self._text("status")

    @property
    def error(self) -> Problem | None:
        """Code, type, message, kind and `retryable` of what went wrong."""
        error = self._all()["error"]
        return None if error is None else read(Problem, error)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about the result, in words such as `empty_output`."""
        return tuple(self._all()["warnings"])

    @property
    def tool_errors(self) -> tuple[ToolError, ...]:
        """What the tools that failed said of it, whatever became of the row."""
        return tuple(read(ToolError, one) for one in self._all()["tool_errors"])

    def raise_for_state(self, *, as_openai: bool = False) -> Self:
        """Raise the exception of a row that did not succeed, a `batchrun.errors.JobError`; else return the record.

        With `as_openai` it is the installed openai SDK's exception.
        """
        error = error_of(self)
        if error is None:
            return self
        raise error.to_openai() if as_openai else error

    # --- result ---

    @property
    def text(self) -> str | None:
        """The output text; None where there is none."""
        return self._text("output_text")

    @property
    def output_text(self) -> str | None:
        """As `text`."""
        return self.text

    def json(self) -> Any:
        """The output text parsed as JSON, with or without a ``` fence around it.

        Raises as `raise_for_state`, or ValueError where the text is not JSON.
        """
        text = self.raise_for_state().text
        if text is None:
            raise ValueError(f"{visible(self.key, _SHOWN)}: expected a text that is JSON, got no text; see .warnings")
        try:
            fenced = _FENCE.match(text)
            return json.loads(fenced[1] if fenced else text)
        except json.JSONDecodeError as error:
            message = f"expected JSON, got {visible(text, _SHOWN)!r} ({error}); see .text"
            raise ValueError(f"{visible(self.key, _SHOWN)}: {message}") from error

    @property
    def body(self) -> Any:
        """The body of the response that ended the row, as the service sent it; None where there is none."""
        loads = json.loads if _LONG_NUMBER.search(self._line) else orjson.loads
        response = loads(self._line).get("response")
        return None if response is None else response.get("body")

    @property
    def http_status(self) -> int | None:
        """The HTTP status of the response that ended the row."""
        response = self._all()["response"]
        return None if response is None else response.get("status_code")

    @property
    def request_id(self) -> str | None:
        """The service's id of that request, for its support."""
        response = self._all()["response"]
        return None if response is None else response.get("request_id")

    def images(self) -> list[bytes]:
        """Every image of the response, decoded: those in the body, then those stored as files next to the output."""
        stored = [self._stored(one) for one in self.artifacts if str(one.get("media_type")).startswith("image/")]
        return images_in(self.body) + [path.read_bytes() for path in stored]

    @property
    def artifacts(self) -> tuple[dict[str, Any], ...]:
        """Results that were stored as files; `file` is the path from the output's folder."""
        return tuple(self._all()["artifacts"])

    def _stored(self, artifact: Mapping[str, Any]) -> Path:
        return (self._folder or Path()) / str(artifact["file"])

    # --- cost and times ---

    @property
    def model(self) -> str | None:
        """The model that responded, else the one that was asked for."""
        return self._text("model")

    @property
    def usage(self) -> Usage:
        """Tokens; None where the service reported none."""
        return read(Usage, self._all()["usage"])

    @property
    def billing(self) -> Billing:
        """Whether the last attempt was paid for, as far as is known."""
        return Billing(self._all()["billing"])

    @property
    def billing_reason(self) -> str | None:
        """`quota` or `budget` where money was the reason."""
        return self._text("billing_reason")

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The earlier jobs of the row, each of which may have been paid for."""
        return tuple(read(Attempt, one) for one in self._all()["attempts"])

    @property
    def retry_count(self) -> int:
        """How many earlier attempts there were."""
        return len(self._all()["attempts"])

    @property
    def refusals(self) -> Refusals | None:
        """How many submits of the row were refused, and the last refusal; None where none was."""
        refusals = self._all()["refusals"]
        return None if refusals is None else Refusals(refusals["count"], read(LastRefusal, refusals["last"]))

    @property
    def polls(self) -> int:
        """How often its jobs were polled."""
        return int(self._all()["polls"])

    @property
    def submitted_at(self) -> datetime | None:
        """When the last job was accepted."""
        return self._moment("submitted_at")

    @property
    def running_at(self) -> datetime | None:
        """When a response first showed it running; None where that may have been in an earlier run."""
        return self._moment("running_at")

    @property
    def finished_at(self) -> datetime | None:
        """When it was found to have ended."""
        return self._moment("finished_at")

    @property
    def queued_s(self) -> float | None:
        """Seconds from `submitted_at` to `running_at`."""
        seconds: float | None = self._all()["queued_s"]
        return seconds

    @property
    def running_s(self) -> float | None:
        """Seconds from `running_at` to `finished_at`."""
        seconds: float | None = self._all()["running_s"]
        return seconds

    # --- as a value ---

    def to_dict(self) -> dict[str, Any]:
        """The whole line as a new dictionary."""
        whole: dict[str, Any] = (json.loads if _LONG_NUMBER.search(self._line) else orjson.loads)(self._line)
        return whole

    def to_json(self) -> bytes:
        """The line as it is in the output, without its line end."""
        return self._line.rstrip(b"\n")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self._line)

    def __repr__(self) -> str:
        error, text = self.error, self.text
        if error is not None:
            outcome = f"{visible(error.code or error.kind, _SHOWN)}: {visible(error.message, _SHOWN)}"
        else:
            outcome = repr(visible(text, _SHOWN)) if text is not None else "no text"
        return f"<Record {visible(self.key, _SHOWN)!r}: {self.state}, {outcome}>"

    def _text(self, name: str) -> str | None:
        text: str | None = self._all()[name]
        return text

    def _moment(self, name: str) -> datetime | None:
        text = self._text(name)
        return None if text is None else datetime.fromisoformat(text)


class BatchrunError(Exception):
    """What batchrun raises, except `Interrupted`, which like every interruption is not an `Exception`."""


class JobError(BatchrunError):
    """A row that did not succeed; `record` holds all that is known of it."""

    def __init__(self, record: Record, problem: Problem) -> None:
        key, message = visible(record.key, _LONGEST_KEY), visible(problem.message, _LONGEST_MESSAGE)
        super().__init__(f"{key}: {message}" if key else message)
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
        """Whether a retry of the same row is worth its price."""
        return self.problem.retryable

    @property
    def billing_reason(self) -> str | None:
        return self.record.billing_reason

    def to_openai(self) -> Exception:
        """The same error as the installed openai SDK would have raised it, with this one as its cause.

        The response inside is synthetic and says so in its header `x-batchrun-synthetic`. A `LengthFinishReasonError`
        carries the ChatCompletion, which for a background response is made of the record. Where the SDK has no class
        of its own it is an `openai.APIError`. Raises ImportError where openai is not installed.
        """
        from batchrun.results.openai_errors import openai_error  # noqa: PLC0415 - only who asks for them needs them

        error = openai_error(self.problem, self.record.status, self.record.job_id, self._completion)
        error.__cause__ = self
        return error

    def _completion(self) -> dict[str, Any]:
        """The response as a chat completion: itself, or for a background response one with its text and its usage."""
        record, body = self.record, self.record.body
        if isinstance(body, dict) and isinstance(body.get("choices"), list):
            return {name: value for name, value in body.items() if not name.startswith("_")}
        message = {"role": "assistant", "content": record.text, "refusal": None}
        usage = {
            "prompt_tokens": record.usage.input_tokens,
            "completion_tokens": record.usage.output_tokens,
            "total_tokens": record.usage.total_tokens,
        }
        return {
            "id": record.job_id or record.id,
            "object": "chat.completion",
            "created": int(record.finished_at.timestamp()) if record.finished_at else 0,
            "model": record.model or "",
            "choices": [{"index": 0, "finish_reason": "length", "message": message, "logprobs": None}],
            "usage": None if record.usage.total_tokens is None else usage,
        }


class APIStatusError(JobError):
    """The service responded with an error status."""


class BadRequestError(APIStatusError):
    """The request itself is wrong; the same request would fail again."""


class ContentPolicyError(BadRequestError):
    """Refused for its content."""


class PolicyViolationError(BadRequestError):
    """Refused by a usage policy."""


class AuthenticationError(APIStatusError):
    """The API key is missing, wrong or revoked."""


class QuotaExceededError(APIStatusError):
    """Quota, credit or budget is used up; `billing_reason` says which."""


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
    """The service failed through its own fault."""


class APIConnectionError(JobError):
    """No response: the connection was refused or lost."""


class APITimeoutError(APIConnectionError):
    """Not done, or no response, in time."""


class JobIncomplete(JobError):
    """Stopped early; the partial result is in the record."""


class LengthFinishReasonError(JobIncomplete):
    """Cut off at a token cap."""


class ContentFilterFinishReasonError(JobIncomplete):
    """Cut off by the content filter."""


class JobFailed(JobError):
    """Failed for a reason that is not in the taxonomy."""


class JobCancelled(JobError):
    """Cancelled, by us or by the service."""


class JobExpired(JobError):
    """It expired on the service, or is no longer kept there."""


class JobNeedsAction(JobError):
    """It waits for a person or a tool."""


class JobUnconfirmed(JobError):
    """Sent, and the response was lost: the job may or may not exist."""


BY_KIND: dict[str, type[JobError]] = {name: globals()[name] for name in KINDS}
"""The exceptions by `error.kind`."""

for _public in (BatchrunError, JobError, *BY_KIND.values()):
    _public.__module__ = "batchrun.errors"  # the public import path


def error_of(record: Record) -> JobError | None:
    """The exception of a record; None for one that succeeded."""
    if record.state is State.SUCCEEDED or record.error is None:
        return None
    return BY_KIND.get(record.error.kind, JobFailed)(record, record.error)
