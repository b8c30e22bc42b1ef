"""Rows whose response was lost, at a service that keeps idempotency keys: exact times, and what the journal says."""

import random
from itertools import pairwise

import pytest

from batchrun.core.engine.resends import LONGEST_DELAY, MARGIN, MOST
from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import About, CancelReason, Row
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.journal.fold import JournaledRow
from tests.core.driver import DROPPED, UNSENT, Driver, answer, error

DAY = 86_400.0
WALL = 1_000_000.0


def losing(times, then=None, how=DROPPED):
    """The first so many POSTs of every row lose their response."""
    return lambda key, n: how if n < times else (then or answer(200, {"id": f"job_{key}", "status": "queued"}))


def driver(rows, submit, **more):
    return Driver(rows, submit=submit, **{"keeps_keys": DAY, **more})


def left(age=10.0, about=About(), **changes):
    """A row whose last run ended between its submit and the response, which it sent `age` seconds ago."""
    journaled = JournaledRow()
    journaled.open_since, journaled.row_sha256 = WALL - age, "hash then"
    for name, value in changes.items():
        setattr(journaled, name, value)
    return Row("old", about, "hash now"), journaled


def taken_up(*rows, submit=losing(0), **more):
    run = driver(0, submit, start=False, **more)
    run.take_up(list(rows), {}, 1, 0, 0, 0)
    return run


LOST = [DROPPED, answer(502), answer(500), answer(408), answer(409), answer(200, b"<html>"), answer(200, b'{"id": "jo')]


@pytest.mark.parametrize("how", LOST)
def test_a_lost_response_is_asked_for_again(how):
    run = driver(1, losing(1, how=how), chance=lambda: 0.0).run()
    assert run.states() == {"succeeded": 1}
    assert run.times("submit") == [0.0, pytest.approx(1.1, abs=1 / 64)]
    assert run.tags("row-0") == ["intent", "submitted", "done"], "the intent stays open; there is no other entry"


@pytest.mark.parametrize("how", [answer(200, {"id": "a/b", "status": "queued"}), answer(200, {"hello": 1})])
def test_a_response_that_was_read_is_not_lost(how):
    run = driver(1, losing(1, how=how), keep_going=True).run()
    assert (run.states(), run.times("submit")) == ({"unconfirmed": 1}, [0.0])
    assert run.tags("row-0") == ["intent", "unconfirmed", "done"]


def test_each_time_it_waits_longer_and_at_last_it_is_given_up():
    run = driver(1, losing(99), chance=lambda: 0.0).run()
    assert run.states() == {"unconfirmed": 1}
    at = run.times("submit")
    assert len(at) == 1 + MOST
    assert [round(b - a - 0.1) for a, b in pairwise(at[:6])] == [1, 2, 4, 8, 16]
    assert max(b - a for a, b in pairwise(at)) <= LONGEST_DELAY + 60
    assert run.records["row-0"]["error"]["message"] == "dropped"


def test_not_once_the_service_forgets_the_key():
    run = driver(1, losing(99), keeps_keys=MARGIN + 10, chance=lambda: 0.0).run()
    assert run.states() == {"unconfirmed": 1}
    assert max(run.times("submit")) < 10


def test_without_such_a_service_as_ever():
    run = Driver(1, submit=losing(1)).run()
    assert (run.states(), len(run.times("submit"))) == ({"unconfirmed": 1}, 1)


def test_a_refusal_that_asks_to_wait_is_waited_for_and_clears_nothing():
    replies = [DROPPED, error(429, "rate_limit_exceeded"), UNSENT, error(401, "invalid_api_key")]
    run = driver(1, lambda key, n: replies[n] if n < 4 else answer(200, {"id": "job_1", "status": "queued"}))
    run.run()
    assert run.outcome is m.Outcome.HALTED, "a wrong key halts, and the row stays open for the next run"
    assert run.tags("row-0") == ["intent"]
    assert run.records == {}
    assert run.engine.jobs.in_phase[Phase.UNANSWERED] == 1


def test_a_final_refusal_shows_nothing_of_the_first_post():
    run = driver(1, losing(1, then=error(422, "idempotency_key_reused", "another body"))).run()
    record = run.records["row-0"]
    assert record["state"] == "unconfirmed"
    assert (
        record["error"]["message"] == "the response was lost; sent again with the same key it was refused: another body"
    )
    assert (record["error"]["http_status"], record["billing"]) == (422, "unknown")
    assert run.tags("row-0") == ["intent", "unconfirmed", "done"]


def test_a_retry_has_its_own_time_and_its_own_intent():
    fails = {"status": "failed", "error": {"code": "server_error", "message": "again"}}

    def poll(job_id, n):
        return answer(200, {"id": job_id, **(fails if job_id == "job_0" else {"status": "completed"})})

    replies = [DROPPED, answer(200, {"id": "job_0", "status": "queued"}), DROPPED, answer(200, {"id": "job_1", "status": "queued"})]  # fmt: skip
    run = driver(1, lambda key, n: replies[n], poll=poll).run()
    assert run.records["row-0"]["retry_count"] == 1
    assert run.tags("row-0") == ["intent", "submitted", "ended", "intent", "submitted", "done"]


def test_a_cancel_meanwhile_ends_it_and_sends_nothing():
    run = driver(1, losing(1))
    run.at(0.5, m.CancelRequested(frozenset({"row-0"}), CancelReason.USER))
    run.run()
    record = run.records["row-0"]
    assert (record["state"], record["warnings"], run.times("submit")) == ("cancelled", ["submit_unanswered"], [0.0])


def test_a_cancel_before_the_response_is_lost():
    run = driver(1, losing(1), latency=1.0)
    run.at(0.5, m.CancelRequested(frozenset({"row-0"}), CancelReason.USER))
    run.run()
    assert (run.states(), run.times("submit")) == ({"cancelled": 1}, [0.0])


@pytest.mark.parametrize("mode", [m.StopMode.INTERRUPT, m.StopMode.DRAIN])
def test_a_stop_leaves_it_to_the_next_run(mode):
    run = driver(1, losing(1))
    run.at(0.5, m.StopRequested(mode))
    run.run()
    assert (run.outcome, run.records, run.tags("row-0"), run.now) == (m.Outcome.STOPPED, {}, ["intent"], 0.5)


def test_a_detached_run_sends_it_first():
    run = driver(1, losing(1))
    run.at(0.05, m.StopRequested(m.StopMode.DETACH))
    run.run()
    assert (run.outcome, run.tags("row-0")) == (m.Outcome.DETACHED, ["intent", "submitted"])


def test_no_more_rows_wait_so_than_submits_may_be_in_flight():
    run = driver(40, lambda key, n: DROPPED if run.now < 60 else answer(200, {"id": f"job_{key}", "status": "queued"}), submits=4)  # fmt: skip
    run.run(until=60.0)
    waits = run.engine.jobs.in_phase
    assert waits[Phase.UNANSWERED] + waits[Phase.SUBMITTING] <= 4 + 4
    run.run()
    assert run.states() == {"succeeded": 40}


def test_an_outage_is_one_and_loses_no_row():
    run = driver(200, lambda key, n: answer(502) if run.now < 120 else answer(200, {"id": f"job_{key}", "status": "queued"}))  # fmt: skip
    run.run(until=119.0)
    assert run.engine.snapshot().outage
    assert len(run.times("submit")) < 60, "one probe at a time"
    run.run()
    assert run.states() == {"succeeded": 200}


@pytest.mark.parametrize("seed", range(3))
def test_half_of_all_responses_lost_loses_no_row(seed):
    dice = random.Random(seed)
    run = driver(200, lambda key, n: DROPPED if dice.random() < 0.5 else answer(200, {"id": f"job_{key}", "status": "queued"}), concurrency=20)  # fmt: skip
    run.run()
    assert run.states() == {"succeeded": 200}


# --- what an earlier run left ---


def test_after_a_crash_it_is_sent_again_without_a_second_intent():
    run = taken_up(left())
    run.run(until=0.5)
    (job,) = run.engine.jobs.unsubmitted.values()
    assert (job.phase, job.attempt) == (Phase.UNANSWERED, 1)
    run.run()
    assert (run.states(), run.tags("old")) == ({"succeeded": 1}, ["submitted", "done"])


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (left(age=0.96 * DAY), "its time is over, but for the margin"),
        (left(age=-1.0), "a clock was set back: nobody knows how old it is"),
        (left(open_since=0.0), "a rewritten journal of an older version has no time"),
        (left(about=About(sendable=False)), "its body is another one now, or gone"),
        (left(unconfirmed=True, open_since=None), "an earlier run gave it up"),
    ],
)
def test_after_a_crash_it_is_not(row, why):
    run = taken_up(row).run()
    assert (run.states(), run.sent["submit"]) == ({"unconfirmed": 1}, []), why


def test_after_a_crash_a_cancelled_one_is_not():
    run = taken_up(left(cancel="user")).run()
    assert (run.records["old"]["state"], run.sent["submit"]) == ("cancelled", [])


def test_its_time_counts_across_runs():
    run = taken_up(left(age=0.95 * DAY - 3), submit=losing(99), chance=lambda: 0.0).run()
    assert run.states() == {"unconfirmed": 1}
    assert run.times("submit") == [1.0]


def test_a_run_without_input_leaves_it_to_one_with_it():
    run = taken_up(left(), collecting=True).run()
    assert (run.outcome, run.records, run.sent["submit"]) == (m.Outcome.PARTIAL, {}, [])
    late = taken_up(left(age=2 * DAY), collecting=True).run()
    assert (late.outcome, late.states()) == (m.Outcome.COMPLETE, {"unconfirmed": 1})


def test_a_run_without_input_ends_it_where_that_is_asked_for():
    run = driver(0, losing(0), start=False, collecting=True)
    run.take_up([left()], {}, 1, 0, 0, 0, to_cancel=frozenset({"old"}))
    run.run()
    assert run.states() == {"cancelled": 1}
