"""What answers mean, as tables; and that no answer, whatever is in it, is ever an exception."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.responses.error import Source
from batchrun.core.responses.http import Answer, Cause, Failure
from batchrun.core.responses.outcome import Billing, Ended, Running, Usage
from batchrun.core.responses.verdict import (  # fmt: skip
    Accepted,
    Ambiguous,
    CodeOverrides,
    JobReport,
    Refused,
    Trouble,
    Unclear,
    is_safe_id,  # fmt: skip
    read_cancel,
    read_poll,
    read_submit,
)
from batchrun.core.taxonomy.rules import Retry, State
from batchrun.core.text.json_text import NOT_READ

WALL = 1_800_000_000.0


def answer(status=200, body=None, **headers):
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def poll(body=None, status=200, **headers):
    return read_poll(answer(status, body, **headers), WALL, "resp_1")


def outcome(body):
    seen = poll({"id": "resp_1", **body})
    assert isinstance(seen, JobReport)
    return seen.outcome


def submit(body=None, status=200, *, background=True, overrides=CodeOverrides(), **headers):
    return read_submit(answer(status, body, **headers), WALL, background=background, overrides=overrides)


MESSAGE = {"type": "message", "status": "completed", "content": [{"type": "output_text", "text": "hello"}]}
REFUSAL = {"type": "message", "content": [{"type": "refusal", "refusal": "I can't help with that"}]}
IMAGE = {"type": "image_generation_call", "status": "completed", "result": "aGk="}
FAILED_IMAGE = {
    "type": "image_generation_call",
    "status": "failed",
    "result": None,
    "error": {"code": "moderation_blocked", "message": "no"},
}
GENERATING = {"type": "image_generation_call", "status": "generating", "result": "aGk="}
SERVER_ERROR = {"code": "server_error", "message": "boom"}


# --- submits ---


@pytest.mark.parametrize("status", [200, 201, 202])
def test_s10_a_running_job(status):
    accepted = submit({"id": "resp_1", "status": "queued"}, status, x_request_id="req_9")
    assert accepted == Accepted(
        "resp_1", Running("queued", started=False), b'{"id": "resp_1", "status": "queued"}', status, "req_9"
    )


@pytest.mark.parametrize(
    ("body", "state"),
    [
        ({"id": "resp_1", "status": "completed", "output": [MESSAGE]}, State.SUCCEEDED),
        ({"id": "resp_1", "status": "failed", "error": SERVER_ERROR}, State.INTERNAL_ERROR),
        ({"id": "resp_1", "status": "incomplete", "output": [MESSAGE]}, State.INCOMPLETE),
        ({"id": "../x", "status": "completed", "output": [MESSAGE]}, State.SUCCEEDED),
    ],
)
def test_s09_a_job_that_is_over_at_once(body, state):
    accepted = submit(body)
    assert isinstance(accepted, Accepted)
    assert accepted.outcome.state is state
    assert accepted.job_id in ("resp_1", None)


@pytest.mark.parametrize(
    ("case", "status", "body"),
    [
        ("s04", 200, b""), ("s04", 200, b"<html>welcome"), ("s04", 200, b'{"id": "resp_'), ("s04", 200, b"null"), ("s04", 200, []),
        ("s05", 200, {}), ("s05", 200, {"status": "queued"}), ("s05", 200, {"data": []}), ("s05", 200, {"error": {"message": "x"}}),
        ("s11", 204, b""), ("s19", 408, {}), ("s19", 409, {}), ("s19", 425, {}), ("s19", 499, {}),
        ("s23", 500, {"error": SERVER_ERROR}), ("s23", 502, b"<html>Bad Gateway"), ("s23", 504, b""), ("s23", 520, b""), ("s23", 599, b""),
        ("s23", 503, b""), ("s23", 503, {"error": {"message": "busy"}}), ("s23", 529, b"overloaded"),
        ("no status of HTTP", 100, b""), ("no status of HTTP", 199, b""), ("no status of HTTP", 600, b""), ("no status of HTTP", 999, b""),
    ],
)  # fmt: skip
def test_an_unreadable_response_is_ambiguous(case, status, body):
    verdict = submit(body, status)
    assert isinstance(verdict, Ambiguous)
    assert (verdict.problem.kind, verdict.problem.source) == ("JobUnconfirmed", Source.CLIENT)


@pytest.mark.parametrize(
    "job_id",
    [
        None,
        7,
        ["resp_1"],
        "x" * 10_000,
        "../x",
        "a?b",
        "a/cancel",
        "a%2fb",
        "a\r\nb",
        ".",
        "..",
        "",
        "jöb",
        "a b",
        "٣",
        "a\n",
    ],
)
def test_s06_s08_an_id_that_cannot_be_watched(job_id):
    assert not is_safe_id(job_id)
    verdict = submit({"id": job_id, "status": "queued"})
    assert isinstance(verdict, Ambiguous)
    assert verdict.problem.code == "unusable_job_id"
    assert len(verdict.problem.message) <= 300


@pytest.mark.parametrize(
    ("case", "status", "body", "headers", "code", "again", "halts", "state", "delay"),
    [
        ("s12", 400, {"error": {"code": "invalid_request_error", "message": "bad"}}, {}, "invalid_request_error", False, False, State.REJECTED, None),
        ("s13", 400, {"error": {"message": "queue is full"}}, {}, None, True, False, State.OVERLOADED, None),
        ("s12", 400, {"error": {"code": "content_filter"}}, {}, "content_filter", False, False, State.BLOCKED, None),
        ("s14", 401, {"error": {"code": "invalid_api_key"}}, {}, "invalid_api_key", False, True, State.REJECTED, None),
        ("s14", 401, b"", {}, None, False, True, State.REJECTED, None),
        ("s15", 402, {"detail": "balance is used up"}, {}, None, False, True, State.BLOCKED_BUDGET, None),
        ("s16", 403, {"detail": "no"}, {}, None, False, False, State.REJECTED, None),
        ("s17", 404, {"error": {"code": "model_not_found"}}, {}, "model_not_found", False, False, State.REJECTED, None),
        ("s18", 413, b"<html>too large", {}, None, False, False, State.REJECTED, None),
        ("s18", 422, {"detail": [{"loc": ["body", "model"], "msg": "field required"}]}, {}, None, False, False, State.REJECTED, None),
        ("s18", 307, b"", {"location": "https://elsewhere.example/"}, None, False, False, State.REJECTED, None),
        ("s20", 429, {"error": {"code": "rate_limit_exceeded"}}, {"retry_after_ms": "900"}, "rate_limit_exceeded", True, False, State.RATE_LIMITED, 0.9),
        ("s20", 429, {"error": {"message": "try again in 1.5s"}}, {}, None, True, False, State.RATE_LIMITED, 1.5),
        ("s15", 429, {"error": {"code": "insufficient_quota"}}, {"x_should_retry": "true"}, "insufficient_quota", False, True, State.BLOCKED_BUDGET, None),
        ("x-should-retry", 429, b"", {"x_should_retry": "false"}, None, False, False, State.RATE_LIMITED, None),
        ("x-should-retry", 400, {}, {"x_should_retry": "true"}, None, True, False, State.REJECTED, None),
        ("s22", 503, {"error": {"code": "server_is_overloaded"}}, {}, "server_is_overloaded", True, False, State.OVERLOADED, None),
        ("s22", 503, {"error": {"code": "slow_down"}}, {"retry_after": "3"}, "slow_down", True, False, State.RATE_LIMITED, 3.0),
        ("s22", 529, {"error": {"code": "overloaded"}}, {}, "overloaded", True, False, State.OVERLOADED, None),
    ],
)  # fmt: skip
def test_what_is_refused_created_nothing(case, status, body, headers, code, again, halts, state, delay):
    verdict = submit(body, status, **headers)
    assert isinstance(verdict, Refused)
    assert (verdict.problem.code, verdict.again, verdict.rule.halts) == (code, again, halts)
    assert (verdict.rule.state, verdict.retry_after) == (state, delay)
    assert (verdict.problem.source, verdict.problem.http_status) == (Source.HTTP, status)


def test_s18_a_redirect_names_its_target():
    assert "https://evil.example/x" in submit(b"", 308, location="https://evil.example/x").problem.message


@pytest.mark.parametrize("cause", Cause)
def test_s01_s02_s03_without_a_response_it_matters_whether_a_byte_was_sent(cause):
    unsent = read_submit(Failure(sent=False, cause=cause, message="refused"), WALL)
    assert isinstance(unsent, Refused)
    assert unsent.again
    assert isinstance(read_submit(Failure(sent=True, cause=cause, message="dropped"), WALL), Ambiguous)


def test_a_profile_may_override_codes_both_ways():
    full = {"error": {"code": "queue_overflow"}}
    assert isinstance(submit(full, 500), Ambiguous)
    assert isinstance(
        submit(full, 500, overrides=CodeOverrides(nothing_created=frozenset({"queue_overflow"}))), Refused
    )
    assert isinstance(submit(full, 500, overrides=CodeOverrides(nothing_created=frozenset({"http_500"}))), Refused)
    assert isinstance(submit(full, 404, overrides=CodeOverrides(ambiguous=frozenset({"http_404"}))), Ambiguous)


def test_s34_a_200_with_an_error_and_no_id_is_a_refusal_where_the_profile_vouches_for_its_code():
    full = {"error": {"code": "rate_limit_exceeded", "message": "full"}}
    vouched = CodeOverrides(nothing_created=frozenset({"rate_limit_exceeded"}))
    assert isinstance(submit(full, 200), Ambiguous)
    refused = submit(full, 200, overrides=vouched, retry_after="5")
    assert (type(refused), refused.again, refused.problem.code) == (Refused, True, "rate_limit_exceeded")
    assert refused.retry_after == 5.0
    assert isinstance(submit({"error": {"code": "server_error"}}, 200, overrides=vouched), Ambiguous)


def test_a_synchronous_response_of_no_known_form_needs_neither_status_nor_id():
    accepted = submit({}, background=False)
    assert (accepted.outcome.state, accepted.outcome.warnings) == (State.SUCCEEDED, ("empty_output",))


@pytest.mark.parametrize(
    ("finish", "state", "kind"),
    [
        ("stop", State.SUCCEEDED, None),
        ("length", State.INCOMPLETE, "LengthFinishReasonError"),
        ("content_filter", State.INCOMPLETE, "ContentFilterFinishReasonError"),
    ],
)
def test_a_chat_response_ends_by_its_finish_reason(finish, state, kind):
    ended = submit({"choices": [{"message": {"content": "hi"}, "finish_reason": finish}]}, background=False).outcome
    assert (ended.state, ended.text, ended.problem and ended.problem.kind) == (state, "hi", kind)


# --- polls ---


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("queued", Running("queued", started=False)),
        ("in_progress", Running("in_progress", started=True)),
        ("IN_PROGRESS", Running("IN_PROGRESS", started=True)),
        ("cancelling", Running("cancelling", started=False)),
        (None, Running(None, started=False, warnings=("unknown_status",))),
        ("brand_new", Running("brand_new", started=False, warnings=("unknown_status",))),
        (17, Running(None, started=False, warnings=("unknown_status",))),
    ],
)
def test_p03_a_job_runs_until_its_status_says_otherwise(status, expected):
    assert outcome({"status": status}) == expected
    assert outcome({}) == Running(None, started=False, warnings=("unknown_status",))


@pytest.mark.parametrize(
    ("body", "state", "warnings", "code"),
    [
        ({"status": "completed", "output": [MESSAGE]}, "succeeded", (), None),
        ({"status": "completed", "output": []}, "succeeded", ("empty_output",), None),
        ({"status": "completed"}, "succeeded", ("empty_output",), None),
        ({"status": "completed", "output": [{"type": "reasoning", "status": "completed"}]}, "succeeded", ("empty_output",), None),
        ({"status": "completed", "output": [MESSAGE, FAILED_IMAGE]}, "succeeded", ("tool_failed:image_generation_call",), None),
        ({"status": "completed", "output": [FAILED_IMAGE]}, "succeeded", ("tool_failed:image_generation_call",), None),
        ({"status": "completed", "output": [GENERATING]}, "succeeded", (), None),
        ({"status": "completed", "output": [MESSAGE], "error": SERVER_ERROR}, "succeeded", ("partial_output",), "server_error"),
        ({"status": "completed", "output": [], "error": SERVER_ERROR}, "internal_error", (), "server_error"),
        ({"status": "completed", "error": "out of memory"}, "failed", (), None),
        ({"status": "completed", "output": [REFUSAL]}, "succeeded", ("refusal",), None),
        ({"status": "completed", "output": [MESSAGE], "max_output_tokens": 5, "usage": {"output_tokens": 5}}, "succeeded", ("truncated",), None),
        ({"status": "completed", "output": [MESSAGE], "incomplete_details": {"reason": "max_output_tokens"}}, "succeeded", ("truncated",), None),
    ],
)  # fmt: skip
def test_p10_p13_completed_is_not_yet_good(body, state, warnings, code):
    ended = outcome(body)
    assert (ended.state, ended.warnings, ended.problem and ended.problem.code) == (state, warnings, code)


@pytest.mark.parametrize(
    ("body", "state", "retry", "kind", "code", "warnings"),
    [
        ({"status": "failed", "error": None}, "failed", "no", "JobFailed", None, ()),
        ({"status": "failed", "error": {"code": 500, "message": "x"}}, "internal_error", "twice", "InternalServerError", "500", ()),
        ({"status": "failed", "error": {"code": "429"}}, "rate_limited", "yes", "RateLimitError", "429", ()),
        ({"status": "failed", "error": {"code": "no_such_code"}}, "failed", "no", "JobFailed", "no_such_code", ()),
        ({"status": "failed", "error": SERVER_ERROR, "output": [MESSAGE]}, "internal_error", "twice", "InternalServerError", "server_error", ("partial_output",)),
        ({"status": "failed", "error": "text only"}, "failed", "no", "JobFailed", None, ()),
        ({"status": "failed", "error": [1]}, "failed", "no", "JobFailed", None, ()),
        ({"status": "failed", "error": {"code": "insufficient_quota"}}, "blocked_budget", "no", "QuotaExceededError", "insufficient_quota", ()),
        ({"status": "failed", "error": {"code": "bio_policy"}}, "blocked", "no", "PolicyViolationError", "bio_policy", ()),
        ({"status": "failed", "last_error": {"code": "rate_limit_exceeded"}}, "rate_limited", "yes", "RateLimitError", "rate_limit_exceeded", ()),
        ({"status": "failed", "errors": {"data": [{"code": "model_not_found"}]}}, "rejected", "no", "NotFoundError", "model_not_found", ()),
        ({"status": "failed", "output": [FAILED_IMAGE]}, "blocked", "no", "ContentPolicyError", "moderation_blocked", ("tool_failed:image_generation_call",)),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": [MESSAGE]}, "incomplete", "no", "LengthFinishReasonError", "max_output_tokens", ()),
        ({"status": "incomplete", "incomplete_details": None}, "incomplete", "no", "JobIncomplete", None, ("empty_output",)),
        ({"status": "cancelled"}, "cancelled", "no", "JobCancelled", None, ()),
        ({"status": "canceled", "error": SERVER_ERROR}, "cancelled", "no", "JobCancelled", "server_error", ()),
        ({"status": "expired"}, "expired", "no", "JobExpired", None, ()),
        ({"status": "requires_action"}, "requires_action", "no", "JobNeedsAction", None, ()),
        ({"status": "blocked"}, "blocked", "no", "ContentPolicyError", None, ()),
        ({"status": "rejected", "error": SERVER_ERROR}, "rejected", "no", "BadRequestError", "server_error", ()),
        ({"status": "blocked_budget"}, "blocked_budget", "no", "QuotaExceededError", None, ()),
        ({"status": "TIMED_OUT"}, "timeout", "limited", "APITimeoutError", None, ()),
        ({"status": "overloaded"}, "overloaded", "yes", "InternalServerError", None, ()),
        ({"status": "aborted"}, "aborted", "no", "APIStatusError", None, ()),
        ({"status": "aborted", "aborted_by": "system"}, "aborted", "yes", "APIStatusError", None, ()),
        ({"status": "aborted", "error": SERVER_ERROR}, "internal_error", "twice", "InternalServerError", "server_error", ()),
    ],
)  # fmt: skip
def test_p11_how_jobs_fail(body, state, retry, kind, code, warnings):
    ended = outcome(body)
    assert (ended.state, ended.retry, ended.warnings) == (state, retry, warnings)
    assert (ended.problem.kind, ended.problem.code) == (kind, code)
    assert ended.problem.source == (Source.TOOL if body.get("output") == [FAILED_IMAGE] else Source.SERVICE)
    assert ended.problem.type
    assert ended.problem.message
    assert ended.status == body["status"]


def test_p14_a_rate_limit_only_in_the_text():
    ended = outcome({"status": "failed", "error": {"code": None, "message": "Rate limit reached, try again in 2s"}})
    assert (ended.state, ended.retry, ended.retry_after) == (State.RATE_LIMITED, Retry.YES, 2.0)
    assert ended.warnings == ("classified_by_text",)


def test_p02_another_id_is_believed_and_noted():
    seen = poll({"id": "resp_other", "status": "in_progress"})
    assert seen.outcome.warnings == ("id_changed",)
    assert poll({"status": "completed", "id": "x", "output": [MESSAGE]}).outcome.warnings == ("id_changed",)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()), ("12", Usage()), ({"input_tokens": "12", "output_tokens": None}, Usage()), ({"input_tokens": True}, Usage()),
        ({"input_tokens": -1, "total_tokens": 2**70}, Usage()), ([], Usage()),
        ({"input_tokens": 12, "output_tokens": 90, "total_tokens": 102, "input_tokens_details": {"cached_tokens": 3},
          "output_tokens_details": {"reasoning_tokens": 64}}, Usage(12, 90, 102, 3, 64)),
        ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, "prompt_tokens_details": {"cached_tokens": 1},
          "completion_tokens_details": None}, Usage(5, 6, 11, 1, None)),
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8, None, 8)),
    ],
)  # fmt: skip
def test_p16_usage_is_never_guessed(usage, expected):
    assert outcome({"status": "completed", "output": [MESSAGE], "usage": usage}).usage == expected


@pytest.mark.parametrize(
    ("body", "billing"),
    [
        ({"status": "completed", "output": [MESSAGE]}, Billing.BILLED),
        ({"status": "incomplete"}, Billing.BILLED),
        ({"status": "failed"}, Billing.UNKNOWN),
        ({"status": "failed", "usage": {"total_tokens": 0}}, Billing.NOT_BILLED),
        ({"status": "failed", "usage": {"input_tokens": 3}}, Billing.BILLED),
        ({"status": "cancelled", "usage": None}, Billing.UNKNOWN),
    ],
)
def test_billing_is_recorded_only_where_it_is_known(body, billing):
    assert outcome(body).billing is billing


@pytest.mark.parametrize("raw", [b'{"id":"resp_1","status":"completed","x":"\\ud800"}', b'\xef\xbb\xbf{"status":"completed"}',
                                 b'{"status":"completed","x":NaN}', b'{"status":"completed","x":' + b"[" * 5000 + b"]" * 5000 + b"}"])  # fmt: skip
def test_p17_lax_json_is_kept(raw):
    seen = poll(raw)
    assert (seen.outcome.state, seen.outcome.warnings[-1]) == (State.SUCCEEDED, "body_not_strict_json")
    json.loads(seen.body, parse_constant=pytest.fail)


def test_p18_line_breaks_go_and_nothing_else():
    seen = poll(b'{\n "id": "resp_1",\n "status": "completed",\n "n": 1.10\n}')
    assert seen.body == b'{ "id": "resp_1", "status": "completed", "n": 1.10}'


@pytest.mark.parametrize(
    ("status", "body", "trouble"),
    [
        (500, b"", Trouble.TRANSIENT), (502, b"<html>", Trouble.TRANSIENT), (503, {}, Trouble.TRANSIENT), (408, {}, Trouble.TRANSIENT),
        (429, {}, Trouble.TRANSIENT), (409, {}, Trouble.TRANSIENT), (200, b"", Trouble.TRANSIENT), (200, b'{"id"', Trouble.TRANSIENT),
        (200, [], Trouble.TRANSIENT), (204, b"", Trouble.TRANSIENT), (200, b"<html>log in", Trouble.FOREIGN), (301, b"", Trouble.FOREIGN),
        (400, {}, Trouble.FOREIGN), (405, {}, Trouble.FOREIGN), (401, {}, Trouble.UNAUTHORISED), (402, {}, Trouble.UNAUTHORISED),
        (403, {}, Trouble.UNAUTHORISED), (404, {}, Trouble.NOT_FOUND), (410, {}, Trouble.NOT_FOUND),
    ],
)  # fmt: skip
def test_p01_a_poll_that_fails_is_not_a_job_that_failed(status, body, trouble):
    verdict = poll(body, status)
    assert isinstance(verdict, Unclear)
    assert verdict.trouble is trouble


def test_p15_a_result_over_the_cap_is_reported():
    seen = read_poll(Failure(sent=True, cause=Cause.TOO_LARGE, message="over 64 MiB"), WALL, "resp_1")
    assert (seen.outcome.state, seen.outcome.problem.code, seen.outcome.retry) == (
        State.FAILED,
        "result_too_large",
        Retry.NO,
    )


def test_the_service_may_name_the_next_poll():
    assert poll({"id": "resp_1", "status": "queued"}, openai_poll_after_ms="2500").outcome.poll_after == 2.5
    assert poll({"id": "resp_1", "status": "queued"}, retry_after="4").outcome.poll_after == 4.0
    assert poll({"id": "resp_1", "status": "queued"}, openai_poll_after_ms="soon").outcome.poll_after is None
    assert poll({}, 503, retry_after="9").retry_after == 9.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 500])
def test_after_a_cancel_that_was_refused_the_job_is_polled(status):
    assert read_cancel(answer(status, {"error": {}}), WALL, "resp_1").trouble is Trouble.TRANSIENT


def test_a_cancel_response_with_the_job_counts_as_a_poll():
    assert (
        read_cancel(answer(200, {"id": "resp_1", "status": "cancelled"}), WALL, "resp_1").outcome.state
        is State.CANCELLED
    )
    assert (
        read_cancel(answer(200, {"id": "resp_1", "status": "cancelling"}), WALL, "resp_1").outcome.status
        == "cancelling"
    )


# --- anything at all ---

WORDS = st.sampled_from(
    (
        "id status error code type message param output choices data usage model incomplete_details reason content "
        "text refusal completed failed queued cancelled incomplete aborted insufficient_quota server_error resp_1 "
        "detail finish_reason length"
    ).split()
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=6),
    max_leaves=25,
)
BODIES = st.binary(max_size=80) | ANY.map(lambda value: json.dumps(value).encode())
HEADERS = st.dictionaries(
    st.sampled_from(
        ["retry-after", "retry-after-ms", "x-should-retry", "openai-poll-after-ms", "x-request-id", "location", "date"]
    ),
    st.text(),
)
STATUSES = st.integers(0, 700) | st.sampled_from([200, 202, 400, 404, 429, 500])
ANSWERS = st.builds(Answer, STATUSES, HEADERS, BODIES, st.just(NOT_READ))


@given(ANSWERS, st.booleans())
def test_any_submit_response_is_a_verdict(response, background):
    verdict = read_submit(response, WALL, background=background)
    if isinstance(verdict, Accepted):
        assert isinstance(verdict.outcome, Ended) or is_safe_id(verdict.job_id)
        json.loads(verdict.body, parse_constant=pytest.fail)


@given(ANSWERS)
def test_any_poll_or_cancel_response_is_a_verdict(response):
    for read in (read_poll, read_cancel):
        verdict = read(response, WALL, "resp_1")
        if isinstance(verdict, JobReport) and isinstance(verdict.outcome, Ended):
            assert (verdict.outcome.state is State.SUCCEEDED) or verdict.outcome.problem is not None
            assert verdict.outcome.retry is Retry.NO or verdict.outcome.state is not State.SUCCEEDED
