"""p25: no response stops the event loop for much longer than a valid one of its size does, or ends the run."""

import pytest

from batchrun.core.records.artifacts import find
from batchrun.core.responses.error import text_of_page
from batchrun.core.responses.http import Answer
from batchrun.core.responses.verdict import (
    AT_ONCE,
    Accepted,
    Ambiguous,
    JobReport,
    Refused,
    Unclear,
    in_steps,
    read_poll,
    read_submit,
)
from batchrun.core.text.escaped_copy import at_once
from batchrun.core.text.json_text import MAX_LENIENT, MAX_STEPS, NOT_READ, read_json
from tests.cost import costs_at_most, longest_step, taken

MIB = 1 << 20
HEAD = b'{"id":"resp_1","status":"completed",'


def polling(body):
    """A poll as the run reads it, in steps."""
    answer = Answer(200, {}, body)
    yield
    verdict = read_poll(answer, 0.0, "resp_1")
    return (yield from in_steps(answer, lambda answer: read_poll(answer, 0.0, "resp_1"), verdict))


def poll(body):
    return at_once(polling(body))


def submit(body, status=200):
    answer = Answer(status, {}, body)
    return at_once(in_steps(answer, lambda answer: read_submit(answer, 0.0), read_submit(answer, 0.0)))


def valid(size):
    """A job that is over, with a long text."""
    start, end = HEAD + b'"output":[{"type":"message","content":[{"type":"output_text","text":"', b'"}]}]}'
    return start + b"lorem ipsum " * ((size - len(start) - len(end)) // 12) + end


def repeated(start, piece, end, size):
    return start + piece * ((size - len(start) - len(end)) // len(piece)) + end


def nested(depth):
    return b"[" * depth + b"]" * depth


BEYOND = {
    "20 MB of brackets": b"[" * 20_000_000,
    "20 MB of nested lists": HEAD + b'"x":' + nested(10_000_000) + b"}",
    "one NaN in 60 MB": valid(60_000_000)[:-1] + b',"x":NaN}',
    "60 MB cut off": valid(60_000_000)[:-1],
    "one lone surrogate in 20 MB": valid(20_000_000)[:-1] + b',"x":"\\ud800"}',
}


@pytest.mark.parametrize("name", BEYOND)
def test_p25_beyond_8_mib_what_the_strict_parser_refuses_is_kept_and_not_polled_again(name):
    body = BEYOND[name]
    unclear, ambiguous = poll(body), submit(body)
    assert isinstance(unclear, Unclear)
    assert (unclear.is_final, unclear.unreadable is body) == (True, True)
    assert unclear.problem.code == "unreadable_result"
    assert f"{len(body):,} bytes that are not" in unclear.problem.message
    assert isinstance(ambiguous, Ambiguous)
    assert ambiguous.unreadable is body


@pytest.mark.parametrize("name", BEYOND)
@pytest.mark.parametrize("read", [poll, submit])
def test_p25_that_takes_at_most_twice_the_time_of_a_valid_body_of_its_size(name, read):
    body = BEYOND[name]
    same_size = valid(len(body))
    assert isinstance(poll(same_size), JobReport)
    assert costs_at_most(2, lambda: read(body), lambda: read(same_size))


def test_p25_up_to_8_mib_it_is_read():
    body = valid(MAX_LENIENT - 30)[:-1] + b',"x":NaN}'
    assert MAX_LENIENT - 50 < len(body) <= MAX_LENIENT == 8 * MIB
    report = poll(body)
    assert isinstance(report, JobReport)
    assert report.outcome.warnings == ("body_not_strict_json",)
    assert read_json(body + b" " * (MAX_LENIENT - len(body))) is not NOT_READ
    assert read_json(body + b" " * (MAX_LENIENT + 1 - len(body))) is NOT_READ


SIZE = MIB
ITEM = b'{"token":"abc","logprob":-0.5,"bytes":[97,98]},'
BODIES = {  # what they are full of, and how much of it
    "a text": (HEAD + b'"x":"', b"lorem ipsum ", b'"', 4 * MIB),
    "escapes": (HEAD + b'"x":"', b'a \\"word\\" and\\n', b'"', 4 * MIB),
    "floats": (HEAD + b'"x":[', b"-0.0123,1.5e-05,", b"0]", MIB),
    "objects": (HEAD + b'"x":[', ITEM, b"0]", MIB),
    "empty strings": (HEAD + b'"x":[', b'"",', b"0]", MIB),
}
FAULTS = b',"y":[NaN,"\\ud800","\n",1e999]}', b',"y":' + nested(1_100) + b"}"


@pytest.mark.parametrize("name", BODIES)
def test_p25_up_to_8_mib_no_step_takes_longer_than_a_valid_body_like_it(name):
    start, piece, end, size = BODIES[name]
    like_it = repeated(start, piece, end + b"}", size)
    for fault in FAULTS:
        body = repeated(start, piece, end + fault, size)
        assert poll(body).outcome.warnings[-1] == "body_not_strict_json"

        def is_short(body=body):
            least = min(taken(lambda: poll(like_it)) for _ in range(4))
            return longest_step(lambda: polling(body)) <= 3 * least

        assert any(is_short() for _ in range(5)), "twice, and a good deal for chance; next to other processes more"


SLOW = {
    "nested lists": HEAD + b'"x":' + nested(SIZE // 2) + b"}",
    "strings and depth": repeated(HEAD + b'"y":[', b'"",', b'0],"x":' + nested(2_000) + b"}", SIZE),
    "surrogates": repeated(HEAD + b'"x":"', b"\\ud800", b'"}', SIZE),
    "raw surrogates": repeated(HEAD + b'"x":"', b"\xed\xa0\x80", b'"}', SIZE),
    "strings of a surrogate": repeated(HEAD + b'"x":[', b'"\\ud800",', b"0]}", SIZE),
    "control characters": repeated(HEAD + b'"x":"', b"\x01a\n", b'"}', SIZE),
    "numbers beyond a double": repeated(HEAD + b'"x":[', b"1e999,", b"0]}", SIZE),
    "long numbers": repeated(HEAD + b'"x":[', b"1" * 3_999 + b",", b"0]}", SIZE),
    "one long number": HEAD + b'"x":' + b"1" * SIZE + b"}",
    "lists below great depth": HEAD + b'"x":' + b"[" * 2_000 + b"[]," * (SIZE // 3) + b"0" + b"]" * 2_000 + b"}",
}
CUT_OFF = {
    "brackets": b"[" * SIZE,
    "braces": b'{"a":' * (SIZE // 5),
    "many parts": repeated(HEAD + b'"x":[', b"{},NaN,", b"0", SIZE),
}


@pytest.mark.parametrize("name", [*SLOW, *CUT_OFF])
def test_p25_what_is_full_of_faults_is_read_in_short_steps_too(name):
    body = SLOW.get(name) or CUT_OFF[name]
    read = poll(body)
    if name in SLOW:
        assert isinstance(read, JobReport)
        assert read.outcome.warnings[-1] == "body_not_strict_json"
    else:
        assert isinstance(read, Unclear)
        assert (read.is_final, read.unreadable is body) == (False, True)
    list_of_lists = repeated(HEAD + b'"output":[', b"[],", b"0]}", len(body))
    assert longest_step(lambda: polling(body), rounds=1) <= 2 * taken(lambda: poll(list_of_lists))


def test_what_is_short_is_read_at_once():
    body = valid(AT_ONCE - 30)[:-1] + b',"x":NaN}'
    assert isinstance(read_poll(Answer(200, {}, body), 0.0, "resp_1"), JobReport)
    assert isinstance(read_poll(Answer(200, {}, body + b" " * 30), 0.0, "resp_1"), Unclear)
    assert isinstance(poll(body + b" " * 30), JobReport)


def test_p17_a_long_error_that_is_no_strict_json_says_what_it_says():
    body = b'{"error":{"code":"rate_limit_exceeded","message":"slow down"},"x":NaN,"y":"' + b"y" * 2 * AT_ONCE + b'"}'
    assert submit(body, 429).problem.code == "rate_limit_exceeded"
    assert submit(body.replace(b"NaN", b"nan"), 429).problem.code != "rate_limit_exceeded"


def test_what_is_no_json_at_all_is_polled_again():
    for body in (b"", b"<html>", b"nonsense" * MIB, b'{"a": 1,' + b'"b": 2,' * 500_000 + b"nonsense", b"\xff" * MIB):
        unclear = poll(body)
        assert isinstance(unclear, Unclear)
        assert not unclear.is_final


def test_a_page_is_not_kept_for_a_submit_and_what_may_be_a_result_is():
    for body, kept in ((b"", False), (b" \n<html>", False), (b'{"paid": "for", ', True), (b"[1]", True)):
        assert submit(body).unreadable == (body if kept else b"")
    assert submit(b'{"paid": "for", ', 500).unreadable == b""


# --- pages and errors ---

SLOW_PAGES = [b"<", b"<script>", b"<script", b"<title>", b"<title", b"</script ", b"<script></style>", b"<style>x"]


@pytest.mark.parametrize("piece", SLOW_PAGES)
def test_p25_no_page_takes_longer_than_its_length(piece):
    page = piece * (20_000 // len(piece))
    assert costs_at_most(1, lambda: [text_of_page(page) for _ in range(3)])  # milliseconds; it was a second


def test_what_a_page_says():
    for page, text in (
        (b"<html><head><title>502 Bad\n Gateway</title></head><body>nginx</body></html>", "502 Bad Gateway"),
        (b"<html><title>gone", "gone"),
        (b"<p>over <b>loaded</b></p><script>if (a<b) x()</script><style>p {}</style>, later", "over loaded , later"),
        (b"<p>down<script>var a = 1", "down"),
        (b"5 < 6 is <i>true</i>", "5 < 6 is true"),
    ):
        assert text_of_page(page) == text


DEEP = nested(1_015)  # orjson reads it, and no `repr` does


@pytest.mark.parametrize(
    "body",
    [
        b'{"detail":[{"loc":["body",' + DEEP + b'],"msg":' + DEEP + b"}]}",
        b'{"id":' + DEEP + b',"status":"queued"}',
        b'{"id":{"a":' + DEEP + b'},"status":"completed"}',
        b'{"id":"resp_1","status":"completed","output":[{"type":' + DEEP + b',"error":{"code":"x"}}]}',
        b'{"id":"resp_1","status":' + DEEP + b',"error":' + DEEP + b"}",
        b'{"error":{"code":' + DEEP + b',"message":' + DEEP + b"}}",
    ],
)
def test_no_depth_is_an_exception(body):
    for status in (200, 400, 500):
        assert isinstance(submit(body, status), Accepted | Ambiguous | Refused)
        assert isinstance(read_poll(Answer(status, {}, body), 0.0, "resp_1"), JobReport | Unclear)


def test_a_validation_error_names_where_and_what():
    refused = submit(b'{"detail":[{"loc":["body","model",0],"msg":"field required"},{"loc":[{}],"msg":[1]}]}', 422)
    assert refused.problem.message == "body.model.0: field required; …: …"


# --- results ---

MANY = {
    "empty items": (b'"output":[', b"{},", b"0]}"),
    "numbers": (b'"output":[', b"0,", b"0]}"),
    "empty choices": (b'"choices":[', b"{},", b"0]}"),
    "empty parts": (b'"output":[{"content":[', b"{},", b"0]}]}"),
    "failed tools": (b'"output":[', b'{"type":"x","error":{"code":"y"}},', b"0]}"),
}


@pytest.mark.parametrize("name", MANY)
def test_p25_a_result_of_millions_of_parts_takes_little_more_than_to_parse_it(name):
    start, piece, end = MANY[name]
    body = repeated(HEAD + start, piece, end, 6 * MIB)
    parsed_only = repeated(
        HEAD + start.replace(b"output", b"unused").replace(b"choices", b"unused"), piece, end, 6 * MIB
    )
    assert costs_at_most(2, lambda: poll(body), lambda: poll(parsed_only))


@pytest.mark.parametrize("piece", [b"{},", b"0,", b'"",', b"[],"])
def test_p25_files_are_not_looked_for_among_millions_of_parts(piece):
    start = HEAD + b'"output":[{"type":"image_generation_call","result":"aGVsbG8="},'
    assert find(repeated(start, piece, b"0]}", 30_000), "row")[0][0].at == "output[0].result"
    body = repeated(start, piece, b"0]}", 6 * MIB)
    assert body.count(b",") > MAX_STEPS
    assert find(body, "row") == ((), True), "they stay in the record, with a warning"
    assert costs_at_most(2, lambda: find(body, "row"), lambda: read_json(body))


def test_p25_a_response_of_unknown_shape_is_not_walked_through():
    def tree(depth):
        return b"[]" if depth == 0 else b"[" + b",".join([tree(depth - 1)] * 3) + b"]"

    body = b'{"a":' + tree(12) + b"}"
    ambiguous = submit(body)
    assert isinstance(ambiguous, Ambiguous)
    assert ambiguous.shape is not None
    assert costs_at_most(2, lambda: submit(body), lambda: read_json(body))
