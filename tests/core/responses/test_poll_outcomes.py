"""From the answer to a poll to the record, through verdict and engine (the cases p that test_watch.py does not time)."""

import json

import jsonschema
import orjson
import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.records.record import RECORD_SCHEMA
from tests.core.driver import Driver, answer

VALIDATOR = jsonschema.Draft202012Validator(RECORD_SCHEMA)

MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "hello"}]}
REFUSAL = {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}
IMAGE = {"type": "image_generation_call", "status": "generating", "result": "aGk="}
NO_IMAGE = {"type": "image_generation_call", "status": "failed", "result": None}
SERVER_ERROR = {"code": "server_error", "message": "boom"}
NOTHING = {"input_tokens": None, "output_tokens": None, "total_tokens": None, "cached_tokens": None, "reasoning_tokens": None}  # fmt: skip


def polled(*bodies, **settings):
    """The record of a row whose polls answer with `bodies`, the last of them for ever; and its line."""
    raws = [body if isinstance(body, bytes) else orjson.dumps(body) for body in bodies]
    run = Driver(1, poll=lambda job_id, n: answer(200, raws[min(n, len(raws) - 1)]), **settings).run()
    assert run.outcome is m.Outcome.COMPLETE
    (line,) = [instruction.line for instruction in run.instructions if isinstance(instruction, m.Emit)]
    record = run.records["row-0"]
    VALIDATOR.validate(record)
    assert run.sent["cancel"] == []
    return record, line, len(run.sent["submit"])


def completed(**fields):
    return {"id": "job_row-0_0", "status": "completed", "output": [MESSAGE], **fields}


@pytest.mark.parametrize(
    ("body", "state", "warnings", "code"),
    [
        pytest.param(completed(id="resp_other"), "succeeded", ["id_changed"], None, id="p02"),
        pytest.param(completed(output=[]), "succeeded", ["empty_output"], None, id="p10-empty"),
        pytest.param(completed(output=[MESSAGE, NO_IMAGE]), "succeeded", ["tool_failed:image_generation_call"], None, id="p10-tool"),
        pytest.param(completed(error=SERVER_ERROR), "succeeded", ["partial_output"], "server_error", id="p10-both"),
        pytest.param(completed(output=[], error=SERVER_ERROR), "internal_error", [], "server_error", id="p10-error"),
        pytest.param(completed(output=[REFUSAL]), "succeeded", ["refusal"], None, id="p10-refusal"),
        pytest.param(completed(status="failed", output=[], error=None), "failed", [], None, id="p11-null"),
        pytest.param(completed(status="failed", output=[], error={"code": 500}), "internal_error", [], "500", id="p11-integer"),
        pytest.param(completed(status="failed", output=[], error={"code": "new"}), "failed", [], "new", id="p11-unknown"),
        pytest.param(completed(status="failed", error=SERVER_ERROR), "internal_error", ["partial_output"], "server_error", id="p11-output"),
        pytest.param(completed(output=[IMAGE]), "succeeded", [], None, id="p13-generating"),
        pytest.param(completed(output=[NO_IMAGE]), "succeeded", ["tool_failed:image_generation_call"], None, id="p13-failed"),
    ],
)  # fmt: skip
def test_the_end_of_a_job_is_in_its_record(body, state, warnings, code):
    record, _, posts = polled(body, retries=0)
    assert (record["state"], record["warnings"], record["error"] and record["error"]["code"]) == (state, warnings, code)
    assert (record["status"], posts) == (body["status"], 1)
    assert record["job_id"] == "job_row-0_0", "the id of the submit is the key"
    assert record["response"]["body"] == body, "the payload is kept, whatever the state"


@pytest.mark.parametrize("status", [None, "absent", "brand_new", 17])
def test_p03_an_unknown_status_word_is_polled_on(status):
    odd = {"id": "job_row-0_0"} if status == "absent" else {"id": "job_row-0_0", "status": status}
    record, _, posts = polled(odd, odd, odd, completed())
    assert (record["state"], record["polls"], posts) == ("succeeded", 4, 1)


def test_p14_a_rate_limit_only_in_the_text_is_retried_and_recorded():
    failed = {"status": "failed", "error": {"code": None, "message": "Rate limit reached, try again in 2s"}}
    record, _, posts = polled(failed, retries=2)
    assert (record["state"], record["retry_count"], posts) == ("rate_limited", 2, 3)
    assert record["warnings"] == ["classified_by_text"]
    assert [attempt["state"] for attempt in record["attempts"]] == ["rate_limited", "rate_limited"]


@pytest.mark.parametrize(
    "usage", ["absent", None, "12", [], {"input_tokens": "12", "output_tokens": None}, {"total_tokens": -1}]
)
def test_p16_unusable_usage_is_null_in_the_record(usage):
    assert polled(completed() if usage == "absent" else completed(usage=usage))[0]["usage"] == NOTHING


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        pytest.param(b'{"status": "completed", "x": "\\ud800"}', "\\ud800", id="surrogate"),
        pytest.param(b'{"status": "completed", "x": NaN}', "NaN", id="NaN"),
        pytest.param(b'\xef\xbb\xbf{"status": "completed", "x": "bom"}', "bom", id="BOM"),
        pytest.param(b'{"status": "completed", "x": ' + b"[" * 5_000 + b'"deep"' + b"]" * 5_000 + b"}", "deep", id="depth"),
    ],
)  # fmt: skip
def test_p17_odd_json_is_kept_in_a_record_that_everyone_can_read(raw, kept):
    record, line, _ = polled(raw)
    assert (record["state"], "body_not_strict_json" in record["warnings"]) == ("succeeded", True)
    json.loads(line, parse_constant=pytest.fail)
    assert kept in json.dumps(record["response"]["body"])


def test_p18_a_pretty_response_is_recorded_on_one_line_and_otherwise_as_received():
    record, line, _ = polled(b'{\r\n  "status" : "completed",\n  "n": 1.10, "big": 12345678901234567890123\n}\n')
    assert line.count(b"\n") == 1
    assert b'"status" : "completed",  "n": 1.10, "big": 12345678901234567890123' in line.replace(b"\r", b"")
    assert record["warnings"] == ["empty_output"]
