"""What a response does not show is never taken for shown: contradictions, errors without a status, errors without a job."""

import pytest

from batchrun.core.jobs import messages as m
from tests.core.driver import Driver, answer, error

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


def test_an_unconfirmed_row_keeps_the_http_status():
    record = Driver(1, submit=lambda key, n: answer(500, b"<h1>broken</h1>")).run().records["row-0"]
    assert (record["state"], record["error"]["http_status"]) == ("unconfirmed", 500)
    assert "broken" in record["error"]["message"]
