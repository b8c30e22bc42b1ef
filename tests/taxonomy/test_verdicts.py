"""The verdict on a response in whatever form: the runner's own, as its readers give it."""

import json
from pathlib import Path

import httpx
import httpx2
import openai
import orjson
import pytest
from openai.types import CreateEmbeddingResponse, ImagesResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from batchrun import errors, taxonomy
from batchrun.core.jobs.jobs import rejected
from batchrun.core.responses.http import Answer, Cause, Failure
from batchrun.core.responses.outcome import Ended, Running
from batchrun.core.responses.verdict import Accepted, Ambiguous, JobReport, Refused, Unclear, read_poll, read_submit
from batchrun.core.settings.settings import Settings
from batchrun.core.taxonomy.rules import DEFAULT_RETRIES, TAXONOMY, Retry, WordField
from tests.e2e.stage import ROOT

URL = "https://api.example/v1"
EXAMPLES = {"3xx": 308, "4xx": 418, "5xx": 502}
BY_FIELD = {field: [rule for rule in TAXONOMY if rule.field is field] for field in WordField}

# Words of batchrun's own that no response leads to: the check states them, a cancel, a deadline, or what a run knows of
# its other jobs.
OF_NO_RESPONSE = set(
    "invalid_json invalid_utf8 invalid_unicode not_an_object invalid_custom_id row_too_large no_body no_model unknown_url "
    "invalid_method unknown_field duplicate_id duplicate_job_id cancelled_by_user cancelled_by_interrupt "
    "deadline_exceeded job_not_found result_too_large".split()
)


def job(**more):
    return {"id": "resp_1", "object": "response", **more}


def body_of(rule):
    """The body of a job that ended by that rule alone."""
    match rule.field:
        case WordField.CODE:
            return job(status="failed", error={"code": rule.word, "message": "m"})
        case WordField.TYPE:
            return job(status="failed", error={"type": rule.word, "message": "m"})
        case WordField.REASON:
            return job(status="incomplete", incomplete_details={"reason": rule.word})
        case WordField.STATUS:
            return job(status=rule.word)
        case WordField.HTTP:  # vLLM and Azure give the number as a code
            return job(status="failed", error={"code": str(EXAMPLES.get(rule.word, rule.word)), "message": "m"})
        case WordField.TOOL if rule.word == "aborted_by_system":
            return job(status="aborted", aborted_by="system")
        case WordField.TOOL if rule.word == "contradictory_status":
            return job(status="completed", state="failed")
        case WordField.TOOL:
            return job(status="failed", error={"code": rule.word, "message": "m"})


def of_runner(reading):
    """What a reader of the runner said, as the facts of a verdict."""
    match reading:
        case JobReport(outcome=Running(unclear=None)) | Accepted(outcome=Running(unclear=None)):
            return {"state": None, "running": True, "error": None, "retryable": False, "retries": 0, "halts": False}
        case JobReport(outcome=Running(unclear=unclear)):
            return {**facts(unclear), "state": None, "running": None, "error": quiet(unclear.problem)}
        case JobReport(outcome=Ended() as end) | Accepted(outcome=Ended() as end):
            return facts(end)
        case Refused():
            retry = reading.rule.retry if reading.again else Retry.NO
            return facts(
                rejected(reading.problem, reading.rule.state, reading.rule.billing_reason), retry, reading.rule
            )
        case Ambiguous():
            halts = reading.rule is not None and reading.rule.halts
            return {"state": "unconfirmed", "running": None, "error": reading.problem, "retryable": False, "retries": 0,
                    "halts": halts, "billing": "unknown"}  # fmt: skip
        case Unclear():
            return {"state": None, "running": None, "error": quiet(reading.problem), "retryable": False, "retries": 0,
                    "billing": "unknown"}  # fmt: skip


def facts(end, retry=None, rule=None):
    retry = end.retry if retry is None else retry
    return {
        "state": end.state,
        "running": False,
        "error": end.problem,
        "retryable": retry is not Retry.NO,
        "retries": retry.allowance(Settings().retries),
        "halts": end.halts if rule is None else rule.halts,
        "billing": end.billing,
        "billing_reason": end.billing_reason,
    }


def quiet(problem):
    """A problem of a job that may be running: no retry is worth its price."""
    values = {
        name: getattr(problem, name) for name in ("code", "type", "message", "param", "kind", "source", "http_status")
    }
    return type(problem)(**values, retryable=False)


def same(verdict, reading):
    expected = of_runner(reading)
    assert {name: getattr(verdict, name) for name in expected} == expected
    if expected["running"] or expected["state"] == "succeeded":
        assert verdict.exception is None
    else:
        assert type(verdict.exception) is getattr(errors, verdict.error.kind)
        assert verdict.exception.problem == verdict.error
    return verdict


def test_the_retries_of_a_verdict_are_those_of_a_run_without_flags():
    assert Settings().retries == DEFAULT_RETRIES


@pytest.mark.parametrize("rule", TAXONOMY, ids=lambda rule: f"{rule.field}-{rule.word}")
def test_every_row_of_the_table_as_sdk_object_dict_bytes_and_text(rule):
    body = body_of(rule)
    raw = orjson.dumps(body)
    reading = read_poll(Answer(200, {}, raw), 0.0, "resp_1")
    for response in (body, raw, raw.decode(), Response.construct(**body), httpx.Response(200, content=raw)):
        verdict = same(taxonomy.classify(response), reading)
        assert verdict.job_id == "resp_1"
    is_read = rule.field in (WordField.CODE, WordField.TYPE, WordField.REASON, WordField.STATUS)
    if is_read or rule.word == "aborted_by_system" or (rule.field is WordField.HTTP and rule.word != "3xx"):
        given = (verdict.state, verdict.error.kind, verdict.retryable, verdict.retries, verdict.halts)
        assert given == (rule.state, rule.kind, rule.retryable, rule.retries, rule.halts)
        assert (verdict.billing_reason, verdict.advice) == (rule.billing_reason, rule.advice)


CLIENT = openai.OpenAI(api_key="sk-none", base_url=URL)


def sdk_error(status, raw, headers, method, path):
    """The exception that the SDK raises for a response."""
    request = httpx2.Request(method, f"{URL}{path}")
    answer = httpx2.Response(status, content=raw, headers=headers, request=request)
    return CLIENT._make_status_error_from_response(answer)


HEADERS = {"retry-after": "7"}


@pytest.mark.parametrize("rule", BY_FIELD[WordField.HTTP], ids=lambda rule: rule.word)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_http_status_as_exception_of_the_sdk_and_as_httpx_response(rule, method):
    status = EXAMPLES.get(rule.word) or int(rule.word)
    for error in (
        {},
        {"error": {"message": "m"}},
        {"error": {"code": "slow_down", "type": "requests", "message": "m"}},
    ):
        raw = orjson.dumps(error) if error else b""
        answer = Answer(status, HEADERS, raw)
        path = "/responses/resp_1" if method == "GET" else "/responses"
        reading = read_poll(answer, 0.0, "resp_1") if method == "GET" else read_submit(answer, 0.0)
        plain = httpx.Response(status, content=raw, headers=HEADERS, request=httpx.Request(method, URL + path))
        raised = sdk_error(status, raw, HEADERS, method, path)
        for response in (plain, raised):
            verdict = same(taxonomy.classify(response), reading)
            assert verdict.retry_after == (None if isinstance(reading, Ambiguous) else 7.0)
            assert verdict.job_id == ("resp_1" if method == "GET" else None)
        if raw:  # some programs make these exceptions themselves, with a body and an empty response
            empty = httpx2.Response(status, headers=HEADERS, request=raised.request)
            made = type(raised)("m", response=empty, body=raised.body)
            same(taxonomy.classify(made), reading)


@pytest.mark.parametrize("rule", BY_FIELD[WordField.TOOL], ids=lambda rule: rule.word)
def test_what_batchrun_states_itself_is_stated_of_the_same_responses(rule):
    post, get = httpx.Request("POST", f"{URL}/responses"), httpx.Request("GET", f"{URL}/responses/resp_1")
    lost = Failure(True, Cause.DROPPED, "m")  # noqa: FBT003 - as the transport says it
    cases = {
        "connection_failed": (httpx.ConnectError("m", request=post), read_submit(lost._replace(sent=False), 0.0)),
        "queue_full": (
            httpx.Response(400, json={"error": {"message": "the queue is full"}}, request=post),
            read_submit(Answer(400, {}, b'{"error": {"message": "the queue is full"}}'), 0.0),
        ),
        "answer_lost": (httpx.ReadError("m", request=post), read_submit(lost, 0.0)),
        "unusable_job_id": (
            httpx.Response(200, json={"id": "../x", "status": "queued"}, request=post),
            read_submit(Answer(200, {}, b'{"id": "../x", "status": "queued"}'), 0.0),
        ),
        "unreadable_result": (
            httpx.Response(200, text="<html>", request=get), read_poll(Answer(200, {}, b"<html>"), 0.0, "resp_1"),
        ),
        "aborted_by_system": (
            body_of(rule), read_poll(Answer(200, {}, orjson.dumps(body_of(rule))), 0.0, "resp_1"),
        ),
        "contradictory_status": (
            body_of(rule), read_poll(Answer(200, {}, orjson.dumps(body_of(rule))), 0.0, "resp_1"),
        ),
    }  # fmt: skip
    assert (rule.word in cases) is not (rule.word in OF_NO_RESPONSE)
    if rule.word not in cases:
        return
    response, reading = cases[rule.word]
    verdict = same(taxonomy.classify(response), reading)
    if rule.word not in ("aborted_by_system", "queue_full"):
        assert verdict.error.code == rule.word
    assert verdict.error.kind == rule.kind


# --- Which reader it is for ---


CHAT = {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": {"content": "hi"}}]}
CUT_OFF = {"id": "c", "choices": [{"index": 0, "finish_reason": "length", "message": {"content": "hi"}}]}
FAILED_ON_ITS_WAY = {"id": "c", "choices": [{"index": 0, "error": {"code": 429, "message": "m"}}]}
VECTOR = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}
PICTURE = {"created": 1, "data": [{"b64_json": "aGk="}]}
NO_PICTURE = {"created": 1, "data": [{}]}


@pytest.mark.parametrize(
    ("kind", "path", "form", "body"),
    [
        (ChatCompletion, "/chat/completions", "choices", CHAT),
        (ChatCompletion, "/chat/completions", "choices", CUT_OFF),
        (ChatCompletion, "/chat/completions", "choices", FAILED_ON_ITS_WAY),
        (CreateEmbeddingResponse, "/embeddings", "embeddings", VECTOR),
        (ImagesResponse, "/images/generations", "images", PICTURE),
        (ImagesResponse, "/images/generations", "images", NO_PICTURE),
    ],
)
def test_a_result_without_a_status_is_read_in_the_form_of_its_endpoint(kind, path, form, body):
    raw = orjson.dumps(body)
    reading = read_submit(Answer(200, {}, raw), 0.0, background=False, result=form)
    posted = httpx.Response(200, content=raw, request=httpx.Request("POST", f"{URL}{path}"))
    for response in (body, raw, kind.construct(**body), posted):
        same(taxonomy.classify(response), reading)


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelling", "never heard of", None])
def test_a_job_that_is_still_running_raises_nothing(status):
    body = job(status=status)
    verdict = taxonomy.classify(body)
    same(verdict, read_poll(Answer(200, {}, orjson.dumps(body)), 0.0, "resp_1"))
    assert (verdict.running, verdict.status) == (True, status)
    assert verdict.warnings == (() if status in ("queued", "in_progress", "cancelling") else ("unknown_status",))
    assert taxonomy.raise_for_response(body) is None
    assert taxonomy.raise_for_response(body, as_openai=True) is None


@pytest.mark.parametrize("body", [{"error": {"code": "server_error", "message": "m"}}, job(status="completed", state="failed")])  # fmt: skip
def test_what_does_not_show_whether_the_job_is_over_is_neither_success_nor_worth_a_retry(body):
    verdict = same(taxonomy.classify(body), read_poll(Answer(200, {}, orjson.dumps(body)), 0.0, "resp_1"))
    assert (verdict.state, verdict.running, verdict.retryable) == (None, None, False)
    with pytest.raises(errors.JobError) as caught:
        taxonomy.raise_for_response(body)
    assert caught.value.retryable is False


def test_a_success_keeps_its_warnings():
    assert taxonomy.classify(job(status="completed", output=[])).warnings == ("empty_output",)
    assert taxonomy.raise_for_response(job(status="completed", output=[])) is None


def test_a_cancel_counts_only_where_it_shows_a_job():
    request = httpx.Request("POST", f"{URL}/responses/resp_1/cancel")
    shown = httpx.Response(200, json=job(status="cancelled"), request=request)
    assert taxonomy.classify(shown).state == "cancelled"
    refused = httpx.Response(400, json={"error": {"message": "m"}}, request=request)
    verdict = taxonomy.classify(refused)
    assert (verdict.state, verdict.running, verdict.retryable) == (None, None, False)


def test_a_poll_that_failed_is_no_job_that_failed():
    for status in (401, 404, 408, 429, 500, 503):
        request = httpx.Request("GET", f"{URL}/responses/resp_1")
        verdict = taxonomy.classify(httpx.Response(status, request=request))
        assert (verdict.state, verdict.running, verdict.retryable, verdict.retries) == (None, None, False, 0)
        assert verdict.exception.retryable is False
        assert verdict.halts is (status == 401)
        assert "poll" in verdict.advice


@pytest.mark.parametrize("made", [
    lambda request: openai.APIConnectionError(request=request),
    openai.APITimeoutError,
    lambda request: httpx.ReadTimeout("m", request=httpx.Request(request.method, str(request.url))),
    lambda request: TimeoutError("m"),
    lambda request: ConnectionResetError("m"),
])  # fmt: skip
def test_a_lost_connection_is_a_poll_that_failed_unless_it_was_a_submit(made):
    polled = made(httpx2.Request("GET", f"{URL}/responses/resp_1"))
    verdict = taxonomy.classify(polled)
    assert (verdict.state, verdict.running, verdict.error.kind) == (None, None, "APIConnectionError")
    sent = made(httpx2.Request("POST", f"{URL}/responses"))
    if hasattr(sent, "request"):
        verdict = taxonomy.classify(sent)
        assert (verdict.state, verdict.error.code, verdict.billing) == ("unconfirmed", "answer_lost", "unknown")
    raised = made(httpx2.Request("POST", f"{URL}/responses"))
    raised.__cause__ = httpx2.ConnectError("refused")
    if hasattr(raised, "request"):
        verdict = taxonomy.classify(raised)
        assert (verdict.error.code, verdict.running, verdict.retryable) == ("connection_failed", False, True)


def test_what_the_sdk_says_of_a_chat_that_was_cut_off():
    chat = ChatCompletion.construct(**CUT_OFF)
    verdict = taxonomy.classify(openai.LengthFinishReasonError(completion=chat))
    assert (verdict.state, verdict.error.kind) == ("incomplete", "LengthFinishReasonError")
    assert verdict.exception.record.text == "hi"
    verdict = taxonomy.classify(openai.ContentFilterFinishReasonError())
    assert (verdict.state, verdict.error.kind) == ("incomplete", "ContentFilterFinishReasonError")
    streamed = openai.APIError("m", httpx2.Request("POST", f"{URL}/responses"), body={"code": "server_error"})
    assert taxonomy.classify(streamed).error.code in ("server_error", "answer_lost")


def test_a_long_response_that_is_not_strict_json_is_read_as_a_run_reads_it():
    raw = (
        orjson.dumps(job(status="failed", error={"code": "server_error", "message": "m" * 30_000}))[:-1] + b',"x":NaN}'
    )
    verdict = taxonomy.classify(raw)
    assert (verdict.state, verdict.warnings) == ("internal_error", ("body_not_strict_json",))


def test_the_exception_has_the_whole_record():
    body = job(
        status="failed", model="gpt-5", error={"code": "server_error", "message": "m"}, usage={"total_tokens": 7}
    )
    error = taxonomy.classify(body).exception
    assert str(error) == "resp_1: m"
    record = error.record
    assert (record.key, record.job_id, record.model, record.body) == ("resp_1", "resp_1", "gpt-5", body)
    assert (record.usage.total_tokens, record.billing, record.http_status) == (7, "billed", 200)
    assert str(taxonomy.classify({"error": {"message": "m"}}).exception) == "m", "without an id there is none before it"


def test_a_number_as_an_id_is_no_other_id():
    assert taxonomy.classify({"id": 7, "status": "completed", "output": "x"}).warnings == ()


# --- raise_for_response ---


def test_what_is_raised_for_an_exception_of_the_sdk():
    refused = sdk_error(429, b"", {}, "POST", "/responses")
    with pytest.raises(errors.RateLimitError) as ours:
        taxonomy.raise_for_response(refused)
    assert ours.value.__cause__ is refused
    with pytest.raises(openai.RateLimitError) as theirs:
        taxonomy.raise_for_response(refused, as_openai=True)
    assert theirs.value is refused
    with pytest.raises(openai.RateLimitError):
        response = httpx.Response(429, request=httpx.Request("POST", f"{URL}/responses"))
        taxonomy.raise_for_response(
            httpx.HTTPStatusError("m", request=response.request, response=response), as_openai=True
        )


def test_without_openai_only_its_exceptions_are_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    body = job(status="failed", error={"code": "rate_limit_exceeded", "message": "m"})
    with pytest.raises(errors.RateLimitError):
        taxonomy.raise_for_response(body)
    with pytest.raises(ImportError, match=r"pip install 'batchrun-jobs\[openai\]'"):
        taxonomy.raise_for_response(body, as_openai=True)


@pytest.mark.parametrize("response", [None, 7, [], object(), ValueError("m"), Response])
def test_what_is_not_a_response_is_refused(response):
    with pytest.raises(TypeError, match="expected a response"):
        taxonomy.classify(response)


# --- Services with their own field names ---

FARM = Path(ROOT / "samples" / "profile.toml")


def test_a_service_of_your_own_is_read_by_its_profile():
    running = {"job": {"id": "j-1", "state": "baking"}}
    assert taxonomy.classify(running, service=FARM).running is True
    failed = {"job": {"id": "j-1", "state": "burnt", "problem": {"kind": "rate_limit_exceeded", "message": "m"}}}
    for response in (failed, json.dumps(failed), httpx.Response(200, json=failed)):
        verdict = taxonomy.classify(response, service=str(FARM))
        assert (verdict.state, verdict.status, verdict.job_id) == ("rate_limited", "burnt", "j-1")
        with pytest.raises(openai.RateLimitError):
            taxonomy.raise_for_response(response, as_openai=True, service=FARM)
    request = httpx.Request("POST", "https://render.example/api/v2/jobs")
    verdict = taxonomy.classify(httpx.Response(202, json=running, request=request), service=FARM)
    assert (verdict.running, verdict.job_id, verdict.status) == (True, "j-1", "baking")
    full = httpx.Response(507, json={"error": {"message": "m"}}, request=request)
    assert taxonomy.classify(full, service=FARM).running is False, "the profile says that nothing was created"
    assert taxonomy.classify(full).running is None
    gone = httpx.Request("DELETE", "https://render.example/api/v2/jobs/j-1")
    scraped = httpx.Response(200, json={"job": {"id": "j-1", "state": "scraped"}}, request=gone)
    assert taxonomy.classify(scraped, service=FARM).state == "cancelled"


@pytest.mark.parametrize("service", ["openai", "azure", "proxyapi", "compatible"])
def test_services_that_are_known_by_name(service):
    assert taxonomy.classify(job(status="expired"), service=service).state == "expired"


def test_an_unusable_service_is_named(tmp_path):
    with pytest.raises(errors.SettingsError, match=r"expected one of openai, .* or a file FILE.toml, got 'oven'"):
        taxonomy.classify({}, service="oven")
    with pytest.raises(errors.SettingsError, match="cannot read the profile"):
        taxonomy.classify({}, service=tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("=")
    with pytest.raises(errors.SettingsError, match="is not TOML"):
        taxonomy.classify({}, service=tmp_path / "bad.toml")
    (tmp_path / "odd.toml").write_text("nmae = 'x'")
    with pytest.raises(errors.SettingsError, match="did you mean 'name'"):
        taxonomy.classify({}, service=tmp_path / "odd.toml")
