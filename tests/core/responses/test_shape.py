"""Where a response of no known shape may have its parts; it decides nothing, so it may guess, and never fails."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.responses.http import Answer
from batchrun.core.responses.shape import SHOWN, unknown_shape
from batchrun.core.responses.verdict import Accepted, Ambiguous, is_safe_id, read_submit
from tests.core.responses.test_shapes import ERROR, MESSAGE

DEEP = orjson.loads('{"a":' * 200 + '{"task_id":"t1"}' + "}" * 200)


def shape_of(body, **more):
    return unknown_shape(body, orjson.dumps(body), is_safe_id=is_safe_id, **({"background": True} | more))


@pytest.mark.parametrize(
    ("body", "place", "job_id"),
    [
        ({"code": 200, "data": {"taskId": "t1"}}, "data.taskId", "t1"),
        ({"result": {"job_id": "j-1"}}, "result.job_id", "j-1"),
        ({"a": {"b": {"c": {"id": "x"}}}}, "a.b.c.id", "x"),
        ({"jobs": [{"id": "x"}]}, "jobs[0].id", "x"),
        ([{"id": "x"}], "[0].id", "x"),
        ({"request_id": "r", "status": "IN_QUEUE"}, "request_id", "r"),
        ({"requestId": "r", "output": {"task_id": "t"}}, "output.task_id", "t"),
        ({"result": {"predictionId": "p"}}, "result.predictionId", "p"),
        ({"job": "x"}, "job", "x"),
        ({"task-id": "x"}, "task-id", "x"),
        # what names something else, or cannot be a job's id
        ({"user_id": "u", "traceId": "t", "modelId": "m", "account-id": "a"}, None, None),
        ({"data": {"taskId": 17}}, None, None),
        ({"data": {"taskId": "../../secret"}}, None, None),
        ({"data": {"taskId": "a b\x1b[2J"}}, None, None),
        ({"data": {"taskId": ""}}, None, None),
        ({"data": {"taskId": None, "uuid": "u"}}, "data.uuid", "u"),
        ({"paid": "yes", "grid": "x", "valid": "true"}, None, None),
        ({"a b": {"id": "x"}, "ü": {"id": "y"}, "": {"id": "z"}}, None, None),  # no place can be written so
        ({}, None, None),
        ([], None, None),
        ("job-1", None, None),
        (7, None, None),
        (None, None, None),
        (DEEP, ".".join(["a"] * 200) + ".task_id", "t1"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_s27_the_place_of_a_jobs_id(body, place, job_id):
    shape = shape_of(body)
    assert (shape.id, shape.job_id) == (place, job_id)


@pytest.mark.parametrize(
    ("body", "place", "word", "other"),
    [
        ({"data": {"taskId": "t", "state": "parked"}}, "data.state", "parked", False),
        ({"status": "IN_QUEUE", "request_id": "r"}, "status", "IN_QUEUE", False),
        ({"status": "queued", "result": {"job_id": "r"}}, "status", "queued", False),
        ({"status": "ok", "result": {"job_id": "r"}}, "result.status", None, True),
        ({"result": {"job_id": "r"}}, "result.status", None, False),
        ({"status": 200, "result": {"job_id": "r"}}, "result.status", None, False),
        ({"jobs": [{"id": "x", "task_state": "W"}]}, "jobs[0].task_state", "W", False),
        ({}, "status", None, False),
    ],
    ids=str,
)
def test_the_place_of_a_status_and_its_word(body, place, word, other):
    shape = shape_of(body)
    assert (shape.status, shape.word, shape.has_other_status) == (place, word, other)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"images": [{"url": "x"}]}, "images"),
        ({"data": {"outputs": {"url": "x"}}}, "data.outputs"),
        ({"images": [], "data": {"artifacts": ["x"]}}, "data.artifacts"),
        ({"code": 401, "msg": "no key", "data": None, "result": "none", "output": "none"}, None),
    ],
    ids=str,
)
def test_the_place_of_what_is_likely_a_result(body, place):
    assert shape_of(body, background=False).result == place


def test_what_is_shown_is_short_and_printable():
    shown = shape_of({"text": "\x1b]52;c;\u202eabc" + "x" * 10_000}).shown
    assert SHOWN <= len(shown) < SHOWN + 10, "an escape takes more room than what it stands for"
    assert shown.isprintable()
    assert "\x1b" not in shown


def test_a_huge_body_costs_a_bounded_time():
    """Only its first fields are looked at, so that what stands behind them is not found."""
    fields = {f"field-{n}": {} for n in range(200_000)}
    assert shape_of({**fields, "taskId": "x"}).id is None
    assert shape_of({**fields, "field-0": {"taskId": "x"}}).id is None
    assert shape_of({"taskId": "x", "items": [{"id": "y"}] * 200_000}).id == "taskId"


def test_urls_that_contain_the_id_are_kept():
    body = {"request_id": "r1", "status_url": "https://x/r1/status", "logo": "https://x/logo", "self": "/jobs/r1"}
    assert shape_of(body).urls == (("status_url", "https://x/r1/status"), ("self", "/jobs/r1"))


@pytest.mark.parametrize(
    ("body", "known"),
    [
        ({"result": {"job_id": "j"}}, False),
        ({"code": 401, "msg": "no"}, False),
        ({"status": "queued"}, False),  # a job that has no name
        ({}, False),
        ({"id": "j"}, True),
        ({"data": {"taskId": "t"}}, True),
        ({"id": None}, True),
        ({"output": [MESSAGE]}, True),
        ({"status": "failed"}, True),
        ({"error": ERROR}, True),
    ],
    ids=str,
)
def test_s27_only_what_shows_no_job_and_no_result_is_of_no_known_shape(body, known):
    verdict = read_submit(Answer(200, {}, orjson.dumps(body)), 0.0, result="output")
    assert (isinstance(verdict, Accepted) or verdict.shape is None) == known


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[1]", b'"id"', b"null"])
def test_what_is_no_json_object_has_no_shape(raw):
    verdict = read_submit(Answer(200, {}, raw), 0.0)
    assert isinstance(verdict, Ambiguous)
    assert verdict.shape is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "taskId", "data", "state", "x y", "url"]) | st.text(max_size=5), inner, max_size=4),
)  # fmt: skip


@given(JSON, st.booleans())
def test_nothing_makes_it_fail(body, background):
    shape = unknown_shape(body, b"{}", background=background, is_safe_id=is_safe_id)
    assert (shape.id is None) == (shape.job_id is None)
