"""A line that orjson refuses: what is wrong with it, or that nothing is.

orjson is quick and strict, but its refusals do not tell a wrong encoding from a wrong comma, and it
refuses integers beyond a double, which are valid JSON and travel as they are written. The standard
library's parser has the last word. Only refused lines come here, so this may take its time; but a
hostile line must not take for ever: one pass for the depth, one for the parse.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from batchrun.core.text.printable import visible

MAX_DEPTH = 1_024  # orjson's own
# A string without its end is taken to the end of the text: tried again at each quote in it, a line cut off
# within a text full of escaped quotes would take quadratic time.
_STRINGS_AND_BRACKETS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)
_TOO_DEEP = f"nested deeper than {MAX_DEPTH:,} levels"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a line is not JSON: a word of the taxonomy, and the story."""

    code: str
    message: str


class _NotANumber(ValueError):
    """A constant or a number that JSON, or a double, does not know."""


def read_odd(line: bytes) -> Any:
    """The value of `line`, or the `Fault` that it has. Numbers beyond a double become text: compare, do not send."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        byte = line[error.start]
        return Fault("invalid_utf8", f"byte {error.start + 1:,} is 0x{byte:02x}, which is no UTF-8: save it as UTF-8")
    if _too_deep(text):
        return Fault("invalid_json", _TOO_DEEP)
    try:
        value = _DECODER.decode(text)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        return Fault("invalid_json", _TOO_DEEP)
    except UnicodeEncodeError as error:
        lone = visible(error.object[error.start : error.start + 1])
        return Fault("invalid_unicode", f"a string holds {lone}, half of a surrogate pair: no service reads that")
    except json.JSONDecodeError as error:
        return Fault("invalid_json", _story(error, text))
    except _NotANumber as error:
        return Fault("invalid_json", str(error))
    return value


def duplicate_keys(line: bytes) -> list[str]:
    """The names that stand twice in one object anywhere in `line`, which is valid JSON; sorted."""
    found: set[str] = set()

    def pairs(items: list[tuple[str, Any]]) -> None:
        if len({name for name, _ in items}) != len(items):
            found.update(name for name, times in Counter(name for name, _ in items).items() if times > 1)

    try:
        json.JSONDecoder(object_pairs_hook=pairs, parse_int=str, parse_float=str).decode(line.decode())
    except RecursionError:
        return []
    return sorted(found)


def _too_deep(text: str) -> bool:
    depth = 0
    for found in _STRINGS_AND_BRACKETS.finditer(text):
        bracket = text[found.start()]
        if bracket in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif bracket in "]}":
            depth -= 1
    return False


def _story(error: json.JSONDecodeError, text: str) -> str:
    if error.msg == "Extra data":
        rest = visible(text[error.pos : error.pos + 21], 20)
        return f"expected the end of the line at column {error.colno:,}, came {rest!r}: one object a line"
    came = text[error.pos : error.pos + 21]
    shown = repr(visible(came, 20)) if came.strip() else "the end of the line"
    said = error.msg[0].lower() + error.msg[1:].removesuffix(" at")
    return f"{said} at column {error.colno:,}, came {shown}"


def _constant(name: str) -> Any:
    raise _NotANumber(f"{name} is no JSON: write null, or a number")


def _float(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise _NotANumber(f"{visible(digits, 40)} is beyond a double: write a smaller number")
    return number


def _int(digits: str) -> int | float | str:
    if len(digits) < 19:
        return int(digits)
    return float(digits) if len(digits) < 308 else digits


_DECODER = json.JSONDecoder(parse_constant=_constant, parse_float=_float, parse_int=_int)
