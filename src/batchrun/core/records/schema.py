"""The JSON Schema of a record, made from its table of keys."""

from __future__ import annotations

from enum import EnumType
from typing import Any, get_args, get_origin

from batchrun.core.records.fields import RecordLine
from batchrun.core.records.keys import Key, Moment, keys_of

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
