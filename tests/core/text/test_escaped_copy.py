"""p17: what the standard library's parser reads is read, and its copy says the same to every strict parser."""

import json
import re
from math import isinf

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchrun.core.text.escaped_copy import at_once, escaped_copy

SURROGATE = re.compile("[\ud800-\udfff]")


def number(digits):
    return digits if isinf(float(digits)) else float(digits)


TOLERANT = json.JSONDecoder(
    strict=False, parse_constant=str, parse_float=number, parse_int=lambda digits: digits if len(digits) > 4_000 else int(digits)
)  # fmt: skip


def escaped(value):
    if isinstance(value, str):
        return SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", value)
    if isinstance(value, list):
        return [escaped(item) for item in value]
    return {escaped(name): escaped(item) for name, item in value.items()} if isinstance(value, dict) else value


def by_the_standard_library(raw):
    """The value of `raw` as the copy should have it; None if it is not JSON."""
    try:
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            text = raw.decode("utf-16")
        else:
            text = raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogatepass")
        return escaped(TOLERANT.decode(text.strip(" \t\r\n\v\f")))
    except ValueError:
        return None


def exactly(value):
    """So that 1 is not 1.0, and no number is lost."""
    return json.dumps(value, allow_nan=False)


def agree(raw):
    expected, copy = by_the_standard_library(raw), at_once(escaped_copy(raw))
    if expected is None:
        assert copy is None or copy.value is None
        return
    assert copy is not None
    assert exactly(json.loads(copy.text, parse_constant=pytest.fail)) == exactly(expected)
    try:
        assert copy.value == orjson.loads(copy.text)
    except orjson.JSONDecodeError:  # of an integer beyond a double, which stays in the text
        assert re.search(rb"[0-9]{309}", copy.text)


BITS = r"a é 한 😀 NaN -Infinity 1e999 [ { , : / \\ \" \n \u0041 \ud83d \ude00 \uD800 \uDFFF \u \x".split()
BITS += ["", " ", "\n", "\t\r", "\x00\x1f", "\ud800", "\udfff", "\x7f", "]", "}", "0" * 309]
STRINGS = st.lists(st.sampled_from(BITS), max_size=5).map(lambda bits: f'"{"".join(bits)}"')
NUMBERS = [
    "0",
    "-0",
    "1.10",
    "2E3",
    "-1e999",
    "1e308",
    "1e309",
    "1e-999",
    "12345678901234567890",
    "0.1e0400",
    "-" + "7" * 400,
]
NUMBERS += [
    "1" + "0" * 307,
    "1" + "0" * 309,
    "9" * 309,
    "9" * 309 + ".5",
    "8" * 201,
    "1" * 200 + "e150",
    "6" * 4_001,
    "0e999",
]
WRONG = [
    "01e999",
    "1.e999",
    "--Infinity",
    "-NaN",
    "NaN1",
    "nan",
    "1e",
    "-",
    "+1",
    ".5",
    "tru",
    "NaNNaN",
    "1e999.5",
    "",
    '"',
]
ATOMS = STRINGS | st.sampled_from([*NUMBERS, "NaN", "Infinity", "-Infinity", "true", "false", "null"])
SPACE = st.sampled_from(["", " ", "\n", " \r\n\t"])


def spaced(text):
    return st.tuples(SPACE, text, SPACE).map("".join)


def joined(texts, brackets):
    return texts.map(lambda each: brackets[0] + ",".join(each) + brackets[1])


NAMES = STRINGS | st.sampled_from(['"a"', '"b"'])
LAX = st.recursive(
    spaced(ATOMS),
    lambda inner: spaced(
        joined(st.lists(inner, max_size=4), "[]")
        | joined(st.lists(st.tuples(spaced(NAMES), inner).map(":".join), max_size=3), "{}")
    ),
    max_leaves=8,
)
EDITS = st.tuples(
    st.integers(0, 300), st.integers(0, 3), st.sampled_from([*WRONG, *NUMBERS, *BITS, "NaN:", "\x0b", "\u3000"])
)


@given(LAX, st.none() | EDITS, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
@example('{"a":"\\\\ud83d\\ude00\\\\\\"NaN\\ud83d\\ud83d\\ude00"}', None, "utf-8")
@example("{NaN:1}", None, "utf-8")
@example('{1e999 :1,"a":01e999}', None, "utf-8")
@example('"\\\n"', None, "utf-8")
@example('"\\\ud800"', None, "utf-8")
@example('"\\ud83d\udc00\ud83d\\udc00"', None, "utf-8")
@example("\v NaN\f", None, "utf-8")
@example("null", None, "utf-8")
def test_it_says_what_the_standard_library_reads(text, edit, encoding):
    if edit is not None:
        at, dropped, new = edit
        text = text[:at] + new + text[at + dropped :]
    agree(text.encode(encoding, "surrogatepass"))


@given(st.binary(max_size=50) | st.lists(st.sampled_from([*b'"\\u\xed\xa0\xff\xfe\xfd[]{}:,N1e-'])).map(bytes))
def test_so_it_does_of_any_bytes(raw):
    agree(raw)
