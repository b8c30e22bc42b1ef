import json
from dataclasses import fields

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.records.record import Attempt, RecordLine, Response, record_id
from batchrun.core.records.schema import RECORD_SCHEMA
from batchrun.core.responses.error import Problem, Source, our_problem
from batchrun.core.responses.outcome import Billing
from batchrun.core.responses.usage import Usage
from batchrun.core.taxonomy.rules import KINDS
from batchrun.core.taxonomy.states import State

VALIDATOR = jsonschema.Draft202012Validator(RECORD_SCHEMA)

# The contract: every key, in this order.
KEYS = (
    "id custom_id job_id state status model retry_count billing billing_reason error output_text response "
    "artifacts warnings usage polls attempts submitted_at running_at finished_at queued_s running_s metadata"
).split()


def test_the_schema_is_a_schema_and_speaks_of_every_key():
    jsonschema.Draft202012Validator.check_schema(RECORD_SCHEMA)
    assert list(RECORD_SCHEMA["properties"]) == RECORD_SCHEMA["required"] == KEYS


def test_a_record_in_full():
    record = RecordLine(
        id=record_id("run", "row-1"),
        key="row-1",
        state=State.SUCCEEDED,
        job_id="resp_1",
        status="completed",
        model="gpt-5-2025-08-07",
        billing=Billing.BILLED,
        output_text="hello",
        response=Response(200, "req_1", b'{"n": 123456789012345678901234567890, "a": 1.10}'),
        usage=Usage(12, 90, 102, 0, 64),
        polls=3,
        attempts=(Attempt("resp_0", State.INTERNAL_ERROR, "server_error", Billing.UNKNOWN),),
        submitted_at=1_800_000_000.0,
        running_at=1_800_000_001.2,
        finished_at=1_800_000_009.6,
        metadata=b'{"topic": "x"}',
    )
    line = record.to_json()
    shown = json.loads(line)
    VALIDATOR.validate(shown)
    assert list(shown) == KEYS
    assert b'"body":{"n": 123456789012345678901234567890, "a": 1.10}' in line, "spliced in as received"
    assert shown["usage"] == {
        "input_tokens": 12,
        "output_tokens": 90,
        "total_tokens": 102,
        "cached_tokens": 0,
        "reasoning_tokens": 64,
    }
    assert shown["attempts"] == [
        {"job_id": "resp_0", "state": "internal_error", "code": "server_error", "billing": "unknown"}
    ]
    assert (shown["retry_count"], shown["queued_s"], shown["running_s"]) == (1, 1.2, 8.4)
    assert (shown["submitted_at"], shown["metadata"]) == ("2027-01-15T08:00:00.000Z", {"topic": "x"})
    assert (shown["error"], shown["billing_reason"]) == (None, None)


def test_the_least_record_has_every_key_too():
    error = our_problem("answer_lost", "timeout")
    shown = json.loads(RecordLine(id=record_id("run", "k"), key="k", state=State.UNCONFIRMED, error=error).to_json())
    VALIDATOR.validate(shown)
    assert shown["error"]["kind"] == "JobUnconfirmed"
    assert (shown["response"], shown["warnings"], shown["metadata"], shown["queued_s"]) == (None, [], {}, None)


@pytest.mark.parametrize("field", [field.name for field in fields(Problem)])
def test_the_error_object_is_the_problem(field):
    assert field in our_problem("no_body", "m").to_dict()


def test_a_clock_that_went_back_gives_no_negative_times():
    shown = json.loads(
        RecordLine("rec_" + "0" * 24, "k", State.FAILED, submitted_at=10.0, running_at=5.0, finished_at=1.0).to_json()
    )
    assert (shown["queued_s"], shown["running_s"]) == (0.0, 0.0)


def test_a_row_keeps_its_record_id():
    assert record_id("run", "a") == record_id("run", "a") != record_id("run", "b")
    assert record_id("run", "a") != record_id("nur", "a")
    record_id("run", "\ud800")


@given(
    st.builds(
        RecordLine,
        id=st.just(record_id("r", "k")),
        key=st.text(),
        state=st.sampled_from(State),
        job_id=st.none() | st.text(),
        billing=st.sampled_from(Billing),
        error=st.none()
        | st.builds(
            Problem,
            code=st.none() | st.text(),
            type=st.text(),
            message=st.text(),
            param=st.none() | st.text(),
            kind=st.sampled_from(sorted(KINDS)),
            retryable=st.booleans(),
            source=st.sampled_from(Source),
            http_status=st.none() | st.integers(100, 599),
        ),
        output_text=st.none() | st.text(),
        polls=st.integers(0, 10**6),
        submitted_at=st.none() | st.floats(0, 4e9),
        running_at=st.none() | st.floats(0, 4e9),
    )
)
def test_every_record_is_one_line_that_fits_the_schema(record):
    line = record.to_json()
    assert b"\n" not in line
    VALIDATOR.validate(json.loads(line))
