"""JSON in three ways: read as services send it, checked as users write it, and edited without being written again.

`read_json` reads responses. What orjson refuses has an *escaped copy* (`escaped_copy`), which takes a few times as long:
`reading_in_steps` lets others have their turn meanwhile. Beyond MAX_LENIENT bytes it is `NOT_READ`.

`read_refused` reads an input line that orjson refused: it has a `Fault`, or is valid JSON that orjson cannot represent.

`edited` sets and drops fields of a body between the bytes as they are: parsed and written again, a number of forty
digits would become a float, `1.0` perhaps `1`. It, `members`, `elements` and `values` expect valid JSON and find their
way by strings and brackets alone: no depth is too deep, no number too long.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import isinf
from typing import Any, NamedTuple

import orjson

from batchrun.core.text.escaped_copy import Steps, at_once, escaped_copy
from batchrun.core.text.readable import visible

MAX_LENIENT = 8 << 20
"""Bytes of a response that are read although orjson refuses them."""
MAX_STEPS = 250_000
"""Values of a result among which files are looked for."""
MAX_INPUT_DEPTH = 1_024  # orjson's own
_TOO_DEEP = f"nested deeper than {MAX_INPUT_DEPTH:,} levels"
# A string without its end is taken to the end of the text: tried again at each quote in it, a text cut off
# within a string full of escaped quotes would take quadratic time.
_TOKENS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class ParsedJson:
    """A JSON value and the bytes that may stand for it in a record, on one line."""

    value: Any
    text: bytes
    strict: bool


NOT_READ = ParsedJson(None, b"", strict=False)
"""What stands for a response that orjson refuses and that has not been read in another way: it is too long for that."""


def read_json(raw: bytes) -> ParsedJson | None:
    """The value of `raw`; None if it is not JSON in any understandable form, or NOT_READ."""
    try:
        return strict_json(orjson.loads(raw), raw)
    except orjson.JSONDecodeError:
        return read_refused_response(raw)


def read_refused_response(raw: bytes) -> ParsedJson | None:
    """What `read_json` returns where orjson refused `raw`."""
    return at_once(_in_steps(raw))


def reading_in_steps(raw: bytes) -> Steps[ParsedJson | None]:
    """What `read_json` returns, in steps of which none takes longer than orjson does for valid JSON of that size."""
    try:
        return strict_json(orjson.loads(raw), raw)
    except orjson.JSONDecodeError:
        return (yield from _in_steps(raw))


def _in_steps(raw: bytes) -> Steps[ParsedJson | None]:
    if len(raw) > MAX_LENIENT:
        return NOT_READ
    yield
    copy = yield from escaped_copy(raw)
    return None if copy is None else ParsedJson(copy.value, on_one_line(copy.text), strict=False)


def strict_json(value: Any, raw: bytes) -> ParsedJson:
    """What `read_json` returns where orjson read `value` in `raw`."""
    return ParsedJson(value, on_one_line(raw), strict=True)


def on_one_line(raw: bytes) -> bytes:
    """Valid JSON without line breaks: outside of strings they are white space, inside they cannot be."""
    return raw.translate(None, b"\r\n").strip() if b"\n" in raw or b"\r" in raw else raw.strip()


def has_many_parts(raw: bytes) -> bool:
    """Whether `raw` may have more than MAX_STEPS values: each follows a comma, or the bracket or key that it is first in.

    Megabytes of base64 are passed over at the speed of memory.
    """
    left = MAX_STEPS
    for mark in (b",", b"[", b"{"):
        at = raw.find(mark)
        while at >= 0:
            left -= 1
            if left < 0:
                return True
            at = raw.find(mark, at + 1)
    return False


def _brackets(text: str) -> Iterator[tuple[int, int]]:
    """(position, depth) of each bracket outside of strings: positive where it opens that depth, negative where it ends."""
    depth = 0
    for token in _TOKENS.finditer(text):
        position = token.start()
        bracket = text[position]
        if bracket in "[{":
            depth += 1
            yield position, depth
        elif bracket in "]}":
            yield position, -depth
            depth -= 1


# --- lines of the input that orjson refuses ---


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a line is not JSON: a code of the taxonomy, and a message."""

    code: str
    message: str


class _NotANumber(ValueError):
    """A constant or a number that is not in JSON, or beyond a double."""


def read_refused(line: bytes) -> Any:
    """The value of `line`, which orjson refused, or its `Fault`. Numbers beyond a double become text: compare, do not send.

    orjson's refusals do not distinguish a wrong encoding from a wrong comma, and it refuses integers beyond a double,
    which are valid JSON and are sent as they are written. Two passes, so that the time stays linear on a hostile line.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        byte = line[error.start]
        return Fault("invalid_utf8", f"byte {error.start + 1:,} is 0x{byte:02x}, which is not UTF-8: save it as UTF-8")
    if any(depth > MAX_INPUT_DEPTH for _, depth in _brackets(text)):
        return Fault("invalid_json", _TOO_DEEP)
    try:
        value = _STRICT.decode(text)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        return Fault("invalid_json", _TOO_DEEP)
    except UnicodeEncodeError as error:
        lone = visible(error.object[error.start : error.start + 1])
        return Fault("invalid_unicode", f"a string holds {lone}, half of a surrogate pair: no service accepts that")
    except json.JSONDecodeError as error:
        return Fault("invalid_json", _syntax_error(error, text))
    except _NotANumber as error:
        return Fault("invalid_json", str(error))
    return value


def duplicate_keys(line: bytes) -> list[str]:
    """The names that occur twice in one object anywhere in `line`, which is valid JSON; sorted."""
    found: set[str] = set()

    def pairs(items: list[tuple[str, Any]]) -> None:
        if len({name for name, _ in items}) != len(items):
            found.update(name for name, times in Counter(name for name, _ in items).items() if times > 1)

    try:
        json.JSONDecoder(object_pairs_hook=pairs, parse_int=str, parse_float=str).decode(line.decode())
    except RecursionError:
        return []
    return sorted(found)


def _syntax_error(error: json.JSONDecodeError, text: str) -> str:
    if error.msg == "Extra data":
        rest = visible(text[error.pos : error.pos + 21], 20)
        return f"expected the end of the line at column {error.colno:,}, got {rest!r}: one object per line"
    actual = text[error.pos : error.pos + 21]
    shown = repr(visible(actual, 20)) if actual.strip() else "the end of the line"
    expected = error.msg[0].lower() + error.msg[1:].removesuffix(" at")
    return f"{expected} at column {error.colno:,}, got {shown}"


def _refuse_constant(name: str) -> Any:
    raise _NotANumber(f"{name} is not JSON: write null, or a number")


def _double(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise _NotANumber(f"{visible(digits, 40)} does not fit a double: write a smaller number")
    return number


def _int_or_double(digits: str) -> int | float | str:
    if len(digits) < 19:
        return int(digits)
    return float(digits) if len(digits) < 308 else digits


_STRICT = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_double, parse_int=_int_or_double)


# --- editing ---

_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_STRING = re.compile(_TEXT, re.DOTALL)
_KEY = re.compile(rb"[\s,]*(" + _TEXT + rb")\s*:\s*", re.DOTALL)
_PLAIN = re.compile(rb'[^\s,\]}\[{"]++')
_BETWEEN = re.compile(rb"[\s,]*+")
# A short string as a whole, of a longer one the quote: `_end_of_string` is faster than an expression.
_BYTE_TOKENS = re.compile(rb'"[^"\\]{0,200}+"|["\[{\]}]')
_QUOTE, _BACKSLASH = b'"\\'


class Member(NamedTuple):
    """A field of an object: `text[start:end]` is `"key": value`, `text[value:end]` the value alone."""

    key: str
    start: int
    value: int
    end: int


def members(text: bytes, at: int = 0) -> list[Member]:
    """The fields of the JSON object that begins at `at`, in their order, duplicates included."""
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
    """The fields `names` of the JSON object `text` as they are written; of duplicates the last."""
    return {one.key: text[one.value : one.end] for one in members(text) if one.key in names}


def edited(text: bytes, put: Mapping[str, bytes], drop: Collection[str], present: Collection[str]) -> bytes:
    """The JSON object `text` with the fields of `put` set and those of `drop` gone.

    `present` holds the names of the object's fields. A field that exists is set in its place, a new one in front.
    Where no existing field changes, every byte of `text` is kept.
    """
    fresh = [orjson.dumps(name) + b":" + value for name, value in put.items() if name not in present]
    if len(fresh) == len(put) and not any(name in present for name in drop):
        if not fresh:
            return text
        head = text.index(b"{") + 1
        comma = b"," if present else b""
        return text[:head] + b",".join(fresh) + comma + text[head:]
    kept = []
    present_members = members(text)
    last = {one.key: one for one in present_members}
    for one in present_members:
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
    while (found := _BYTE_TOKENS.search(text, at)) is not None:
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
    """Megabytes of base64 are skipped at the speed of memory; an expression takes 5 ns per byte."""
    end = text.index(b'"', at + 1)
    if text[end - 1] != _BACKSLASH:
        return end + 1
    whole = _STRING.match(text, at)
    assert whole is not None, "the text was valid JSON"
    return whole.end()
