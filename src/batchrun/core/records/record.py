"""What a record is made of: earlier attempts, the response, its id, its times."""

from __future__ import annotations

from dataclasses import dataclass
from enum import EnumType
from hashlib import blake2b
from typing import Annotated, Any, get_args, get_origin

import orjson

from batchrun.core.records.artifacts import Artifact
from batchrun.core.records.keys import Key, Moment, keys_of
from batchrun.core.responses.error import Problem
from batchrun.core.responses.outcome import NO_USAGE, Billing, Usage
from batchrun.core.taxonomy.rules import State
from batchrun.core.text.readable import utc


@dataclass(frozen=True, slots=True)
class Attempt:
    """An earlier job of the same row."""

    job_id: Annotated[str | None, "the job's id on the service"]
    state: Annotated[State, "how it ended"]
    code: Annotated[str | None, "the code of its error"]
    billing: Annotated[Billing, "whether it was paid for, as far as is known"]


@dataclass(frozen=True, slots=True)
class Response:
    """The response that ended a row."""

    status_code: Annotated[int, "its HTTP status"]
    request_id: Annotated[str | None, "the service's id of the request, for its support"]
    body: Annotated[bytes, "its body, JSON as it was received"]


def record_id(run_id: str, key: str) -> str:
    """The record's id: the same for the same row of the same batch, however often it is resumed."""
    return "rec_" + blake2b(f"{run_id}\0{key}".encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def moment(seconds: float | None) -> Moment | None:
    """A time in seconds since 1970 as a record has it."""
    return None if seconds is None else Moment(utc(seconds))


def seconds_between(start: float | None, end: float | None) -> float | None:
    """The seconds from `start` to `end`, with three decimals; 0 where a clock went back."""
    return None if start is None or end is None else round(max(0.0, end - start), 3)


# --- The table of a record's keys: the terminal line of a row, a superset of the OpenAI Batch output line ---
#
# Everything else follows from the class `RecordLine`: orjson writes it (`to_json`), `batchrun.Record` reads it, the
# JSON
# Schema, the columns of a DataFrame and the README's table are made of its annotations. To add a key, add a field with
# a
# default and ``{"required": False}`` (see `keys`), its value in `core.jobs.record_of`, and an attribute to
# `results.record.Record`. A key that is there keeps its meaning and its place.


@dataclass(frozen=True, kw_only=True)  # no slots: orjson writes it a third faster without
class RecordLine:
    """How a row ended, in full. A line without `id`, `custom_id` and `state` is no record."""

    id: Annotated[
        str,
        "the record's own id: the same for the same row, however often the batch is resumed",
        {"pattern": "^rec_[0-9a-f]{24}$"},
    ]
    custom_id: Annotated[str, "the row's key: its custom_id, or a hash of the row"]
    job_id: Annotated[str | None, "the id of the row's last job on the service"] = None
    state: Annotated[State, "how the row ended, one of a closed list"]
    status: Annotated[str | None, "the service's last status word, untouched"] = None
    model: Annotated[str | None, "the model that responded, else the one that was asked for"] = None
    retry_count: Annotated[int, "how many earlier attempts the row had"] = 0
    billing: Annotated[Billing, "whether the last attempt was paid for, as far as is known"] = Billing.UNKNOWN
    billing_reason: Annotated[
        str | None, "`quota` or `budget` where money was the reason", {"enum": ["quota", "budget", None]}
    ] = None
    error: Annotated[Problem | None, "what went wrong"] = None
    output_text: Annotated[str | None, "the text of the output"] = None
    response: Annotated[Response | None, "the response that ended the row"] = None
    artifacts: Annotated[tuple[Artifact, ...], "results that were written as files"] = ()
    warnings: Annotated[
        tuple[str, ...], "what is odd about the result, in words such as `empty_output`", {"uniqueItems": True}
    ] = ()
    usage: Annotated[Usage, "tokens, null where the service reported none"] = NO_USAGE
    polls: Annotated[int, "how often its jobs were polled"] = 0
    attempts: Annotated[tuple[Attempt, ...], "the earlier jobs of the row, each of which may have been paid for"] = ()
    submitted_at: Annotated[Moment | None, "when the last job was accepted"] = None
    running_at: Annotated[Moment | None, "when a poll first found it running"] = None
    finished_at: Annotated[Moment | None, "when it was found to have ended"] = None
    queued_s: Annotated[float | None, "seconds from `submitted_at` to `running_at`"] = None
    running_s: Annotated[float | None, "seconds from `running_at` to `finished_at`"] = None
    metadata: Annotated[bytes, "the row's own `metadata`, which is not sent", {"type": "object"}] = b"{}"

    def to_json(self) -> bytes:
        """The record as one line of JSON, without its line end; every key is present."""
        return orjson.dumps(self, _as_received)


def _as_received(value: Any) -> orjson.Fragment:
    """For orjson: bytes are JSON already, and no bytes are null."""
    return orjson.Fragment(value or b"null")


# --- The JSON Schema of a record, made from its table of keys ---


_SIMPLE: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    Moment: {"type": "string", "pattern": r"^\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"},
    int: {"type": "integer", "minimum": 0},
    float: {"type": "number", "minimum": 0},
    bool: {"type": "boolean"},
    bytes: {},
}


def object_schema(kind: type) -> dict[str, Any]:
    """The schema of the objects that a dataclass describes. Keys that it does not name are allowed: later versions add some."""
    keys = keys_of(kind)
    return {
        "type": "object",
        "properties": {key.name: {"description": key.meaning, **_schema(key)} for key in keys},
        "required": [key.name for key in keys if key.required],
    }


def _schema(key: Key) -> dict[str, Any]:
    schema = _of_type(key.type)
    if key.nullable and key.type in _SIMPLE:
        schema = {**schema, "type": [schema["type"], "null"]}
    elif key.nullable:
        schema = {"anyOf": [{"type": "null"}, schema]}
    return {**schema, **key.schema}


def _of_type(kind: Any) -> dict[str, Any]:
    if get_origin(kind) is tuple:
        return {"type": "array", "items": _of_type(get_args(kind)[0])}
    if isinstance(kind, EnumType):
        values: list[Any] = list(kind)
        return {"enum": [one.value for one in values]}
    return _SIMPLE[kind] if kind in _SIMPLE else object_schema(kind)


RECORD_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "batchrun record",
    "description": "One terminal line per input row. Every key is always present; later versions may add keys.",
    **object_schema(RecordLine),
}
