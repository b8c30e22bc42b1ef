"""A response that orjson refuses, as JSON that every strict parser accepts: its *escaped copy*.

A paid result is never thrown away for its form. What the standard library's parser reads is kept, and a little more:

- UTF-16, or UTF-8 with a byte order mark, becomes UTF-8 without
- a lone surrogate becomes the six characters of its escape, ``\\ud800``
- a control character in a string becomes its escape
- NaN, Infinity and numbers beyond a double become strings of their own text; integers of up to 4,000 digits stay
- where the whole is nested too deep, an object or list below 100 levels becomes a string of its own JSON text

All other bytes stay, and orjson reads the result: whatever else is wrong is for it to refuse. The work is done in steps,
between which others get their turn; none takes longer than orjson takes for valid JSON of that size.

Meanwhile the text is *marked*: its escaped backslashes and quotes are bytes that UTF-8 cannot contain. So a quote is
where a string begins or ends, and a backslash where another escape begins, whatever stands before it.

Declined: the standard library's parser. It takes up to a hundred times as long as orjson and cannot be interrupted, not
even in a thread, since it never releases the interpreter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from math import isinf
from typing import Any, NamedTuple, TypeVar

import orjson

MAX_DEPTH = 100
"""Levels of objects and lists that stay where a text is nested too deep."""
_MAX_DIGITS = 4_000  # Python refuses to convert more than 4,300
_WORK = 64  # matches in one step, or KiB
# Of an escaped backslash, and quote; the third stands on both sides of an integer beyond a double.
_BACKSLASH, _QUOTE, _LARGE = b"\xff\xff", b"\xfe\xfe", b"\xfd"

# What stays as it is: as much of it as takes some ten microseconds, or more at the speed of memory.
_NO_CONTROLS = re.compile(rb"[^\x00-\x1f]{0,4000}+")
_NO_RAW_SURROGATES = re.compile(rb"(?:[^\xed]++|\xed[^\xa0-\xbf]){0,200}+")
_PLAIN_ESCAPES = re.compile(
    rb"(?:[^\\]++|\\[bfnrt/]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}){0,200}+"
)
_PLAIN_TOKENS = re.compile(
    rb'(?:[^"NI0-9-]++|"[^"]*+"'
    rb"|-?[0-9]{1,200}+(?:\.[0-9]++)?+(?:[eE](?:-[0-9]++|\+?[0-9]{1,2}+))?+(?![0-9.eE+-])){0,200}+"
)
_NO_BRACKETS = re.compile(rb'(?:[^"\[\]{}]++|"[^"]*+"){0,200}+')
# What follows it there.
_CONTROLS = re.compile(rb"[\x00-\x1f]{1,100}+")
_RAW_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_CONSTANT = re.compile(rb"NaN|-?Infinity")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*+)(\.[0-9]++)?+([eE][-+]?[0-9]++)?+")
_BRACKETS = re.compile(rb"([\[{]++)|[\]}]++")

_COLON = re.compile(rb"[ \t\r\n]*+:")
_ALL_CONTROLS = bytes(range(0x20))
_SHORT_ESCAPES = {8: rb"\b", 9: rb"\t", 10: rb"\n", 12: rb"\f", 13: rb"\r"}
_ESCAPES = [_SHORT_ESCAPES.get(code, b"\\u%04x" % code) for code in _ALL_CONTROLS]

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work that pauses between its steps, and its result."""


class EscapedCopy(NamedTuple):
    """A value and its JSON. In the value, integers beyond a double are strings of their digits."""

    value: Any
    text: bytes


def at_once(steps: Steps[T]) -> T:
    """The result of `steps`, without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def escaped_copy(raw: bytes) -> Steps[EscapedCopy | None]:
    """The escaped copy of `raw`; None if it is not JSON in any understandable form."""
    text = _in_utf8(raw)
    if text is None or b"\xff" in text or b"\xfe" in text or b"\xfd" in text:
        return None
    yield
    text = text.replace(b"\\\\", _BACKSLASH)
    yield
    text = text.replace(b'\\"', _QUOTE)
    copy = yield from _strict(text)
    if copy is not None and (yield from _is_shallow(copy)):
        return copy
    yield
    folded = yield from _folded(text)
    return None if folded is None else (yield from _strict(folded))


def _in_utf8(raw: bytes) -> bytes | None:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return raw.decode("utf-16").encode().strip()
        except UnicodeDecodeError:
            return None
    return raw.removeprefix(b"\xef\xbb\xbf").strip()


def _strict(marked: bytes) -> Steps[EscapedCopy | None]:
    """What orjson reads in a marked text, once all is replaced that it refuses, but for depth."""
    text: bytes | None = marked
    yield
    if len(marked.translate(None, _ALL_CONTROLS)) < len(marked):
        text = yield from _replaced(marked, _NO_CONTROLS, _escaped_controls())
    yield
    if text is not None and b"\xed" in text:
        text = yield from _replaced(text, _NO_RAW_SURROGATES, _escaped_raw_surrogate)
    if text is not None and b"\\" in text:
        text = yield from _replaced(text, _PLAIN_ESCAPES, _escaped_surrogate)
    if text is not None:
        text = yield from _replaced(text, _PLAIN_TOKENS, _strict_token)
    if text is None:
        return None
    yield
    text = text.replace(_BACKSLASH, rb"\\")
    yield
    text = text.replace(_QUOTE, rb"\"")
    yield
    try:
        value = orjson.loads(text.replace(_LARGE, b'"'))
    except orjson.JSONDecodeError:
        return None
    yield
    return EscapedCopy(value, text.replace(_LARGE, b""))


# --- One pass over a marked text ---

# The end of what is replaced, and what is there instead; None where the whole is not JSON.
Replacement = Callable[[bytes, int], tuple[int, bytes] | None]


def _replaced(text: bytes, stays: re.Pattern[bytes], replacement: Replacement) -> Steps[bytes | None]:
    """`text` with a replacement for what `stays` does not match."""
    pieces: list[bytes] = []
    at = copied = work = 0
    while at < len(text):
        end = stays.match(text, at).end()  # type: ignore[union-attr] # it matches nothing too
        work += 1 + (end - at >> 10)
        if end == at:
            found = replacement(text, at)
            if found is None:
                return None
            end, new = found
            pieces += (text[copied:at], new)
            copied = end
        at = end
        if work >= _WORK:
            work = 0
            yield
    return b"".join((*pieces, text[copied:])) if pieces else text


def _escaped_controls() -> Replacement:
    """Escapes control characters in strings: those outside are white space, or for orjson to refuse."""
    inside, seen = False, 0

    def escaped(text: bytes, at: int) -> tuple[int, bytes] | None:
        nonlocal inside, seen
        inside ^= text.count(b'"', seen, at) % 2 == 1
        seen = at
        controls = _CONTROLS.match(text, at)
        assert controls is not None, "it is not among what stays"
        return controls.end(), b"".join(map(_ESCAPES.__getitem__, controls[0])) if inside else controls[0]

    return escaped


def _escaped_raw_surrogate(text: bytes, at: int) -> tuple[int, bytes] | None:
    if (found := _RAW_SURROGATE.match(text, at)) is None:
        return None
    _, second, third = found[0]
    return found.end(), _BACKSLASH + b"u%04x" % (0xD000 | (second & 0x3F) << 6 | third & 0x3F)


def _escaped_surrogate(text: bytes, at: int) -> tuple[int, bytes] | None:
    if (found := _LONE_SURROGATE.match(text, at)) is None:
        return None
    return found.end(), _BACKSLASH + found[0][1:].lower()


def _strict_token(text: bytes, at: int) -> tuple[int, bytes] | None:
    """A constant or a number beyond a double as a string, and another number as it is; None for anything else."""
    if (found := _CONSTANT.match(text, at)) is not None:
        new = b'"' + found[0] + b'"'
    elif (found := _NUMBER.match(text, at)) is None:
        return None
    elif not isinf(float(found[0])):
        return found.end(), found[0]
    elif found[1] is None and found[2] is None and len(found[0]) <= _MAX_DIGITS:
        new = _LARGE + found[0] + _LARGE
    else:
        new = b'"' + found[0] + b'"'
    if _COLON.match(text, found.end()) is not None:
        return None  # as a string it would be a name
    return found.end(), new


# --- Depth ---


def _is_shallow(copy: EscapedCopy) -> Steps[bool]:
    """Whether every parser can read it: orjson itself reads 1,024 levels, and writes 254."""
    yield
    if _has_few_brackets(copy.text):
        return True
    yield
    try:
        orjson.dumps(copy.value)
    except orjson.JSONEncodeError:
        return False
    return True


def _has_few_brackets(text: bytes) -> bool:
    return text.count(b"[") + text.count(b"{") <= MAX_DEPTH


def _folded(marked: bytes) -> Steps[bytes | None]:
    """The text with every object or list below MAX_DEPTH as a string of its own text; None where there is none."""
    if _has_few_brackets(marked):
        return None
    pieces: list[bytes] = []
    at = copied = start = depth = work = 0
    while at < len(marked):
        end = _NO_BRACKETS.match(marked, at).end()  # type: ignore[union-attr] # it matches nothing too
        work += 1 + (end - at >> 10)
        if end == at:
            brackets = _BRACKETS.match(marked, at)
            if brackets is None:
                return None  # a string without its end
            end = brackets.end()
            if brackets[1] is not None:
                if depth <= MAX_DEPTH < depth + end - at:
                    start = at + MAX_DEPTH - depth
                depth += end - at
            else:
                if depth - (end - at) <= MAX_DEPTH < depth:
                    stop = at + depth - MAX_DEPTH
                    work += stop - start >> 10
                    pieces += (marked[copied:start], _as_string(marked[start:stop]))
                    copied = stop
                depth -= end - at
        at = end
        if work >= _WORK:
            work = 0
            yield
    if depth != 0 or not pieces:
        return None
    return b"".join((*pieces, marked[copied:]))


def _as_string(marked: bytes) -> bytes:
    text = marked.replace(_BACKSLASH, rb"\\").replace(_QUOTE, rb"\"")
    return b'"' + text.replace(b"\\", _BACKSLASH).replace(b'"', _QUOTE) + b'"'
