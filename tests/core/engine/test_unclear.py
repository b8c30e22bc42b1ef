"""What a response does not show is never taken for shown: contradictions, errors without a status, errors without a job.

And what it says is not lost: the words of refusals, and of responses after which it is unknown whether there is a job.
"""

import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import CancelReason
from tests.core.driver import DROPPED, UNSENT, Driver, answer, error

MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}


def always(**body):
    return lambda job_id, _: answer(200, {"id": job_id, **body})


def test_p20_two_final_words_that_exclude_each_other_end_a_job_after_three_polls_over_a_minute():
    run = Driver(1, poll=always(status="completed", state="failed", output=[MESSAGE]), poll_min=10.0, poll_max=10.0)
    record = run.run().records["row-0"]
    assert (record["state"], record["error"]["code"], record["retry_count"]) == ("failed", "contradictory_status", 0)
    assert record["response"]["body"]["output"] == [MESSAGE], "what was perhaps paid for is kept"
    first, *_, last = run.times("poll")
    assert len(run.times("poll")) >= 3
    assert last - first >= 60.0
    assert len(run.sent["submit"]) == 1


def test_p20_a_contradiction_that_heals_counts_from_the_start_again():
    def poll(job_id, n):
        states = {2: "in_progress", 5: "completed"}
        return answer(200, {"id": job_id, "status": "completed", "state": states.get(n, "failed"), "output": [MESSAGE]})

    record = Driver(1, poll=poll, poll_min=25.0, poll_max=25.0).run().records["row-0"]
    assert (record["state"], record["error"]) == ("succeeded", None)


def test_an_error_without_a_status_ends_a_job_after_three_polls_and_is_not_retried():
    run = Driver(1, poll=always(error={"code": "server_error", "message": "boom"}), poll_min=20.0, poll_max=20.0)
    record = run.run().records["row-0"]
    assert (record["state"], record["error"]["code"]) == ("internal_error", "server_error")
    first, *_, last = run.times("poll")
    assert 60.0 <= last - first < 80.0
    assert len(run.sent["submit"]) == 1


@pytest.mark.parametrize(
    ("code", "reason"), [("insufficient_quota", "quota"), ("invalid_api_key", "auth"), ("server_error", None)]
)
def test_s34_a_200_with_an_error_and_no_id_is_unconfirmed_with_the_services_words(code, reason):
    run = Driver(30, submit=lambda key, n: answer(200, {"error": {"code": code, "message": "no"}}), submits=1)
    run.run(until=3.0)
    record = run.records["row-0"]
    assert (record["state"], record["error"]["code"], record["error"]["http_status"]) == (
        "unconfirmed",
        "answer_lost",
        200,
    )
    assert f"{code}: no" in record["error"]["message"]
    assert [halt.reason for _, halt in run.told[:1]] == ([] if reason is None else [reason])
    if reason is not None:
        assert len(run.sent["submit"]) == 1, "no further row is sent"


@pytest.mark.parametrize("status", [501, 505])
def test_s29_what_the_service_does_not_do_is_rejected_and_not_retried(status):
    run = Driver(2, submit=lambda key, n: Driver.accept(run, key, n) if key == "row-0" else answer(status, b"no"))
    record = run.run().records["row-1"]
    assert (record["state"], record["billing"], len(run.sent["submit"])) == ("rejected", "not_billed", 2)


def test_s29_the_same_for_all_first_rows_halts():
    run = Driver(40, submit=lambda key, n: answer(501, b"no")).run()
    assert [halt.reason for _, halt in run.told] == ["all refused"]


def test_s30_an_overload_that_is_named_by_its_type_waits_and_is_sent_again():
    def submit(key, n):
        overloaded = {"error": {"type": "overloaded_error", "message": "Overloaded"}}
        return answer(529, overloaded) if n == 0 else Driver.accept(run, key, n)

    run = Driver(1, submit=submit)
    assert (run.run().records["row-0"]["state"], len(run.sent["submit"])) == ("succeeded", 2)


def test_s35_a_billing_that_is_not_active_halts_and_leaves_the_row_open():
    run = Driver(1, submit=lambda key, n: error(429, "billing_not_active")).run()
    assert (run.outcome, [halt.reason for _, halt in run.told], run.records) == (m.Outcome.HALTED, ["quota"], {})


@pytest.mark.parametrize(
    ("reply", "status", "words"),
    [
        (answer(500, b"<h1>broken</h1>"), 500, ["HTTP 500", "broken"]),
        (error(500, "server_error", "boom"), 500, ["HTTP 500", "server_error", "boom"]),
        (
            error(500, "server_error", "litellm.RateLimitError: RPM limit=5"),
            500,
            ["litellm.RateLimitError: RPM limit=5"],
        ),
        (error(503, "maintenance", "till noon"), 503, ["maintenance", "till noon"]),
        (error(409, "conflict", "wait"), 409, ["conflict", "wait"]),
        (error(408, "request_timeout", "slow"), 408, ["request_timeout", "slow"]),
        (answer(200, {"error": {"code": "server_error", "message": "boom"}}), 200, ["server_error", "boom"]),
        (answer(200, {"error": "boom"}), 200, ["boom"]),
        (answer(200, b"<h1>gateway</h1>"), 200, ["HTTP 200", "gateway"]),
        (answer(204), 204, ["HTTP 204"]),
        (answer(202, {"status": "queued"}), 202, ["HTTP 202", "queued"]),
        (answer(200, {"id": "a/b", "status": "queued"}), 200, ["a/b"]),
        (DROPPED, None, ["dropped"]),
    ],
    ids=str,
)
def test_an_unconfirmed_row_keeps_what_the_service_said(reply, status, words):
    record = Driver(1, submit=lambda key, n: reply).run().records["row-0"]
    assert (record["state"], record["error"]["http_status"]) == ("unconfirmed", status)
    assert [word for word in words if word not in record["error"]["message"]] == []


def test_on_a_post_an_error_with_an_id_and_no_status_ends_as_that_error_and_is_not_retried():
    reply = answer(200, {"id": "j", "error": {"code": "server_error", "message": "boom"}}, retry_after="5")
    run = Driver(1, submit=lambda key, n: reply).run()
    record = run.records["row-0"]
    assert (record["state"], record["error"]["code"], record["error"]["message"]) == (
        "internal_error",
        "server_error",
        "boom",
    )
    assert (record["job_id"], record["response"]["status_code"], record["retry_count"]) == ("j", 200, 0)
    assert (len(run.sent["submit"]), run.sent["poll"]) == (1, [])


# --- refusals ---


SLOW = error(429, "rate_limit_exceeded", "slow")


def accept(key, n):
    return answer(200, {"id": f"job_{key}_{n}", "status": "queued"})


def test_a_record_tells_how_often_its_row_was_refused_and_why_the_last_time():
    replies = [error(503, "slow_down"), UNSENT, error(429, "rate_limit_exceeded", "x" * 5_000)]

    def submit(key, n):
        return replies[n] if key == "row-0" and n < 3 else accept(key, n)

    run = Driver(2, submit=submit).run()
    last = {"code": "rate_limit_exceeded", "message": "x" * 200, "http_status": 429}
    assert run.records["row-0"]["refusals"] == {"count": 3, "last": last}
    assert (run.records["row-0"]["state"], run.records["row-0"]["retry_count"]) == ("succeeded", 0)
    assert run.records["row-1"]["refusals"] is None


def test_a_refusal_without_a_response_has_no_http_status():
    run = Driver(1, submit=lambda key, n: UNSENT if n == 0 else accept(key, n)).run()
    last = {"code": "connection_failed", "message": "connection refused", "http_status": None}
    assert run.records["row-0"]["refusals"] == {"count": 1, "last": last}


@pytest.mark.parametrize("accepted", [True, False])
def test_the_refusal_that_ends_a_row_is_counted_too(accepted):
    """Also where it was held back, because nothing was accepted yet."""

    def submit(key, n):
        if key == "row-1":
            return SLOW if n == 0 else error(400, "invalid_prompt", "no")
        return accept(key, n) if accepted else error(400, "invalid_prompt", "no")

    run = Driver(2, submit=submit).run()
    record = run.records["row-1"]
    assert (record["state"], record["error"]["code"]) == ("rejected", "invalid_prompt")
    assert record["refusals"]["count"] == 2
    assert record["refusals"]["last"] == {"code": "invalid_prompt", "message": "no", "http_status": 400}


def test_refusals_of_all_attempts_are_counted():
    def submit(key, n):
        return SLOW if n % 2 == 0 else answer(200, {"id": f"j{n}", "status": "queued"})

    def poll(job_id, n):
        if job_id == "j1":
            return answer(200, {"id": job_id, "status": "failed", "error": {"code": "server_error", "message": "x"}})
        return answer(200, {"id": job_id, "status": "completed", "output": [MESSAGE]})

    record = Driver(1, submit=submit, poll=poll).run().records["row-0"]
    assert (record["state"], record["retry_count"], record["refusals"]["count"]) == ("succeeded", 1, 2)


@pytest.mark.parametrize("reply", [answer(500), DROPPED], ids=["500", "dropped"])
def test_an_unconfirmed_row_tells_of_the_refusals_before(reply):
    record = Driver(1, submit=lambda key, n: SLOW if n == 0 else reply).run().records["row-0"]
    assert (record["state"], record["refusals"]["last"]["code"]) == ("unconfirmed", "rate_limit_exceeded")


def test_a_row_that_was_cancelled_while_it_waited_tells_of_its_refusals():
    run = Driver(1, submit=lambda key, n: SLOW)
    run.at(5.0, m.CancelRequested(None, CancelReason.USER))
    record = run.run().records["row-0"]
    assert (record["state"], record["billing"]) == ("cancelled", "not_billed")
    assert record["refusals"]["count"] == len(run.sent["submit"]) > 1
