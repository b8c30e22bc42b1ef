"""Rows that an earlier run left open: what may have been sent is not sent again, and nothing known of them is lost."""

import orjson
import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import About, CancelReason, Row
from batchrun.core.journal.entries import AttemptEnded, Header, Intent, frame
from batchrun.core.journal.fold import JournaledRow, fold
from tests.core.driver import Driver, answer

HEADER = Header(1, "run", "openai", "https://api.openai.com", "", "f00d", {}, "in.jsonl", 1.0)
ENDED = AttemptEnded("r", 1, "j0", "internal_error", "server_error", "unknown", 1_000_005.0, 1_000_000.0)
GONE = About(sendable=False)


def left(key="r", about=GONE, **facts):
    journaled = JournaledRow()
    for name, value in facts.items():
        setattr(journaled, name, value)
    return Row(key, about), journaled


def taken_up(*rows, **settings):
    run = Driver(start=False, **settings)
    run.take_up(list(rows), {}, len(rows), 0, 0, 0)
    return run


def folded(entries, *before):
    """The fold of a journal that holds the entries `before` a run, and those of the run."""
    lines = [frame(orjson.dumps(entry)) for entry in entries]
    return fold([HEADER.to_line(), *(entry.to_line() for entry in before), *lines])


# --- two rows with one job id ---


@pytest.mark.parametrize(
    "more",
    [{}, {"again": "failed"}, {"attempt": 2, "ended": (ENDED,)}, {"marker": (0, 0, 9, 9, "unconfirmed")}],
    ids=["sent", "to be retried", "second attempt", "its record is gone"],
)
def test_the_second_row_with_one_and_the_same_job_id_is_unconfirmed_and_never_sent_again(more):
    sent = {"about": About(), "job_id": "j", "submitted_at": 999_990.0}
    run = taken_up(left("first", **sent), left("second", **sent, **more)).run()
    assert {key: record["state"] for key, record in run.records.items()} == {
        "first": "succeeded",
        "second": "unconfirmed",
    }
    assert run.records["second"]["billing"] == "unknown"
    assert run.sent["submit"] == []
    assert len(run.times("poll", "j")) == 3, "as one job is polled"


def test_a_cancel_of_the_second_row_with_one_job_id_does_not_end_the_job_of_the_first():
    sent = {"about": About(), "job_id": "j", "submitted_at": 999_990.0}
    run = taken_up(left("first", **sent), left("second", **sent, cancel="user")).run()
    assert (run.records["first"]["state"], run.sent["cancel"], run.sent["submit"]) == ("succeeded", [], [])
    assert (run.records["second"]["state"], run.records["second"]["warnings"]) == ("cancelled", ["submit_unanswered"])


# --- polled again, and not to be sent ---


@pytest.mark.parametrize(
    ("about", "more"),
    [(GONE, {}), (About(), {"unconfirmed": True})],
    ids=["its body is gone", "a retry of it may have been sent"],
)
def test_a_job_that_is_polled_again_and_has_failed_is_not_retried_where_its_row_cannot_be_sent(about, more):
    def failed(job_id, n):
        return answer(200, {"id": job_id, "status": "failed", "error": {"code": "invalid_prompt", "message": "no"}})

    row = left(about=about, job_id="j", submitted_at=999_990.0, again="rejected", **more)
    run = taken_up(row, poll=failed).run()
    assert (run.records["r"]["state"], run.records["r"]["job_id"], run.sent["submit"]) == ("rejected", "j", [])


# --- unconfirmed ---


def test_a_record_of_an_unconfirmed_row_that_is_gone_is_written_as_unconfirmed_again():
    run = taken_up(left(about=About(), unconfirmed=True, marker=(0, 0, 9, 9, "unconfirmed"))).run()
    assert (run.records["r"]["state"], run.sent["submit"]) == ("unconfirmed", [])


@pytest.mark.parametrize("cancel", [None, "user"])
def test_a_row_of_which_only_a_marker_says_that_it_ended_unconfirmed_is_not_sent(cancel):
    """Its other entries are damaged, and somebody took its record out of the output."""
    run = taken_up(left(about=About(), cancel=cancel, marker=(0, 0, 9, 9, "unconfirmed"))).run()
    assert (run.records["r"]["state"], run.sent["submit"]) == ("cancelled" if cancel else "unconfirmed", [])


@pytest.mark.parametrize("lost", [{"open_intent": True}, {"unconfirmed": True}])
def test_the_attempt_that_is_given_up_for_a_resubmit_is_in_the_journal_and_in_every_later_record(lost):
    run = taken_up(left(about=About(), **lost), resubmit_unconfirmed=True)
    assert run.tags("r") == ["ended", "intent"]
    (entry,) = [entry["ended"] for entry in run.entries if "ended" in entry]
    assert (entry["attempt"], entry["job_id"], entry["state"], entry["billing"]) == (1, None, "unconfirmed", "unknown")
    between = folded(run.entries, Intent("r", 1, "", 0.0)).journaled_rows["r"]
    assert (between.attempt, len(between.ended), between.open_intent) == (2, 1, True)

    record = run.run().records["r"]
    assert (record["state"], len(run.sent["submit"])) == ("succeeded", 1)
    lost_attempt = {"job_id": None, "state": "unconfirmed", "code": "answer_lost", "billing": "unknown"}
    assert [{name: one[name] for name in lost_attempt} for one in record["attempts"]] == [lost_attempt]

    after_a_crash = Driver(start=False)
    after_a_crash.take_up([(Row("r"), between)], {}, 1, 0, 0, 0)
    record = after_a_crash.run().records["r"]
    assert (record["state"], after_a_crash.sent["submit"]) == ("unconfirmed", [])
    assert [one["state"] for one in record["attempts"]] == ["unconfirmed"], "the first POST is not forgotten"


def test_without_its_body_nothing_is_resubmitted():
    run = taken_up(left(open_intent=True), resubmit_unconfirmed=True).run()
    assert (run.records["r"]["state"], run.sent["submit"], run.tags("r")) == ("unconfirmed", [], ["done"])


# --- a retry whose body is gone ---


def test_a_retry_whose_body_is_gone_ends_as_its_last_job_ended():
    def failed(job_id, n):
        return answer(200, {"id": job_id, "status": "failed", "error": {"code": "server_error", "message": "x"}})

    second = AttemptEnded("r", 2, "j1", "internal_error", "server_error", "unknown", 1_000_005.0, 1_000_000.0)
    run = taken_up(left(attempt=3, ended=(ENDED, second), retry_at=1_000_005.0), poll=failed).run()
    record = run.records["r"]
    assert (run.sent["submit"], [name for _, name in run.sent["poll"]]) == ([], ["j1"])
    assert (record["state"], record["job_id"]) == ("internal_error", "j1")
    assert [one["job_id"] for one in record["attempts"]] == ["j0"], "each attempt once"


def test_a_cancel_of_a_retry_whose_body_is_gone_is_of_the_attempt_that_is_polled():
    run = taken_up(left(attempt=2, ended=(ENDED,), retry_at=1_000_005.0))
    run.feed(m.CancelRequested(frozenset({"r"}), CancelReason.USER))
    run.run()
    assert [entry["cancelling"]["attempt"] for entry in run.entries if "cancelling" in entry] == [1]
    assert (run.records["r"]["state"], [name for _, name in run.sent["cancel"]]) == ("cancelled", ["j0"])


def test_a_retry_whose_body_is_gone_without_an_id_to_ask_for_is_unconfirmed():
    anonymous = AttemptEnded("r", 1, None, "internal_error", "server_error", "unknown", 1_000_005.0, 1_000_000.0)
    run = taken_up(left(attempt=2, ended=(anonymous,), retry_at=1_000_005.0)).run()
    assert (run.records["r"]["state"], run.sent["submit"], run.sent["poll"]) == ("unconfirmed", [], [])


def test_a_retry_whose_body_is_gone_takes_no_job_from_another_row():
    first = left("first", job_id="j0", submitted_at=999_990.0)
    run = taken_up(first, left(attempt=2, ended=(ENDED,), retry_at=1_000_005.0)).run()
    assert (run.records["first"]["state"], run.records["r"]["state"]) == ("succeeded", "unconfirmed")
    assert run.sent["submit"] == []


@pytest.mark.parametrize("unconfirmed", [True, False])
def test_a_row_whose_retry_may_be_in_a_lost_part_of_the_journal_is_polled_and_not_retried(unconfirmed):
    def failed(job_id, n):
        return answer(200, {"id": job_id, "status": "failed", "error": {"code": "server_error", "message": "x"}})

    row = left(about=About(), job_id="j1", submitted_at=999_990.0, unconfirmed=unconfirmed)
    run = taken_up(row, poll=failed).run()
    assert bool(run.sent["submit"]) is not unconfirmed
    assert run.records["r"]["state"] == "internal_error"


# --- times ---


def times_of(record):
    return tuple(record[name] for name in ("submitted_at", "running_at", "queued_s", "running_s"))


SUBMITTED_AT = "1970-01-12T13:46:30.000Z"  # ten seconds before the run


def resumed(*words, **more):
    """The record of a job whose polls show these status words, one each, before it is completed."""

    def poll(job_id, n):
        return answer(200, {"id": job_id, "status": words[n] if n < len(words) else "completed", "output": "x"})

    job = left(about=About(), job_id="j", submitted_at=999_990.0, **more)
    return taken_up(job, poll=poll, chance=lambda: 0.5, poll_max=1.0).run().records["r"]


def test_a_job_that_ran_perhaps_before_this_run_has_no_time_at_which_it_began():
    """Its POST said in_progress: an uninterrupted run would tell of no wait."""
    assert times_of(resumed("in_progress")) == (SUBMITTED_AT, None, None, None)
    assert times_of(resumed("in_progress", attempt=2, ended=(ENDED,))) == (SUBMITTED_AT, None, None, None)
    assert times_of(resumed("in_progress", "queued", "in_progress")) == (SUBMITTED_AT, None, None, None)
    assert times_of(resumed()) == (SUBMITTED_AT, None, None, None)
    assert times_of(resumed("queued", "queued")) == (SUBMITTED_AT, None, None, None)


def test_a_job_that_this_run_saw_queued_began_when_this_run_saw_it_run():
    submitted_at, running_at, queued_s, running_s = times_of(resumed("queued", "in_progress", "in_progress"))
    assert (submitted_at, running_at) == (SUBMITTED_AT, "1970-01-12T13:46:41.709Z")
    assert (queued_s, running_s) == (11.709, pytest.approx(2.2, abs=2 / 64))


@pytest.mark.parametrize(("word", "queued_s"), [("in_progress", 0.0), ("queued", 1.104)])
@pytest.mark.parametrize("attempts", [1, 2])
def test_a_job_that_this_run_submitted_began_when_a_response_first_showed_it_running(word, queued_s, attempts):
    def submit(key, n):
        return answer(200, {"id": f"j{n}", "status": word})

    def poll(job_id, n):
        if n == 0:
            return answer(200, {"id": job_id, "status": "in_progress"})
        if job_id == f"j{attempts - 2}":
            return answer(200, {"id": job_id, "status": "failed", "error": {"code": "server_error", "message": "x"}})
        return answer(200, {"id": job_id, "status": "completed", "output": "x"})

    record = Driver(1, submit=submit, poll=poll, chance=lambda: 0.5, poll_max=1.0).run().records["row-0"]
    assert record["retry_count"] == attempts - 1
    assert record["queued_s"] == pytest.approx(queued_s, abs=2 / 64)
    assert record["running_s"] == pytest.approx(2.2 - queued_s, abs=4 / 64)


def test_the_last_job_of_a_retry_whose_body_is_gone_was_submitted_when_the_journal_says():
    def failed(job_id, n):
        return answer(200, {"id": job_id, "status": "failed", "error": {"code": "server_error", "message": "x"}})

    known, rewritten = (
        taken_up(left(attempt=2, ended=(ENDED,), retry_at=1_000_005.0, **facts), poll=failed).run().records["r"]
        for facts in ({"submitted_at": 999_990.0}, {})
    )
    assert times_of(known) == (SUBMITTED_AT, None, None, None)
    assert times_of(rewritten) == ("1970-01-12T13:46:40.000Z", None, None, None)
