"""An ended job that is looked at once more: it is paid for again only if the service confirms that it failed."""

import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import CancelReason, Row
from tests.core.driver import Driver, answer, error


def ends(status, code=None, then="completed"):
    """The old job is over so; a new one completes."""

    def poll(job_id, n):
        if not job_id.startswith("job_old-0_"):
            body = {"id": job_id, "status": status}
            return answer(200, body | ({"error": {"code": code, "message": "x"}} if code else {}))
        return answer(200, {"id": job_id, "status": then})

    return poll


def look(had_ended, poll, **settings):
    run = Driver(start=False, poll=poll, **settings).recover(1, age=1_000.0, again=had_ended)
    return run.run()


@pytest.mark.parametrize(
    ("had_ended", "status", "code", "state", "posts"),
    [
        ("failed", "completed", None, "succeeded", 0),
        ("timeout", "completed", None, "succeeded", 0),
        ("cancelled", "completed", None, "succeeded", 0),
        ("timeout", "incomplete", None, "incomplete", 0),
        ("incomplete", "incomplete", None, "succeeded", 1),
        ("failed", "failed", None, "succeeded", 1),
        ("rejected", "failed", "invalid_prompt", "succeeded", 1),
        ("cancelled", "cancelled", None, "succeeded", 1),
        ("expired", "expired", None, "succeeded", 1),
        ("internal_error", "failed", "server_error", "succeeded", 1),
        ("blocked_budget", "failed", "insufficient_quota", "succeeded", 1),
    ],
)
def test_a_result_is_kept_and_a_confirmed_failure_is_tried_again(had_ended, status, code, state, posts):
    run = look(had_ended, ends(status, code), retries=0)
    record = run.records["old-0"]
    assert (record["state"], len(run.sent["submit"]), run.told) == (state, posts, [])
    assert run.times("poll", "job_old-0"), "nothing is paid for before the look"
    if posts:
        (earlier,) = record["attempts"]
        assert (earlier["job_id"], record["retry_count"]) == ("job_old-0", 1)
        assert run.tags("old-0")[:2] == ["ended", "intent"]
    assert run.outcome is m.Outcome.COMPLETE


def test_what_goes_on_over_there_is_waited_for():
    def poll(job_id, n):
        return answer(200, {"id": job_id, "status": "in_progress" if n < 3 else "completed"})

    run = look("timeout", poll, deadline=500.0)
    assert (run.records["old-0"]["state"], len(run.sent["submit"])) == ("succeeded", 0)


def test_the_deadline_counts_from_the_new_look():
    run = look("timeout", lambda job_id, n: answer(200, {"id": job_id, "status": "queued"}), deadline=500.0)
    assert run.records["old-0"]["state"] == "timeout"
    assert 500.0 <= run.times("cancel")[0] < 540.0
    assert run.sent["submit"] == []


def test_a_poll_that_fails_confirms_nothing():
    def poll(job_id, n):
        return answer(503) if n < 5 else ends("completed")(job_id, n)

    run = look("failed", poll, deadline=100.0)
    assert (run.records["old-0"]["state"], len(run.sent["submit"])) == ("succeeded", 0)


def gone(job_id, n):
    if job_id == "job_old-0":
        return error(404, "not_found")
    return answer(200, {"id": job_id, "status": "in_progress" if n < 20 else "completed"})


def test_a_job_that_is_gone_is_sent_again_once_the_service_has_shown_that_it_knows_us():
    run = Driver(start=False, poll=gone)
    run.recover(2, again="expired").run()
    assert run.records["old-0"]["state"] == "succeeded"
    assert [name for _, name in run.sent["submit"]] == ["old-0"]
    assert run.times("submit")[0] >= 120.0
    assert run.records["old-0"]["attempts"][0]["state"] == "expired"


def test_a_service_that_knows_none_of_our_jobs_is_sent_nothing():
    run = Driver(start=False, poll=lambda *_: error(404, "not_found"))
    run.recover(2, again="expired").run()
    assert (run.sent["submit"], run.records, run.outcome) == ([], {}, m.Outcome.HALTED)


def test_it_counts_against_no_budget():
    run = look("failed", ends("failed"), retry_budget=0)
    assert (run.records["old-0"]["state"], run.engine.jobs.retries, run.told) == ("succeeded", 0, [])


def test_a_second_failure_is_the_rows_own():
    run = look("failed", ends("failed", then="failed"))
    assert (run.records["old-0"]["state"], len(run.sent["submit"])) == ("failed", 1)


def test_a_cancel_ends_it_whatever_the_look_says():
    run = Driver(start=False, poll=ends("failed")).recover(1, again="failed")
    run.feed(m.CancelRequested(frozenset({"old-0"}), CancelReason.USER))
    run.run()
    assert (run.records["old-0"]["state"], run.sent["submit"]) == ("cancelled", [])


def test_other_rows_are_not_touched_by_it():
    run = Driver(start=False, poll=ends("failed"))
    run.rows = [Row("new")]
    run.recover(1, again="failed").run()
    assert {key: record["state"] for key, record in run.records.items()} == {"old-0": "succeeded", "new": "failed"}
