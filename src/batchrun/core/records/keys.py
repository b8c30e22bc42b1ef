"""A JSON object that is described by a class: its keys, read from the class itself.

The fields of a frozen dataclass are the keys of the object, in the order in which orjson writes them. Each says in its
annotation what it means, and what its JSON Schema says beyond its type::

    sha256: Annotated[str, "the file's digest", {"pattern": "^[0-9a-f]{64}$"}]

Types: str, Moment, int (a count), float (seconds), bool, an enum, bytes (JSON as it was received), another such class,
a tuple of one type, and each of them with None.

A key that is added later has a default, which a reader takes for lines of earlier versions, and says
``{"required": False}``. A reader ignores the keys that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from enum import EnumType
from functools import cache
from types import NoneType
from typing import Annotated, Any, NewType, TypeVar, get_args, get_origin, get_type_hints

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
