"""Responses to submits, polls and cancels over a real socket (the cases s, p and c, as far as no runner is needed)."""

import asyncio
import json
import re

import pytest

from batchrun.core.responses.outcome import NO_USAGE, Ended, Running
from batchrun.core.responses.verdict import Accepted, Ambiguous, JobReport, Refused, Trouble, Unclear
from batchrun.core.taxonomy.rules import State
from batchrun.edge.exchange import Caps
from tests.edge.hostile_server import always, answer
from tests.edge.transports import OURS, TRANSPORTS
from tests.services import over_socket
from tests.services.over_socket import openai, polled, submitted, verdicts_of

DONE = {"id": "resp_1", "status": "completed", "output": [{"type": "message", "content": [{"text": "hello"}]}]}
IMAGE = {"type": "image_generation_call", "status": "generating", "result": "aGk="}
REFUSAL = {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}
NO_TOOL = {"type": "image_generation_call", "status": "failed", "result": None}
SERVER_ERROR = {"code": "server_error", "message": "boom"}


@pytest.fixture(autouse=True, params=OURS)
def carried_by(request, monkeypatch):
    """Every test here runs over each wire of ours."""
    monkeypatch.setattr(over_socket, "own", OURS[request.param])


@pytest.fixture(params=TRANSPORTS)
def transport(request):
    return TRANSPORTS[request.param]


def error(status, code=None, message="no", **headers):
    return answer(status, {"error": {"code": code, "message": message}}, **headers)


async def drop(talk):
    await talk.request()


def cut(whole, at):
    async def script(talk):
        await talk.request()
        await talk.send(whole[:at])

    return script


def sequence(*answers):
    remaining = iter(answers)

    async def script(talk):
        while await talk.request():
            await talk.send(next(remaining))

    return script


# --- submits; s01 without a connection: tests/edge/test_transports.py ---

WHOLE = answer(200, {"id": "resp_1", "status": "queued"}, x_request_id="req_1")


@pytest.mark.parametrize("at", [0, 5, 17, 40, WHOLE.index(b"\r\n\r\n") + 2, WHOLE.index(b"{") + 9, len(WHOLE) - 1])
def test_s02_a_submit_dropped_before_the_end_of_its_answer(transport, at):
    assert isinstance(submitted(cut(WHOLE, at), open_transport=transport), Ambiguous)


def test_s03_a_submit_whose_answer_does_not_come(transport):
    verdict = submitted(lambda talk: talk.hold(), open_transport=transport, limit=0.08)
    assert isinstance(verdict, Ambiguous)
    assert re.search(r"within [0-9.]+ s", verdict.problem.message)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(answer(200), id="s04-empty"),
        pytest.param(answer(200, b"<html><title>Welcome"), id="s04-html"),
        pytest.param(answer(200, b'{"id": "resp_'), id="s04-broken"),
        pytest.param(answer(200, {"status": "queued"}), id="s05-no-id"),
        pytest.param(answer(200, {"data": []}), id="s05-no-result"),
        pytest.param(answer(204), id="s11-204"),
        pytest.param(error(408), id="s19-408"),
        pytest.param(error(409, "conflict"), id="s19-409"),
        pytest.param(error(499), id="s19-499"),
        pytest.param(error(500, "server_error"), id="s23-500"),
        pytest.param(error(502), id="s23-502"),
        pytest.param(error(504), id="s23-504"),
        pytest.param(error(524), id="s23-52x"),
        pytest.param(answer(503, b"<html><title>Service Unavailable"), id="s23-html"),
    ],
)
def test_an_ambiguous_submit(raw):
    verdict = submitted(raw)
    assert isinstance(verdict, Ambiguous)
    assert verdict.problem.code == "answer_lost"


@pytest.mark.parametrize(
    "job_id",
    [None, 7, ["resp_1"], "x" * 10_000, "../x", "a?b", "a/cancel", "a%2fb", "a\r\nb", ".", "..", "", "jöb"],
    ids=lambda value: repr(value)[:20],
)
def test_s06_s08_an_unsafe_id_is_never_in_a_url(job_id):
    verdict = submitted(answer(200, {"id": job_id, "status": "queued"}))
    assert isinstance(verdict, Ambiguous)
    assert verdict.problem.code == "unusable_job_id"
    service = openai("http://127.0.0.1:1")
    for build in (service.poll, service.cancel):
        with pytest.raises((ValueError, TypeError)):
            build(job_id)


def test_s07_one_id_for_two_rows_is_handed_up_as_it_came():
    first, second = verdicts_of(always(WHOLE), ("submit", "/responses"), ("submit", "/responses"))
    assert first.job_id == second.job_id == "resp_1"


@pytest.mark.parametrize(
    ("status", "state"),
    [("completed", State.SUCCEEDED), ("failed", State.FAILED), ("incomplete", State.INCOMPLETE)],
)
def test_s09_a_job_that_is_over_at_once(status, state):
    verdict = submitted(answer(200, {**DONE, "status": status}))
    assert isinstance(verdict, Accepted)
    assert verdict.outcome.state is state


@pytest.mark.parametrize("status", [201, 202])
def test_s10_another_2xx_is_an_acceptance(status):
    assert submitted(answer(status, {"id": "resp_1", "status": "queued"})).http_status == status


@pytest.mark.parametrize(
    ("raw", "state", "again", "halts"),
    [
        pytest.param(error(400, "invalid_request_error"), State.REJECTED, False, False, id="s12"),
        pytest.param(error(400, None, "the queue is full"), State.OVERLOADED, True, False, id="s13"),
        pytest.param(error(401, "invalid_api_key"), State.REJECTED, False, True, id="s14"),
        pytest.param(answer(402, {"detail": "balance"}), State.BLOCKED_BUDGET, False, True, id="s15-402"),
        pytest.param(error(429, "insufficient_quota"), State.BLOCKED_BUDGET, False, True, id="s15-429"),
        pytest.param(error(403, "unsupported_country"), State.REJECTED, False, False, id="s16"),
        pytest.param(error(404, "model_not_found"), State.REJECTED, False, False, id="s17"),
        *[pytest.param(error(status), State.REJECTED, False, False, id=f"s18-{status}") for status in (405, 410, 413, 415, 422)],
        pytest.param(answer(301, b"", location="https://other.example/v1"), State.REJECTED, False, False, id="s18-301"),
        pytest.param(error(503, "server_is_overloaded"), State.OVERLOADED, True, False, id="s22-overloaded"),
        pytest.param(error(503, "slow_down"), State.RATE_LIMITED, True, False, id="s22-slow-down"),
    ],
)  # fmt: skip
def test_a_submit_that_created_nothing(raw, state, again, halts):
    verdict = submitted(raw)
    assert isinstance(verdict, Refused)
    assert (verdict.rule.state, verdict.again, verdict.rule.halts) == (state, again, halts)


def test_s18_a_redirect_names_its_target():
    verdict = submitted(answer(308, b"", location="https://other.example/v1/responses"))
    assert "https://other.example/v1/responses" in verdict.problem.message


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT", "date": "Fri, 15 Jan 2027 08:00:00 GMT"}, 30.0),
        ({"Retry-After": " 3 "}, 3.0),
    ],
)
def test_s20_a_refusal_with_a_retry_after(headers, delay):
    verdict = submitted(answer(429, {"error": {"code": "rate_limit_exceeded"}}, **headers))
    assert verdict.again
    assert verdict.retry_after == delay


@pytest.mark.parametrize(
    "value",
    ["-1", "nan", "inf", "1e21", "Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 01 Jan 1999 00:00:00 GMT", "²", "\u0663".encode().decode("latin-1"), "", "0x10", "soon"],
)  # fmt: skip
def test_s21_a_retry_after_that_cannot_be_meant_is_ignored(value):
    verdict = submitted(answer(429, {}, retry_after=value))
    assert verdict.again
    assert verdict.retry_after is None


def test_s24_in_an_outage_each_submit_is_ambiguous():
    verdicts = verdicts_of(always(answer(502, b"<html>")), *[("submit", "/responses")] * 7)
    assert all(isinstance(verdict, Ambiguous) for verdict in verdicts)


def test_s25_refusals_with_one_code_can_be_counted_by_it():
    verdicts = verdicts_of(always(error(404, "model_not_found")), *[("submit", "/responses")] * 20)
    assert {verdict.problem.code for verdict in verdicts} == {"model_not_found"}


def test_s26_a_flood_of_100_continue_ends_at_the_deadline(transport):
    async def flood(talk):
        await talk.request()
        while True:
            await talk.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 20)
            await asyncio.sleep(0)

    verdict = submitted(flood, open_transport=transport, limit=0.15)
    assert isinstance(verdict, Ambiguous)
    assert re.search(r"within [0-9.]+ s", verdict.problem.message)


# --- polls ---


@pytest.mark.parametrize(
    "script",
    [
        drop, cut(answer(200, DONE), 30), cut(answer(200, DONE), -5), error(500, "server_error"), error(502), error(503), error(408), error(429),
        answer(200), answer(200, b'{"id": "resp_1", "status": "comp'), answer(200, b"\x00\xff"), b"\x15\x03\x01", b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
    ],
    ids=range(13),
)  # fmt: skip
def test_p01_a_poll_that_fails_is_not_a_job_that_failed(script):
    verdict = polled(script)
    assert isinstance(verdict, Unclear)
    assert verdict.trouble is Trouble.TRANSIENT


def test_p01_a_poll_that_takes_too_long(transport):
    assert polled(lambda talk: talk.hold(), open_transport=transport, limit=0.06).trouble is Trouble.TRANSIENT


def test_p02_the_id_of_another_job_is_believed_with_a_warning():
    assert polled(answer(200, {**DONE, "id": "resp_2"})).outcome.warnings == ("id_changed",)


@pytest.mark.parametrize("status", [None, "brand_new", 5])
def test_p03_an_unknown_status_word_is_polled_on(status):
    assert polled(answer(200, {"id": "resp_1", "status": status})).outcome.warnings == ("unknown_status",)
    assert isinstance(polled(answer(200, {"id": "resp_1"})).outcome, Running)


def test_p04_p05_p12_each_poll_shows_the_job_at_that_time():
    words = ["queued", "in_progress", "queued", "completed", "failed"]
    raws = [answer(200, {"id": "resp_1", "status": word}) for word in words]
    looks = [verdict.outcome for verdict in verdicts_of(sequence(*raws), *[("poll", "resp_1")] * len(words))]
    assert [isinstance(outcome, Running) for outcome in looks] == [True, True, True, False, False]


def test_p06_p07_a_404_is_not_the_end():
    first, second = verdicts_of(sequence(error(404), answer(200, DONE)), ("poll", "resp_1"), ("poll", "resp_1"))
    assert first.trouble is Trouble.NOT_FOUND
    assert second.outcome.state is State.SUCCEEDED


@pytest.mark.parametrize(
    ("raw", "trouble"),
    [
        (error(404), Trouble.NOT_FOUND),
        (error(401), Trouble.UNAUTHORISED),
        (error(403), Trouble.UNAUTHORISED),
        (answer(200, b"<html>login"), Trouble.FOREIGN),
        (answer(302, b"", location="/login"), Trouble.FOREIGN),
    ],
)
def test_p08_p09_a_wrong_service_or_key_is_distinguished_from_an_outage(raw, trouble):
    assert polled(raw).trouble is trouble


@pytest.mark.parametrize(
    ("body", "state", "warnings"),
    [
        ({"output": []}, State.SUCCEEDED, ("empty_output",)),
        ({"output": [NO_TOOL]}, State.SUCCEEDED, ("tool_failed:image_generation_call",)),
        ({"output": DONE["output"], "error": SERVER_ERROR}, State.SUCCEEDED, ("partial_output",)),
        ({"output": [], "error": SERVER_ERROR}, State.INTERNAL_ERROR, ()),
        ({"output": [REFUSAL]}, State.SUCCEEDED, ("refusal",)),
    ],
)
def test_p10_completed_is_not_yet_good(body, state, warnings):
    outcome = polled(answer(200, {"id": "resp_1", "status": "completed", **body})).outcome
    assert (outcome.state, outcome.warnings) == (state, warnings)


@pytest.mark.parametrize(
    ("body", "state", "code"),
    [
        ({"error": None}, State.FAILED, None),
        ({"error": {"code": 500}}, State.INTERNAL_ERROR, "500"),
        ({"error": {"code": "new"}}, State.FAILED, "new"),
        ({"error": SERVER_ERROR, "output": DONE["output"]}, State.INTERNAL_ERROR, "server_error"),
    ],
)
def test_p11_failed_by_its_code(body, state, code):
    outcome = polled(answer(200, {"id": "resp_1", "status": "failed", **body})).outcome
    assert (outcome.state, outcome.problem.code) == (state, code)


def test_p13_a_result_outranks_the_status_word():
    assert polled(answer(200, {**DONE, "output": [IMAGE]})).outcome.warnings == ()
    assert polled(answer(200, {**DONE, "output": [NO_TOOL]})).outcome.warnings == ("tool_failed:image_generation_call",)


def test_p14_a_rate_limit_only_in_the_text():
    outcome = polled(answer(200, {"id": "resp_1", "status": "failed", "error": "Rate limit reached"})).outcome
    assert (outcome.state, outcome.warnings) == (State.RATE_LIMITED, ("classified_by_text",))


def test_p15_a_payload_over_the_cap_is_fetched_with_a_larger_one(transport):
    large = answer(200, {**DONE, "pad": "x" * 200_000})
    outcome = polled(large, open_transport=transport, caps=Caps(body=100_000)).outcome
    assert (outcome.state, outcome.problem.code) == (State.FAILED, "result_too_large")
    assert "--max-body" in outcome.problem.message
    assert polled(large, open_transport=transport, caps=Caps(body=300_000)).outcome.state is State.SUCCEEDED


def test_p15_an_error_page_over_the_cap_is_not_a_result():
    assert isinstance(polled(answer(502, b"x" * 200_000), caps=Caps(body=100, error_body=100)), Unclear)


@pytest.mark.parametrize("usage", ["absent", None, {"input_tokens": "12"}, [], {"output_tokens": -1}])
def test_p16_usage_is_counted_or_null(usage):
    body = DONE if usage == "absent" else {**DONE, "usage": usage}
    assert polled(answer(200, body)).outcome.usage == NO_USAGE


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps({**DONE, "x": "\ud800"}).encode(),
        b'{"id": "resp_1", "status": "completed", "x": NaN}',
        b"\xef\xbb\xbf" + json.dumps(DONE).encode(),
        b'{"id": "resp_1", "status": "completed", "x": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
    ids=["surrogate", "NaN", "BOM", "depth"],
)
def test_p17_odd_json_is_kept(raw):
    verdict = polled(answer(200, raw))
    assert isinstance(verdict, JobReport)
    assert verdict.outcome.state is State.SUCCEEDED
    assert "body_not_strict_json" in verdict.outcome.warnings


def test_p18_a_pretty_response_is_put_on_one_line():
    verdict = polled(answer(200, json.dumps(DONE, indent=2).encode()))
    assert b"\n" not in verdict.body
    assert json.loads(verdict.body) == DONE


# --- cancels ---


@pytest.mark.parametrize(("word", "kind"), [("cancelled", Ended), ("cancelling", Running), ("completed", Ended)])
def test_c03_c05_a_cancel_that_is_answered_by_the_job(word, kind):
    (verdict,) = verdicts_of(answer(200, {**DONE, "status": word}), ("cancel", "resp_1"))
    assert isinstance(verdict.outcome, kind)


@pytest.mark.parametrize(
    "script", [error(400), error(404), error(409), error(500), drop], ids=[400, 404, 409, 500, "dropped"]
)
def test_c04_a_failed_cancel_is_followed_by_a_poll(script):
    (verdict,) = verdicts_of(script, ("cancel", "resp_1"))
    assert isinstance(verdict, Unclear)
    assert verdict.trouble is Trouble.TRANSIENT


def test_c04_a_cancel_that_is_never_answered():
    (verdict,) = verdicts_of(lambda verdicts_of: verdicts_of.hold(), ("cancel", "resp_1"), limit=0.06)
    assert isinstance(verdict, Unclear)


def test_c06_a_cancel_twice_and_of_an_unknown_job_is_harmless():
    script = sequence(answer(200, {**DONE, "status": "cancelled"}), error(400, None, "already cancelled"), error(404))
    first, second, third = verdicts_of(script, *[("cancel", "resp_1")] * 3)
    assert first.outcome.state is State.CANCELLED
    assert isinstance(second, Unclear)
    assert isinstance(third, Unclear)


def test_h13_text_from_outside_stays_data():
    bell = {
        "id": "resp_1\x1b[2J",
        "status": "failed",
        "error": {"code": "\x1b]52;c;aGk=\x07", "message": "\u202ebad\r\n"},
    }
    verdict = polled(answer(200, bell))
    assert verdict.outcome.problem.message == "\u202ebad\r\n"  # shown by `visible`, kept as it came
    assert b"\x1b" not in verdict.body
    message = submitted(answer(200, {"id": "\x1b[2J\r\n", "status": "queued"})).problem.message
    assert message.isprintable()
