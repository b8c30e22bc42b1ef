"""JSON as services really send it, read without ever failing on what can be understood.

A paid result is never thrown away for its form. orjson reads nearly everything, and fast; what it
refuses (a byte order mark, lone surrogates, NaN and Infinity, numbers beyond double precision, great
depth) is read by the standard library's parser instead, and a record then carries an *escaped copy*
that every strict parser accepts:

- a lone surrogate becomes the six characters of its escape, ``\\ud800``
- NaN, Infinity and numbers beyond a double become strings of their own text
- an object or list nested deeper than 100 levels becomes a string of its own JSON text

Declined: a parser of our own. The standard library's is in C, tolerant, and exact for integers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import orjson

MAX_DEPTH = 100
_MAX_DIGITS = 4_000  # Python refuses to convert more than 4,300
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# A string may also end where the text does: else each of its quotes would be tried as the next beginning.
_STRINGS_AND_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class ParsedJson:
    """A JSON value and the bytes that may stand for it in a record, on one line."""

    value: Any
    text: bytes
    strict: bool


def read_json(raw: bytes) -> ParsedJson | None:
    """The value of `raw`, or None if it is not JSON in any understandable form."""
    try:
        return ParsedJson(orjson.loads(raw), on_one_line(raw), strict=True)
    except orjson.JSONDecodeError:
        return _read_lenient(raw)


def on_one_line(raw: bytes) -> bytes:
    """Valid JSON without line breaks: outside of strings they are white space, inside they cannot be."""
    return raw.translate(None, b"\r\n").strip() if b"\n" in raw or b"\r" in raw else raw.strip()


def _read_lenient(raw: bytes) -> ParsedJson | None:
    try:
        text = _decode(raw)
        try:
            return _read_text(text)
        except RecursionError:
            return _read_text(_flattened(text))
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return None


def _read_text(text: str) -> ParsedJson:
    value = _escaped(_DECODER.decode(text))
    return ParsedJson(value, json.dumps(value, ensure_ascii=False, allow_nan=False).encode(), strict=False)


def _decode(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16")
    return raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogatepass").strip()


def _int(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


def _float(digits: str) -> float | str:
    number = float(digits)
    return digits if number in (float("inf"), float("-inf")) else number


_DECODER = json.JSONDecoder(strict=False, parse_constant=str, parse_float=_float, parse_int=_int)


def _flattened(text: str) -> str:
    """`text` with every object or list below MAX_DEPTH replaced by a string of its own text.

    One pass over strings and brackets; linear in the length, whatever the depth.
    """
    kept: list[str] = []
    depth = start = copied = 0
    for found in _STRINGS_AND_BRACKETS.finditer(text):
        bracket = found.group()
        if bracket in "[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                start = found.start()
        elif bracket in "]}":
            depth -= 1
            if depth == MAX_DEPTH:
                kept += (text[copied:start], json.dumps(text[start : found.end()]))
                copied = found.end()
    kept.append(text[copied:])
    return "".join(kept)


def _escaped(value: Any) -> Any:
    match value:
        case str():
            return _LONE_SURROGATE.sub(lambda found: f"\\u{ord(found.group()):04x}", value)
        case list():
            return [_escaped(item) for item in value]
        case dict():
            return {_escaped(key): _escaped(item) for key, item in value.items()}
        case _:
            return value
