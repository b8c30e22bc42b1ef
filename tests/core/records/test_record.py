"""The record: written byte for byte as ever, its schema, and lines of other versions."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.jobs.job import About, History, Job, Row
from batchrun.core.jobs.jobs import record_of
from batchrun.core.records.artifacts import Artifact
from batchrun.core.records.record import (
    RECORD_SCHEMA,
    Attempt,
    LastRefusal,
    Moment,
    RecordLine,
    Refusals,
    Response,
    keys_of,
    moment,
    object_schema,
    read,
    record_id,
)
from batchrun.core.responses.error import ErrorParts, Problem, Source, ToolError, judge, our_problem
from batchrun.core.responses.outcome import Billing, Ended, Running, Usage
from batchrun.core.taxonomy.rules import KINDS, State

VALIDATOR = jsonschema.Draft202012Validator(RECORD_SCHEMA)
GOLDEN = Path(__file__).parent / "records.jsonl"

# The contract: every key, in this order.
KEYS = (
    "id custom_id job_id state status model retry_count billing billing_reason error output_text response "
    "artifacts warnings usage polls attempts submitted_at running_at finished_at queued_s running_s metadata"
).split()
LATER = ["refusals", "tool_errors"]  # added since GOLDEN was written; optional in the schema


def ended(
    key, end, response=None, *, times=(None, None), attempts=(), warnings=(), artifacts=(), about=None, last_seen=None
):
    """The line of a job that ended so."""
    job = Job(Row(key, about or About()))
    job.job_id, job.polls, job.last_seen = "resp_1", 3, last_seen
    job.submitted_at, job.running_at = times
    if attempts or warnings:
        job.history = History()
        job.history.attempts, job.history.warnings = attempts, warnings
    return record_of(job, end, response, "run", 1_800_000_009.6, artifacts).to_json()


def of_every_kind():
    """Records as the engine makes them: of every state, and of everything that one may hold."""
    for state in State:
        problem = judge(ErrorParts(state.value, None, f"{state} \u00e9"), Source.SERVICE, http_status=500).problem
        yield ended(f"row-{state}", Ended(state, "failed", problem, billing=Billing.UNKNOWN))
    times = (1_800_000_000.0, 1_800_000_001.2)
    body = b'{"n": 123456789012345678901234567890, "a":\t1.10}'
    whole = Ended(
        State.SUCCEEDED, "completed", billing=Billing.BILLED, warnings=("refusal",), model="gpt-5-2025-08-07",
        text='a "quoted" line\n\u2028 \U0001f600 \x7f', usage=Usage(12, 90, 102, 0, 64),
    )  # fmt: skip
    yield ended("full", whole, Response(200, "req_1", body), times=times, about=About("gpt-5", b'{"topic":"x"}'))
    yield ended("no body", whole, Response(204, None, b""), times=(1_800_000_010.0, 1_800_000_005.0))
    yield ended("status of the last poll", Ended(State.CANCELLED), last_seen=Running("in_progress", started=True))
    attempts = (
        Attempt("resp_0", State.INTERNAL_ERROR, "server_error", Billing.UNKNOWN),
        Attempt(None, State.TIMEOUT, None, Billing.BILLED),
    )
    yield ended("retried", whole, attempts=attempts, warnings=("submit_unanswered", "refusal"))
    artifacts = (Artifact("f/full-0.png", "image/png", 7, "0" * 64, "output[0].result"),)
    yield ended("files", whole, Response(200, None, b"[1]"), artifacts=artifacts)
    quota = judge(ErrorParts("insufficient_quota", "t", "no money", "model"), Source.HTTP, http_status=429).problem
    yield ended("quota", Ended(State.BLOCKED_BUDGET, problem=quota, billing=Billing.NOT_BILLED, billing_reason="quota"))
    yield ended("ours", Ended(State.UNCONFIRMED, problem=our_problem("answer_lost", "timeout")))


def test_records_of_every_kind_are_written_byte_for_byte_as_ever():
    as_ever = [line[:-1] + b',"refusals":null,"tool_errors":[]}' for line in GOLDEN.read_bytes().splitlines()]
    assert list(of_every_kind()) == as_ever


def test_golden_lines_have_every_key_in_order_and_fit_the_schema():
    for line in GOLDEN.read_bytes().splitlines():
        assert list(json.loads(line)) == KEYS
        VALIDATOR.validate(json.loads(line))


def test_the_schema_is_a_schema_and_speaks_of_every_key():
    jsonschema.Draft202012Validator.check_schema(RECORD_SCHEMA)
    assert list(RECORD_SCHEMA["properties"]) == [*KEYS, *LATER]
    assert RECORD_SCHEMA["required"] == KEYS


def test_the_body_is_spliced_in_as_received_and_no_body_is_null():
    body = b'{"n": 123456789012345678901234567890, "a": 1.10}'
    assert b'"body":' + body + b"}" in ended("k", Ended(State.SUCCEEDED), Response(200, None, body))
    assert json.loads(ended("k", Ended(State.FAILED), Response(500, None, b"")))["response"]["body"] is None


def test_the_least_record_has_every_key_too():
    least = json.loads(RecordLine(id=record_id("run", "k"), custom_id="k", state=State.UNCONFIRMED).to_json())
    VALIDATOR.validate(least)
    assert list(least) == [*KEYS, *LATER]
    assert (least["response"], least["warnings"], least["metadata"], least["queued_s"]) == (None, [], {}, None)
    assert set(least["usage"].values()) == {None}


def test_a_clock_that_went_back_gives_no_negative_times():
    shown = json.loads(ended("k", Ended(State.FAILED), times=(1_900_000_000.0, 1_850_000_000.0)))
    assert (shown["queued_s"], shown["running_s"]) == (0.0, 0.0)


# --- the table of keys ---


@pytest.mark.parametrize(
    "kind", [RecordLine, Problem, ToolError, Response, Artifact, Usage, Attempt, Refusals, LastRefusal]
)
def test_every_key_says_what_it_means(kind):
    assert [key.name for key in keys_of(kind)] == [one.name for one in fields(kind)]
    assert all(key.meaning for key in keys_of(kind))


@dataclass(frozen=True)
class OfALaterVersion:
    name: Annotated[str, "as ever"]
    state: Annotated[State, "as ever"] = State.FAILED
    price: Annotated[float | None, "new", {"required": False}] = None
    at: Annotated[Moment | None, "new", {"required": False}] = None


def test_a_new_key_is_optional_in_the_schema_and_has_a_default_for_lines_without_it():
    schema = object_schema(OfALaterVersion)
    assert schema["required"] == ["name", "state"]
    assert schema["properties"]["price"] == {"description": "new", "type": ["number", "null"], "minimum": 0}
    jsonschema.Draft202012Validator(schema).validate({"name": "x", "state": "failed"})
    assert read(OfALaterVersion, {"name": "x", "state": "timeout"}) == OfALaterVersion("x", State.TIMEOUT)


def test_keys_of_a_still_later_version_are_allowed_and_left_out():
    told = {"name": "x", "state": "failed", "price": 0.5, "at": None, "unheard": {"of": 1}}
    jsonschema.Draft202012Validator(object_schema(OfALaterVersion)).validate(told)
    assert read(OfALaterVersion, told) == OfALaterVersion("x", price=0.5)
    line = json.loads(GOLDEN.read_bytes().splitlines()[-1])
    VALIDATOR.validate({**line, "price": 1, "error": {**line["error"], "hint": "x"}})


def test_a_row_keeps_its_record_id():
    assert record_id("run", "a") == record_id("run", "a") != record_id("run", "b")
    assert record_id("run", "a") != record_id("nur", "a")
    record_id("run", "\ud800")


@given(
    st.builds(
        RecordLine,
        id=st.just(record_id("r", "k")),
        custom_id=st.text(),
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
        refusals=st.none()
        | st.builds(
            Refusals,
            count=st.integers(1, 10**6),
            last=st.builds(
                LastRefusal,
                code=st.none() | st.text(),
                message=st.text(),
                http_status=st.none() | st.integers(100, 599),
            ),
        ),
        submitted_at=st.builds(moment, st.none() | st.floats(0, 4e9)),
    )
)
def test_every_record_is_one_line_that_fits_the_schema(record):
    line = record.to_json()
    assert b"\n" not in line
    VALIDATOR.validate(json.loads(line))
