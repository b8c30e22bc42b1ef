"""The JSON Schema of a record, made from the closed lists it speaks of."""

from __future__ import annotations

from typing import Any

from batchrun.core.responses.error import Source
from batchrun.core.responses.outcome import Billing
from batchrun.core.taxonomy.rules import KINDS
from batchrun.core.taxonomy.states import State

_TEXT = {"type": "string"}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_COUNT = {"type": "integer", "minimum": 0}
_COUNT_OR_NULL = {"type": ["integer", "null"], "minimum": 0}
_SECONDS_OR_NULL = {"type": ["number", "null"], "minimum": 0}
_MOMENT_OR_NULL = {
    "type": ["string", "null"],
    "pattern": r"^\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
}
_STATE = {"enum": [state.value for state in State]}
_BILLING = {"enum": [billing.value for billing in Billing]}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [{"type": "null"}, schema]}


RECORD_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "batchrun record",
    "description": "One terminal line per input row. Every key is always present.",
    **_object(
        {
            "id": {"type": "string", "pattern": "^rec_[0-9a-f]{24}$"},
            "custom_id": _TEXT,
            "job_id": _TEXT_OR_NULL,
            "state": _STATE,
            "status": _TEXT_OR_NULL,
            "model": _TEXT_OR_NULL,
            "retry_count": _COUNT,
            "billing": _BILLING,
            "billing_reason": {"enum": ["quota", "budget", None]},
            "error": _or_null(
                _object(
                    {
                        "code": _TEXT_OR_NULL,
                        "type": _TEXT,
                        "message": _TEXT,
                        "param": _TEXT_OR_NULL,
                        "kind": {"enum": list(KINDS)},
                        "retryable": {"type": "boolean"},
                        "source": {"enum": [source.value for source in Source]},
                        "http_status": {"type": ["integer", "null"]},
                    }
                )
            ),
            "output_text": _TEXT_OR_NULL,
            "response": _or_null(
                _object({"status_code": {"type": "integer"}, "request_id": _TEXT_OR_NULL, "body": {}})
            ),
            "artifacts": {
                "type": "array",
                "items": _object(
                    {
                        "file": _TEXT,
                        "media_type": _TEXT,
                        "size": _COUNT,
                        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                        "at": _TEXT,
                    }
                ),
            },
            "warnings": {"type": "array", "items": _TEXT, "uniqueItems": True},
            "usage": _object(
                dict.fromkeys(
                    ("input_tokens", "output_tokens", "total_tokens", "cached_tokens", "reasoning_tokens"),
                    _COUNT_OR_NULL,
                )
            ),
            "polls": _COUNT,
            "attempts": {
                "type": "array",
                "items": _object(
                    {
                        "job_id": _TEXT_OR_NULL,
                        "state": _STATE,
                        "code": _TEXT_OR_NULL,
                        "billing": _BILLING,
                    }
                ),
            },
            "submitted_at": _MOMENT_OR_NULL,
            "running_at": _MOMENT_OR_NULL,
            "finished_at": _MOMENT_OR_NULL,
            "queued_s": _SECONDS_OR_NULL,
            "running_s": _SECONDS_OR_NULL,
            "metadata": {"type": "object"},
        }
    ),
}
