"""JSON objects edited without being written anew: what is not touched keeps every byte.

A body is the user's. Parsed and written again, a number of forty digits would become a float, `1.0`
perhaps `1`, an escape its letter. So fields are set and dropped between the bytes as they stand.

Everything here expects valid JSON (the line was read before), and finds its way by strings and
brackets alone: no depth is too deep, no number too long.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

import orjson

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_KEY = re.compile(rb"[\s,]*(" + _STRING + rb")\s*:\s*", re.DOTALL)
_PLAIN = re.compile(_STRING + rb"|[^\s,\]}\[{\"]++", re.DOTALL)
_STRINGS_AND_BRACKETS = re.compile(_STRING + rb"|[\[{\]}]", re.DOTALL)


class Member(NamedTuple):
    """A field of an object: `text[start:end]` is `"key": value`, `text[value:end]` the value alone."""

    key: str
    start: int
    value: int
    end: int


def members(text: bytes) -> list[Member]:
    """The fields of the JSON object `text` in their order, doubled ones included."""
    found: list[Member] = []
    at = text.index(b"{") + 1
    while (key := _KEY.match(text, at)) is not None:
        start, value = key.start(1), key.end()
        at = _end_of_value(text, value)
        name = key[1]
        found.append(Member(orjson.loads(name) if b"\\" in name else name[1:-1].decode(), start, value, at))
    return found


def values(text: bytes, *names: str) -> dict[str, bytes]:
    """The fields `names` of the JSON object `text` as they are written; of doubled ones the last."""
    return {one.key: text[one.value : one.end] for one in members(text) if one.key in names}


def edited(text: bytes, put: Mapping[str, bytes], drop: Collection[str], present: Collection[str]) -> bytes:
    """The JSON object `text` with the fields of `put` set and those of `drop` gone.

    `present` holds the names of the object's fields. A field that was there is set in its place, a new one
    in front. Where nothing that is there is touched, every byte of `text` travels on.
    """
    fresh = [orjson.dumps(name) + b":" + value for name, value in put.items() if name not in present]
    if len(fresh) == len(put) and not any(name in present for name in drop):
        if not fresh:
            return text
        head = text.index(b"{") + 1
        comma = b"," if present else b""
        return text[:head] + b",".join(fresh) + comma + text[head:]
    kept = []
    standing = members(text)
    last = {one.key: one for one in standing}
    for one in standing:
        if one.key in put:
            if one is last[one.key]:
                kept.append(text[one.start : one.value] + put[one.key])
        elif one.key not in drop:
            kept.append(text[one.start : one.end])
    return b"{" + b",".join([*fresh, *kept]) + b"}"


def _end_of_value(text: bytes, at: int) -> int:
    if text[at] not in b"{[":
        plain = _PLAIN.match(text, at)
        assert plain is not None, "the text was valid JSON"
        return plain.end()
    depth = 0
    for found in _STRINGS_AND_BRACKETS.finditer(text, at):
        first = text[found.start()]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
            if depth == 0:
                return found.end()
    raise AssertionError("the text was valid JSON")
