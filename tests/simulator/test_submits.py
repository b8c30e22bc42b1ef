"""How submits are refused: the body, the key, outages, quota, rates whose headers are true, drawn refusals."""

import json
import math

import pytest

from batchrun.core.responses.http import Answer
from batchrun.core.responses.verdict import Refused, read_submit
from batchrun.simulator.limits import go_duration
from tests.simulator.bench import Bench, error_of, headers_of

ROW = {"model": "gpt-5", "input": "x", "background": True}


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("responses", b"{", 400, "expected JSON as body"),
        ("responses", b"", 400, "expected JSON as body"),
        ("responses", b'{"a": NaN}', 400, "expected JSON as body"),
        ("responses", [], 400, "expected a JSON object as body, got list"),
        ("responses", {"input": "x"}, 400, "expected a model, got none"),
        ("responses", {"model": 3, "input": "x"}, 400, "expected a model"),
        ("responses", {"model": "gpt-5"}, 400, "expected 'input', got none"),
        ("chat/completions", {"model": "gpt-5"}, 400, "expected 'messages', got none"),
        ("embeddings", {"model": "gpt-5"}, 400, "expected 'input', got none"),
        ("images/generations", {"model": "gpt-5"}, 400, "expected 'prompt', got none"),
        ("responses", {**ROW, "stream": True}, 400, "does not stream"),
        ("chat/completions", {"model": "gpt-5", "messages": [], "stream": True}, 400, "does not stream"),
        ("responses", {**ROW, "store": False}, 400, "`store: true`"),
        ("responses", {**ROW, "model": "gpt-6"}, 404, "the model 'gpt-6' does not exist here"),
    ],
)
def test_an_unfit_body_is_refused_as_openai_words_it(path, body, status, says):
    bench = Bench("models = ['gpt-5']")
    answer = bench.ask("POST", f"/v1/{path}", body)
    assert answer.status == status
    assert set(error_of(answer)) == {"message", "type", "param", "code"}
    assert says in error_of(answer)["message"]
    assert (bench.statistics.posts, bench.statistics.jobs) == (1, 0)


@pytest.mark.parametrize("prefix", ["/v1", "/openai/v1", ""])
def test_the_paths_of_openai_azure_and_the_bare_ones_are_one(prefix):
    bench = Bench()
    job = json.loads(bench.ask("POST", f"{prefix}/responses?api-version=preview", ROW).body)["id"]
    assert bench.ask("GET", f"{prefix}/responses/{job}?include=x").status == 200
    assert bench.ask("POST", f"{prefix}/responses/{job}/cancel").status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1/responses", 405, "POST"),
        ("PUT", "/v1/responses/resp_x", 405, "GET, DELETE"),
        ("GET", "/v1/responses/resp_x/cancel", 405, "POST"),
        ("DELETE", "/v1/models", 405, "GET"),
        ("POST", "/_books", 405, "GET"),
        ("GET", "/_scenario", 405, "POST"),
        ("GET", "/v1/files", 404, None),
        ("POST", "/v2/responses", 404, None),
        ("GET", "/", 404, None),
        ("GET", "/_x", 404, None),
    ],
)
def test_other_places_are_refused(method, path, status, allow):
    answer = Bench().ask(method, path)
    assert (answer.status, headers_of(answer).get("allow")) == (status, allow)
    assert error_of(answer)["message"]


def test_the_key_that_the_scenario_demands():
    bench = Bench("api_key = 'sk-good'")
    assert bench.ask("POST", "/v1/responses", ROW).status == 401
    wrong = bench.ask("POST", "/v1/responses", ROW, "sk-wrong")
    assert (wrong.status, error_of(wrong)["code"]) == (401, "invalid_api_key")
    assert b"sk-wrong" not in wrong.body
    assert bench.ask("POST", "/v1/responses", ROW, "sk-good").status == 200
    assert bench.ask("GET", "/v1/responses/resp_x").status == 401
    assert bench.ask("GET", "/_books").status == 200


def test_the_key_may_be_withdrawn():
    bench = Bench("[limits]\nkey_until = '60s'")
    job = bench.job()
    assert [bench.status_after(delay, job) for delay in (59.999, 0.001)] == ["completed", "401"]
    assert error_of(bench.submit())["code"] == "invalid_api_key"


def test_an_outage_answers_for_the_service_and_creates_nothing():
    bench = Bench("[[outages]]\nfrom = '10s'\nto = '20s'\n[[outages]]\nfrom = '30s'\nto = '31s'\nstatus = 0")
    job = bench.job("before")
    bench.now += 10
    down = bench.submit("within")
    assert (down.status, down.content_type) == (502, b"text/html")
    assert bench.status_after(9.999, job) == "502"
    assert bench.status_after(0.001, job) == "completed"
    bench.now += 10
    assert bench.submit("within").status == 0, "hung up"
    assert (bench.statistics.posts_of(row("within")), bench.statistics.jobs_of(row("within"))) == (2, 0)


def row(prompt):
    return {"model": "gpt-5", "input": prompt}


def test_the_quota_ends():
    bench = Bench("[limits]\nquota = 3")
    assert [bench.submit(f"row {i}").status for i in range(5)] == [200, 200, 200, 429, 429]
    refused = bench.submit()
    assert error_of(refused) == {
        "message": error_of(refused)["message"], "type": "insufficient_quota", "param": None, "code": "insufficient_quota",
    }  # fmt: skip
    assert "retry-after" not in headers_of(refused)
    assert bench.statistics.refusals == {"insufficient_quota": 3}


@pytest.mark.parametrize("window", [1, 10])
def test_the_headers_of_the_request_rate_are_true(window):
    bench = Bench(f"[limits]\nrpm = 600\nwindow = '{window}s'")
    at_once = 10 * window
    for i in range(at_once):
        answer = bench.submit(f"row {i}")
        told = headers_of(answer)
        assert (answer.status, told["x-ratelimit-limit-requests"]) == (200, "600")
        assert told["x-ratelimit-remaining-requests"] == str(at_once - 1 - i)
        assert told["x-ratelimit-reset-requests"] == go_duration((i + 1) / 10)
    refused = bench.submit()
    told = headers_of(refused)
    assert (refused.status, error_of(refused)["type"], error_of(refused)["code"]) == (
        429,
        "requests",
        "rate_limit_exceeded",
    )
    assert (told["retry-after-ms"], told["retry-after"], told["x-ratelimit-remaining-requests"]) == ("100", "1", "0")
    bench.now += 0.099
    assert bench.submit().status == 429, "not yet"
    bench.now += 0.001
    assert bench.submit().status == 200, "as promised"
    assert bench.submit().status == 429
    bench.now += window
    assert [bench.submit(f"again {i}").status for i in range(at_once + 1)] == [200] * at_once + [429], "reset was true"


def test_a_minutes_worth_is_accepted_in_a_minute_and_no_more():
    bench = Bench("[limits]\nrpm = 60\nwindow = '1s'")
    accepted = 0
    for i in range(6000):
        bench.now += 0.01
        accepted += bench.submit(f"row {i}").status == 200
    assert accepted in (60, 61)


def test_tokens_are_limited_and_a_large_row_does_not_starve():
    bench = Bench("[limits]\ntpm = 60_000\nwindow = '1s'")
    first = bench.submit("x", max_output_tokens=900)
    left = int(headers_of(first)["x-ratelimit-remaining-tokens"])
    assert 50 < left < 100
    refused = bench.submit("x", max_output_tokens=5000)
    assert (refused.status, error_of(refused)["type"]) == (429, "tokens")
    bench.now += int(headers_of(refused)["retry-after-ms"]) / 1000
    large = bench.submit("x", max_output_tokens=5000)
    assert large.status == 200, "more than a window's worth goes when the whole window is free"
    assert headers_of(large)["x-ratelimit-remaining-tokens"] == "0"
    bench.now += 3.9
    assert bench.submit("x", max_output_tokens=1).status == 429, "and is paid back before the next"
    bench.now += 0.2
    assert bench.submit("x", max_output_tokens=1).status == 200


@pytest.mark.parametrize(
    ("delay", "text"),
    [
        (0, "0ms"),
        (0.0121, "13ms"),
        (1, "1s"),
        (1.25, "1.25s"),
        (60, "1m0s"),
        (360, "6m0s"),
        (61.5, "1m1.5s"),
        (0.9999, "1s"),
    ],
)
def test_durations_as_services_word_them(delay, text):
    assert go_duration(delay) == text


@pytest.mark.parametrize(
    ("word", "status", "code", "again"),
    [
        ("rate_limit_exceeded", 429, "rate_limit_exceeded", True),
        ("server_is_overloaded", 503, "server_is_overloaded", True),
        ("queue_full", 400, None, True),
        ("insufficient_quota", 429, "insufficient_quota", False),
        ("invalid_prompt", 400, "invalid_prompt", False),
        ("invalid_api_key", 401, "invalid_api_key", False),
        ("http_402", 402, None, False),
        ("http_404", 404, None, False),
    ],
)
def test_a_drawn_refusal_creates_nothing_and_is_read_as_one(word, status, code, again):
    bench = Bench(f"[submits]\n{word} = 1\n[times]\npost = '1s'")
    answer = bench.submit()
    assert (answer.status, error_of(answer)["code"], answer.delay) == (status, code, 1.0)
    read = read_submit(Answer(answer.status, headers_of(answer), answer.body), 0.0)
    assert isinstance(read, Refused)
    assert read.again is again
    if status in (429, 503) and again:
        assert read.retry_after == 1
    assert (bench.statistics.posts, bench.statistics.jobs, bench.statistics.open_jobs(bench.now)) == (1, 0, 0)


def test_a_lost_answer_leaves_a_job_and_a_dropped_one_none():
    bench = Bench()
    lost, dropped = bench.submit("[[refuse lost 1]]"), bench.submit("[[refuse dropped]]")
    assert (lost.status, dropped.status) == (0, 0)
    assert bench.statistics.open_jobs(bench.now) == bench.statistics.jobs == 1
    assert bench.statistics.jobs_of(row("[[refuse lost 1]]")) == 1


def test_posts_take_their_time():
    bench = Bench("[times]\npost = '50ms..300ms'")
    delays = [bench.submit(f"row {i}").delay for i in range(200)]
    assert 0.05 <= min(delays) < 0.07
    assert 0.28 < max(delays) <= 0.3


def test_an_endpoint_that_ends_at_the_submit_takes_the_jobs_time():
    bench = Bench("[times]\nduration = '3s'\nqueued = '9s'\npost = '1s'")
    answer = bench.submit(background=False)
    assert (answer.status, answer.delay, json.loads(answer.body)["status"]) == (200, 4.0, "completed")
    assert bench.submit("[[fail server_error]]", background=False).status == 500
    assert bench.submit("[[stuck_running]]", background=False).delay == math.inf
    kept, unkept = (json.loads(bench.submit("x", background=False, store=store).body)["id"] for store in (True, False))
    assert (bench.status_after(3, kept), bench.status_after(0, unkept)) == ("completed", "404")
    assert bench.cancel(kept).status == 400, "only background responses can be cancelled"


# --- idempotency keys ---


def test_the_same_key_gets_the_same_job_for_as_long_as_it_is_kept():
    bench = Bench("[times]\nidempotency = '1h'\nduration = '10s'\n[submits]\nlost = '100%'")
    lost = bench.ask("POST", "/v1/responses", ROW, key=b"k")
    assert math.isinf(lost.delay) or lost.status == 0
    again = json.loads(bench.ask("POST", "/v1/responses", ROW, key=b"k").body)
    assert (again["status"], bench.statistics.jobs, bench.statistics.posts_of(ROW)) == ("in_progress", 1, 2)
    bench.now += 20
    later = json.loads(bench.ask("POST", "/v1/responses", ROW, key=b"k").body)
    assert (later["id"], later["status"], bench.statistics.jobs_of(ROW)) == (again["id"], "completed", 1)
    other = bench.ask("POST", "/v1/responses", {**ROW, "input": "y"}, key=b"k")
    assert (other.status, error_of(other)["code"]) == (422, "idempotency_key_reused")
    bench.now += 3600
    bench.ask("POST", "/v1/responses", ROW, key=b"k")
    assert bench.statistics.jobs == 2


@pytest.mark.parametrize("scenario", ["", "[times]\nidempotency = '0s'"])
def test_without_that_in_the_scenario_keys_mean_nothing(scenario):
    bench = Bench(scenario)
    ids = {json.loads(bench.ask("POST", "/v1/responses", ROW, key=b"k").body)["id"] for _ in range(2)}
    assert len(ids) == 2


def test_a_refused_post_keeps_no_key_and_another_scenario_forgets_none():
    bench = Bench("[times]\nidempotency = '1h'\n[limits]\nquota = 1")
    first = bench.ask("POST", "/v1/responses", ROW, key=b"a").body
    assert bench.ask("POST", "/v1/responses", ROW, key=b"b").status == 429
    assert bench.ask("POST", "/_scenario", b"[times]\nidempotency = '1h'").status == 200
    assert json.loads(bench.ask("POST", "/v1/responses", ROW, key=b"a").body)["id"] == json.loads(first)["id"]
    assert bench.ask("POST", "/v1/responses", ROW, key=b"b").status == 200
    assert bench.statistics.jobs == 2


def test_a_chat_that_is_sent_again_takes_only_what_is_left_of_its_time():
    chat = {"model": "gpt-5", "messages": [{"role": "user", "content": "x"}]}
    bench = Bench("[times]\nidempotency = '1h'\nduration = '10s'")
    first = bench.ask("POST", "/v1/chat/completions", chat, key=b"k")
    bench.now += 4
    again = bench.ask("POST", "/v1/chat/completions", chat, key=b"k")
    assert (first.delay, again.delay, again.body) == (10.0, 6.0, first.body)
