"""JSON objects edited without being written anew: what is not touched keeps every byte.

A body is the user's. Parsed and written again, a number of forty digits would become a float, `1.0`
perhaps `1`, an escape its letter. So fields are set and dropped between the bytes as they stand.

Everything here expects valid JSON (the line was read before), and finds its way by strings and
brackets alone: no depth is too deep, no number too long.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import orjson

_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_STRING = re.compile(_TEXT, re.DOTALL)
_KEY = re.compile(rb"[\s,]*(" + _TEXT + rb")\s*:\s*", re.DOTALL)
_PLAIN = re.compile(rb'[^\s,\]}\[{"]++')
_BETWEEN = re.compile(rb"[\s,]*+")
# A short string as a whole, of a longer one the quote: where that ends is found faster than by an expression.
_STRINGS_AND_BRACKETS = re.compile(rb'"[^"\\]{0,200}+"|["\[{\]}]')
_QUOTE, _BACKSLASH = b'"\\'


class Member(NamedTuple):
    """A field of an object: `text[start:end]` is `"key": value`, `text[value:end]` the value alone."""

    key: str
    start: int
    value: int
    end: int


def members(text: bytes, at: int = 0) -> list[Member]:
    """The fields of the JSON object that begins at `at`, in their order, doubled ones included."""
    found: list[Member] = []
    at = text.index(b"{", at) + 1
    while (key := _KEY.match(text, at)) is not None:
        start, value = key.start(1), key.end()
        at = _end_of_value(text, value)
        name = key[1]
        found.append(Member(orjson.loads(name) if b"\\" in name else name[1:-1].decode(), start, value, at))
    return found


def elements(text: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Where the elements of the JSON array that begins at `at` begin and end."""
    at = text.index(b"[", at) + 1
    while True:
        start = _BETWEEN.match(text, at).end()  # type: ignore[union-attr] # it matches nothing too
        if text[start] == ord("]"):
            return
        at = _end_of_value(text, start)
        yield start, at


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
    if text[at] == _QUOTE:
        return _end_of_string(text, at)
    if text[at] not in b"{[":
        plain = _PLAIN.match(text, at)
        assert plain is not None, "the text was valid JSON"
        return plain.end()
    depth = 0
    while (found := _STRINGS_AND_BRACKETS.search(text, at)) is not None:
        start, at = found.span()
        first = text[start]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
            if depth == 0:
                return at
        elif at == start + 1:
            at = _end_of_string(text, start)
    raise AssertionError("the text was valid JSON")


def _end_of_string(text: bytes, at: int) -> int:
    """Megabytes of base64 are passed over at the speed of memory; an expression takes 5 ns a byte."""
    end = text.index(b'"', at + 1)
    if text[end - 1] != _BACKSLASH:
        return end + 1
    whole = _STRING.match(text, at)
    assert whole is not None, "the text was valid JSON"
    return whole.end()
