"""What a record is made of: earlier attempts, the response, its id, its times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from enum import EnumType
from functools import cache
from hashlib import blake2b
from types import NoneType
from typing import Annotated, Any, NewType, TypeVar, get_args, get_origin, get_type_hints

import orjson

from batchrun.core.records.artifacts import Artifact
from batchrun.core.responses.error import Problem, ToolError
from batchrun.core.responses.outcome import NO_USAGE, Billing, Usage
from batchrun.core.taxonomy.rules import State
from batchrun.core.text.readable import utc

# --- A JSON object that is described by a class: its keys, read from the class itself ---
#
# The fields of a frozen dataclass are the keys of the object, in the order in which orjson writes them. Each says in
# its annotation what it means, and what its JSON Schema says beyond its type::
#
#     sha256: Annotated[str, "the file's digest", {"pattern": "^[0-9a-f]{64}$"}]
#
# Types: str, Moment, int (a count), float (seconds), bool, an enum, bytes (JSON as it was received), another such
# class, a tuple of one type, and each of them with None.
#
# A key that is added later has a default, which a reader takes for lines of earlier versions, and says
# ``{"required": False}``. A reader ignores the keys that it does not know.


T = TypeVar("T")

Moment = NewType("Moment", str)
"""A time as it is written: ISO 8601 in UTC with milliseconds, ``2026-11-20T08:34:18.120Z``."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a JSON object. `type` is that of its values, None apart; `schema` what its JSON Schema says beyond it."""

    name: str
    type: Any
    nullable: bool
    meaning: str
    required: bool
    has_default: bool
    schema: Mapping[str, Any]


@cache
def keys_of(kind: type) -> tuple[Key, ...]:
    """The keys of the objects that the dataclass `kind` describes, in the order in which they are written."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(_key(one.name, hints[one.name], one.default is not MISSING) for one in fields(kind))


def read(kind: type[T], data: Mapping[str, Any]) -> T:
    """A JSON object as a `kind`. Keys that it does not know are left out; those not there take its default, else None."""
    described: Any = kind  # for mypy a type[T] is not hashable
    keys = keys_of(described)
    values = {key.name: data.get(key.name) for key in keys if key.name in data or not key.has_default}
    for key in keys:
        if isinstance(key.type, EnumType) and values.get(key.name) is not None:
            values[key.name] = key.type(values[key.name])
    return kind(**values)


def _key(name: str, hint: Any, has_default: bool) -> Key:  # noqa: FBT001
    meaning, schema = "", {}
    if get_origin(hint) is Annotated:
        hint, meaning, *more = get_args(hint)
        schema = dict(*more)
    required = schema.pop("required", True)
    nullable = NoneType in get_args(hint)
    if nullable:
        (hint,) = (one for one in get_args(hint) if one is not NoneType)
    return Key(name, hint, nullable, meaning, required, has_default, schema)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An earlier job of the same row."""

    job_id: Annotated[str | None, "the job's id on the service"]
    state: Annotated[State, "how it ended"]
    code: Annotated[str | None, "the code of its error"]
    billing: Annotated[Billing, "whether it was paid for, as far as is known"]


@dataclass(frozen=True, slots=True)
class LastRefusal:
    """The last submit of a row that was refused, or that did not reach the service: nothing was created."""

    code: Annotated[str | None, "the code of its error"]
    message: Annotated[str, "the service's message, shortened"]
    http_status: Annotated[int | None, "its HTTP status; null where there was no response"]


@dataclass(frozen=True, slots=True)
class Refusals:
    """How often submits of a row were refused."""

    count: Annotated[int, "how many"]
    last: Annotated[LastRefusal, "the last of them"]


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
# JSON Schema, the columns of a DataFrame and the list in `batchrun help records` are made of its annotations. To add a
# key, add a field with a default and ``{"required": False}`` (see `Key`), its value in `core.jobs.jobs.record_of`, and
# an attribute to `results.record.Record`. A key that is there keeps its meaning and its place; new ones come last.


# No slots: orjson writes it a third faster without. Not frozen: it is made in a third of the time.
@dataclass(kw_only=True)
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
    running_at: Annotated[
        Moment | None, "when a response first showed it running; null where that may have been in an earlier run"
    ] = None
    finished_at: Annotated[Moment | None, "when it was found to have ended"] = None
    queued_s: Annotated[float | None, "seconds from `submitted_at` to `running_at`"] = None
    running_s: Annotated[float | None, "seconds from `running_at` to `finished_at`"] = None
    metadata: Annotated[bytes, "the row's own `metadata`, which is not sent", {"type": "object"}] = b"{}"
    refusals: Annotated[
        Refusals | None,
        "the submits of the row that were refused, in the run that ended it; null where none was",
        {"required": False},
    ] = None
    tool_errors: Annotated[
        tuple[ToolError, ...], "what the tools that failed said of it, whatever became of the row", {"required": False}
    ] = ()

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
