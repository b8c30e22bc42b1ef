import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.text.escaped_copy import MAX_DEPTH
from batchrun.core.text.json_text import read_json
from tests.cost import costs_at_most

DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("raw", "value", "copy"),
    [
        (b'{"a": "\\ud800x"}', {"a": "\\ud800x"}, b'{"a": "\\\\ud800x"}'),
        (b'{"a": NaN, "b": -Infinity}', {"a": "NaN", "b": "-Infinity"}, None),
        (b'{"a": 1e999}', {"a": "1e999"}, None),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}, b'{"a": 1}'),
        ('{"a": "é"}'.encode("utf-16"), {"a": "é"}, None),
        (b'{"a": "line\nbreak"}', {"a": "line\nbreak"}, b'{"a": "line\\nbreak"}'),
        (b'{"a": ' + b"7" * 5000 + b"}", {"a": "7" * 5000}, None),
        (b'{"a": ' + b"7" * 400 + b"}", {"a": "7" * 400}, b'{"a": ' + b"7" * 400 + b"}"),
        (b'{"a": "\xed\xa0\x80"}', {"a": "\\ud800"}, None),
    ],
)
def test_what_orjson_refuses_is_read(raw, value, copy):
    reading = read_json(raw)
    assert not reading.strict
    assert reading.value == value
    if copy is not None:
        assert reading.text == copy
    if b"7777" not in raw:
        assert orjson.loads(reading.text) == value


@pytest.mark.parametrize("raw", [b"", b"{", b"nonsense", b"<html>", b"\xff\xfe\x00", b"\x80", b"[1,]", b"[" * 100_000])
def test_what_is_not_json_is_none(raw):
    assert read_json(raw) is None


def test_depth_is_folded_into_text_and_nothing_is_lost():
    raw = b'{"status": "completed", "deep": ' + DEEP + b', "id": "x"}'
    assert costs_at_most(10, lambda: read_json(raw))
    reading = read_json(raw)
    assert (reading.value["status"], reading.value["id"], reading.strict) == ("completed", "x", False)
    levels, folded = 1, reading.value["deep"]
    while isinstance(folded, list):
        levels, folded = levels + 1, folded[0]
    assert levels == MAX_DEPTH
    assert b"[" * (MAX_DEPTH - 1) + folded.encode() + b"]" * (MAX_DEPTH - 1) == DEEP
    assert orjson.loads(reading.text) == reading.value


@pytest.mark.parametrize("depth", [50, 101, 500, 900, 990, 1000, 1023, 1024, 1100])
def test_any_depth_next_to_something_lax(depth):
    reading = read_json(b'{"a": NaN, "b": ' + b"[" * depth + b"]" * depth + b"}")
    assert reading.value["a"] == "NaN"
    json.loads(reading.text)


def test_an_endless_string_below_great_depth_takes_linear_time():
    raw = b"[" * 3_000 + b'"' + b'\\"' * 300_000
    assert read_json(raw) is None
    assert costs_at_most(10, lambda: read_json(raw))


@pytest.mark.timeout(300)
def test_a_million_keys_take_no_longer_than_the_standard_library():
    raw = b'{"status":"completed",' + b",".join(b'"k%d":%d' % (i, i) for i in range(1_000_000)) + b"}"
    assert len(read_json(raw).value) == 1_000_001
    assert costs_at_most(1.5, lambda: read_json(raw), lambda: json.loads(raw))


def test_strict_json_is_kept_byte_for_byte_but_for_line_breaks():
    pretty = b'\r\n{\n  "n": 123456789012345678901234567890,\n  "x": "a\\nb"\n}\n'
    reading = read_json(pretty)
    assert reading.strict
    assert reading.text == b'{  "n": 123456789012345678901234567890,  "x": "a\\nb"}'


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_reading_or_none(raw):
    reading = read_json(raw)
    if reading is not None:
        assert b"\n" not in reading.text
        assert b"\r" not in reading.text
        json.loads(reading.text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=4),
)


@given(JSON, st.sampled_from([None, 2]))
def test_what_python_writes_is_read_and_its_copy_is_strict(value, indent):
    reading = read_json(json.dumps(value, indent=indent).encode())
    assert b"\n" not in reading.text
    json.loads(reading.text, parse_constant=pytest.fail)
