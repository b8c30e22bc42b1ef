"""Where files stand in an answer, what they are called, and that every other byte stays as it came."""

import json
import re
from base64 import b64encode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.records.artifact_names import left_behind, row_name, unfinished
from batchrun.core.records.artifacts import Artifact, base64_of, find, referring
from batchrun.core.text.json_text import elements, members, read_json
from tests.cost import costs_at_most

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
IMAGE = {"type": "image_generation_call", "status": "completed", "result": b64encode(PNG).decode()}


def texts(body):
    return [bytes(base64_of(body, one.start, one.end)) for one in find(body, "row")[0]]


def replaced(body, names=None):
    found, _ = find(body, "row")
    return referring(body, [(one, Artifact("f/" + one.name, one.media_type, 7, "0" * 64, one.at)) for one in found])


@pytest.mark.parametrize(
    ("head", "media_type", "suffix"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png", ".png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg", ".jpg"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp", ".webp"),
        (b"GIF87a", "image/gif", ".gif"),
        (b"GIF89a", "image/gif", ".gif"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "application/octet-stream", ".bin"),
        (b"%PDF-1.7", "application/octet-stream", ".bin"),
        (b"x", "application/octet-stream", ".bin"),
    ],
)
def test_the_first_bytes_tell_the_kind(head, media_type, suffix):
    body = orjson.dumps({"data": [{"b64_json": b64encode(head).decode()}]})
    ((one,), unreadable) = find(body, "row")
    assert (one.media_type, one.name, unreadable) == (media_type, f"row-0{suffix}", False)


def test_only_the_strings_are_replaced_and_every_other_byte_stays():
    text = b64encode(PNG)
    body = (
        b' {"n" : 123456789012345678901234567890, "a":1.10,\t"output" :[ 7,"x", {"type":"message","result":"Zm9v"},'
        b'{"result": "%b" , "type" : "image_generation_call"},{"type":"image_generation_call","result":null}],'
        b'"data":[{"b64_json":"%b","revised_prompt":"\\u00e9 \\"[{"},{"b64_json":""},{"url":"b64_json"}],"z":"]}"}'
    ) % (text, text)
    found, unreadable = find(body, "row")
    assert [one.at for one in found] == ["output[3].result", "data[0].b64_json"]
    assert [one.name for one in found] == ["row-0.png", "row-1.png"]
    assert not unreadable
    told = {"media_type": "image/png", "size": 7, "sha256": "0" * 64}
    expected = body
    for index in range(2):
        shown = orjson.dumps({"file": f"f/row-{index}.png", **told})
        expected = expected.replace(b'"%b"' % text, shown, 1)
    assert replaced(body) == expected
    assert json.loads(expected)["output"][3]["result"]["file"] == "f/row-0.png"


@pytest.mark.parametrize(
    "escaped",
    [
        lambda text: text.replace("/", "\\/"),
        lambda text: text.replace("+", "\\u002B").replace("/", "\\u002F"),
        lambda text: "\\n".join(text[start : start + 76] for start in range(0, len(text), 76)),
        lambda text: "\\u0020" + text + " \\r\\n",
    ],
)
def test_base64_that_is_escaped_or_broken_into_lines_is_read(escaped):
    data = b"\x89PNG\r\n\x1a\n" + b"\xff\xef\xbf\xfb" * 100
    body = b'{"data": [{"b64_json": "' + escaped(b64encode(data).decode()).encode() + b'"}, {"more": 1}]}'
    assert texts(body) == [b64encode(data)]
    assert json.loads(replaced(body))["data"] == [
        {"b64_json": {"file": "f/row-0.png", "media_type": "image/png", "size": 7, "sha256": "0" * 64}},
        {"more": 1},
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"id": "x", "output": [{"type": "message", "content": [{"text": "image_generation_call b64_json"}]}]},
        {"output": "image_generation_call", "data": {"b64_json": "Zm9v"}},
        {"nested": {"data": [{"b64_json": "Zm9v"}]}, "output": [[{"type": "image_generation_call", "result": "Zm9v"}]]},
        {"data": [{"b64_json": None}, {"b64_json": 7}, {"b64_json": {"file": "x"}}, None, "b64_json"]},
        {},
    ],
)
def test_what_stands_elsewhere_or_is_no_string_is_left_alone(body):
    raw = orjson.dumps(body)
    assert find(raw, "row") == ((), False)


def test_what_is_no_base64_is_counted_and_is_no_file():
    body = orjson.dumps({"data": [{"b64_json": text} for text in ("https://x", "a", "é" * 9, "Zm9v", "=")]})
    found, unreadable = find(body, "row")
    assert ([one.name for one in found], unreadable) == (["row-3.bin"], True)


def test_of_doubled_fields_the_last_counts_as_it_does_for_every_reader():
    body = b'{"data":[{"b64_json":"AAAA"}],"data":[{"b64_json":"BBBB","b64_json":"CCCC"}]}'
    assert texts(body) == [b"CCCC"]


def test_p17_an_answer_that_is_no_strict_json_is_searched_as_its_record_has_it():
    raw = b'\xef\xbb\xbf{"output": [{"n": NaN, "type": "image_generation_call", "result": "%b"}]}' % b64encode(PNG)
    reading = read_json(raw)
    assert not reading.strict
    assert texts(reading.text) == [b64encode(PNG)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=5), st.dictionaries(st.text(), JSON, max_size=5), st.sampled_from([None, 2]))
def test_elements_and_fields_are_found_whatever_they_hold(items, fields, indent):
    text = json.dumps(items, indent=indent).encode()
    assert [json.loads(text[start:end]) for start, end in elements(text, 0)] == items
    text = b"xx" + json.dumps(fields, indent=indent, ensure_ascii=False).encode()
    assert {one.key: json.loads(text[one.value : one.end]) for one in members(text, 2)} == fields


@given(st.lists(st.sampled_from([IMAGE, {**IMAGE, "result": "no!"}]) | JSON, max_size=6), st.booleans())
def test_the_answer_stays_the_same_but_for_its_files(items, pretty):
    body = json.dumps({"output": items, "data": items}, indent=2 if pretty else None).encode()
    shown = json.loads(replaced(body))
    for before, after in zip(items, shown["output"], strict=True):
        if before == IMAGE:
            assert after["result"]["media_type"] == "image/png"
        else:
            assert before == after
    assert shown["data"] == items


def test_megabytes_of_base64_are_passed_over_in_no_time():
    body = orjson.dumps({"output": [{**IMAGE, "result": b64encode(bytes(40 << 20)).decode()}], "data": []})
    (one,) = find(body, "row")[0]
    assert one.end - one.start > 50 << 20
    assert costs_at_most(0.7, lambda: find(body, "row"), lambda: orjson.loads(body)), (
        "as an expression over every byte does"
    )


# --- names ---

HOSTILE = [
    "..", ".", "", "/", "../../etc/passwd", "a/b", "a\\b", "a\0b", "\x1b]0;x\x07", "con", "NUL.png", "-rf", "--help", "~",
    "a" * 1024, "é" * 500, "e\u0301", "\u202e", "\ud800", "  ", "a b", "a_b", "a.b", "A_B", "row", "ROW", "x" * 60, "x" * 61,
]  # fmt: skip
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*-[0-9a-f]{16}")


@given(st.lists(st.text() | st.sampled_from(HOSTILE), unique=True, max_size=20))
def test_names_are_safe_and_no_two_rows_share_one(keys):
    names = [row_name("run", key) for key in (*keys, *(key for key in HOSTILE if key not in keys))]
    assert all(SAFE.fullmatch(name) and len(name) <= 77 for name in names)
    assert len({name.lower() for name in names}) == len(names), "not even where case is ignored"


def test_names_follow_from_batch_and_row_alone():
    assert row_name("run", "Cover of May") == row_name("run", "Cover of May")
    assert row_name("run", "Cover of May").startswith("Cover_of_May-")
    assert row_name("run", "a") != row_name("another run", "a")


def test_whose_a_file_is_that_was_left_behind():
    row, other = row_name("run", "a"), row_name("run", "b")
    names = [
        f"{row}-0.png", f"{row}-11.bin", unfinished(f"{row}-1.png"), f"{other}-0.png", unfinished(f"{other}-0.png"),
        row_name("another run", "a") + "-0.png", "holiday.png", ".DS_Store", f"{row}-0.png.new", f"{row}-x.png", ".new", "",
    ]  # fmt: skip
    left, halves = left_behind(names, "run", ["a", "c"])
    assert left == {"a": (f"{row}-0.png", f"{row}-11.bin")}
    assert halves == (unfinished(f"{row}-1.png"),)
    assert left_behind(["holiday.png"], "run", iter(())) == ({}, ())
