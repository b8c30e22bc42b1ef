"""The terminal line of a row: a superset of the OpenAI Batch output line."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from batchrun.core.records.artifacts import Artifact
from batchrun.core.responses.error import Problem
from batchrun.core.responses.outcome import Billing
from batchrun.core.responses.usage import NO_USAGE, Usage
from batchrun.core.taxonomy.states import State
from batchrun.core.text.dates import utc


@dataclass(frozen=True, slots=True)
class Attempt:
    """An earlier job of the same row."""

    job_id: str | None
    state: State
    code: str | None
    billing: Billing

    def to_dict(self) -> dict[str, Any]:
        return {
            "job_id": self.job_id,
            "state": self.state.value,
            "code": self.code,
            "billing": self.billing.value,
        }


@dataclass(frozen=True, slots=True)
class Response:
    """The answer that ended a row. `body` is JSON on one line, as received."""

    status_code: int
    request_id: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class RecordLine:
    """How a row ended, in full. Times are seconds since 1970."""

    id: str
    key: str
    state: State
    job_id: str | None = None
    status: str | None = None
    model: str | None = None
    billing: Billing = Billing.UNKNOWN
    billing_reason: str | None = None
    error: Problem | None = None
    output_text: str | None = None
    response: Response | None = None
    warnings: tuple[str, ...] = ()
    usage: Usage = NO_USAGE
    polls: int = 0
    attempts: tuple[Attempt, ...] = ()
    submitted_at: float | None = None
    running_at: float | None = None
    finished_at: float | None = None
    metadata: bytes | None = None
    artifacts: tuple[Artifact, ...] = ()

    def to_json(self) -> bytes:
        """The record as one line of JSON, without its line end; every key is present."""
        response = self.response
        return orjson.dumps(
            {
                "id": self.id,
                "custom_id": self.key,
                "job_id": self.job_id,
                "state": self.state.value,
                "status": self.status,
                "model": self.model,
                "retry_count": len(self.attempts),
                "billing": self.billing.value,
                "billing_reason": self.billing_reason,
                "error": None if self.error is None else self.error.to_dict(),
                "output_text": self.output_text,
                "response": None
                if response is None
                else {
                    "status_code": response.status_code,
                    "request_id": response.request_id,
                    "body": orjson.Fragment(response.body or b"null"),
                },
                "artifacts": [artifact.to_dict() for artifact in self.artifacts],
                "warnings": self.warnings,
                "usage": self.usage.to_dict(),
                "polls": self.polls,
                "attempts": [attempt.to_dict() for attempt in self.attempts],
                "submitted_at": _utc(self.submitted_at),
                "running_at": _utc(self.running_at),
                "finished_at": _utc(self.finished_at),
                "queued_s": _between(self.submitted_at, self.running_at),
                "running_s": _between(self.running_at, self.finished_at),
                "metadata": orjson.Fragment(self.metadata or b"{}"),
            }
        )


def record_id(run_id: str, key: str) -> str:
    """The record's id: the same for the same row of the same batch, however often it is resumed."""
    return "rec_" + blake2b(f"{run_id}\0{key}".encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _utc(seconds: float | None) -> str | None:
    return None if seconds is None else utc(seconds)


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(max(0.0, end - start), 3)
