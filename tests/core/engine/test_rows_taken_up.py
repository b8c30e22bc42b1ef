"""Rows that an earlier run left are taken up in parts: what waits for the last of them, and what does not."""

import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import CancelReason, Row
from batchrun.core.journal.entries import AttemptEnded
from batchrun.core.journal.fold import JournaledRow
from tests.core.driver import Driver, answer
from tests.core.engine.test_cancel_requests import folded

OLD = AttemptEnded("again", 1, "j-again", "internal_error", "server_error", "unknown", 999_991.0, 999_990.0)


def left(key, **values):
    journaled = JournaledRow()
    journaled.job_id, journaled.submitted_at = f"j-{key}", 999_990.0
    for name, value in values.items():
        setattr(journaled, name, value)
    return Row(key), journaled


def waiting(key):
    """A row whose new attempt is due."""
    return left(key, job_id=None, ended=(OLD,), attempt=2, retry_at=OLD.retry_at)


def running(job_id, n):
    return answer(200, {"id": job_id, "status": "in_progress"})


def taking_up(*rows, finished=(), facts=(), **given):
    """A run that has taken up `rows`; others follow."""
    run = Driver(start=False, **given)
    run.feed(m.Recovered(dict.fromkeys(finished, "succeeded"), 0, 0, 0, 0, **dict(facts)))
    run.feed(m.RowsTakenUp(rows, more=True))
    return run


def test_before_the_last_row_is_taken_up_nothing_is_polled_submitted_or_read():
    run = taking_up(waiting("again"), left("a"))
    run.rows = [Row("new"), Row("a"), Row("b"), Row("again")]
    run.run(until=20.0)
    assert (set(run.records), run.sent["poll"]) == (set(), [])
    assert (run.sent["submit"], run.outcome) == ([], None)
    assert not any(isinstance(one, m.ReadRows) for one in run.instructions)
    run.feed(m.RowsTakenUp([left("b"), waiting("late")]))
    run.run()
    assert [key for _, key in run.sent["submit"]] == ["again", "late", "new"], "new rows come after those that are open"
    assert (run.outcome, set(run.records)) == (m.Outcome.COMPLETE, {"new", "a", "b", "again", "late"})


def test_places_are_counted_once_all_rows_are_taken_up():
    run = taking_up(waiting("again"), poll=running, concurrency=2)
    run.feed(m.RowsTakenUp([left("a"), left("b")]))
    run.run(until=30.0)
    assert run.sent["submit"] == []


@pytest.mark.parametrize("collecting", [False, True])
def test_a_run_does_not_end_before_all_rows_are_taken_up(collecting):
    run = taking_up(left("a"), collecting=collecting)
    run.run(until=60.0)
    assert (set(run.records), run.outcome) == (set(), None)
    run.feed(m.RowsTakenUp([left("b")]))
    run.run()
    assert (set(run.records), run.outcome) == ({"a", "b"}, m.Outcome.COMPLETE)


@pytest.mark.parametrize(
    ("asked", "ended"),
    [
        (m.CancelRequested(frozenset({"a", "b"}), CancelReason.USER, frozenset({"a", "b"})), {"a", "b"}),
        (m.CancelRequested(frozenset({"j-a", "j-b"}), CancelReason.USER), {"a", "b"}),
        (m.CancelRequested(None, CancelReason.USER), {"a", "b", "c", "new"}),
    ],
    ids=["by key", "by job", "all"],
)
def test_a_cancel_that_comes_meanwhile_concerns_the_rows_that_are_still_to_come_as_well(asked, ended):
    run = taking_up(left("a"))
    run.rows = [Row("a"), Row("b"), Row("c"), Row("new")]
    run.feed(asked)
    if asked.unread or asked.keys is None:  # it holds if the run is cut off here
        state = folded(run)
        assert state.cancel_all or {key for key, journaled in state.journaled_rows.items() if journaled.cancel} >= {
            "a",
            "b",
        }
    run.feed(m.RowsTakenUp([left("b"), left("c")]))
    run.run()
    assert {key for key, record in run.records.items() if record["state"] == "cancelled"} == ended
    assert set(run.records) == {"a", "b", "c", "new"}


def test_what_other_processes_wish_meanwhile_is_heard_behind_the_last_entry_that_it_brings():
    run = taking_up(left("a"), collecting=True)
    run.feed(m.CancelRequested(frozenset({"a", "b"}), CancelReason.USER, read_to=40))
    assert not any("heard" in entry for entry in run.entries)
    run.feed(m.RowsTakenUp([left("b")]))
    run.run()
    tags = [next(iter(entry)) for entry in run.entries]
    assert (tags.count("heard"), run.states()) == (1, {"cancelled": 2})
    assert max(n for n, entry in enumerate(run.entries) if "cancelling" in entry) < tags.index("heard")


def test_a_wish_of_an_earlier_run_for_all_rows_ends_those_of_every_part():
    run = taking_up(left("a"), facts={"cancel_all": True, "requests_read_to": 25})
    run.rows = [Row("a"), Row("b"), Row("new")]
    run.feed(m.RowsTakenUp([left("b")]))
    run.run()
    assert (run.states(), run.sent["submit"]) == ({"cancelled": 3}, [])


@pytest.mark.parametrize("mode", [m.StopMode.DRAIN, m.StopMode.NOW])
def test_a_stop_meanwhile_leaves_the_rows_that_are_still_to_come_as_they_are(mode):
    run = taking_up(left("a"))
    run.feed(m.StopRequested(mode))
    assert run.outcome is m.Outcome.STOPPED
    assert run.feed(m.RowsTakenUp([left("b", job_id=None, open_intent=True)])) == []
    assert (run.entries, run.records) == ([], {})


def test_an_interrupt_that_cancels_waits_for_all_rows_that_run_over_there():
    run = taking_up(waiting("again"), cancel_on_interrupt=True)
    run.feed(m.StopRequested(m.StopMode.INTERRUPT))
    assert run.outcome is None
    run.feed(m.RowsTakenUp([left("b")]))
    run.run()
    assert (run.outcome, run.states(), set(run.records)) == (m.Outcome.STOPPED, {"cancelled": 1}, {"b"})


def test_with_another_key_a_job_of_any_part_has_to_be_found_first():
    for first, last in (([left("a")], []), ([], [left("a")])):
        run = taking_up(*first, poll=lambda job_id, n: answer(404), facts={"new_key": True})
        run.rows = [Row("a"), Row("new")]
        run.feed(m.RowsTakenUp(last))
        run.run(until=60.0)
        assert run.sent["submit"] == []
    run = taking_up(facts={"new_key": True})
    run.rows = [Row("new")]
    run.feed(m.RowsTakenUp([]))
    assert run.run().outcome is m.Outcome.COMPLETE


def test_a_row_in_flight_after_a_retry_keeps_the_attempt_before():
    run = taking_up(left("a", attempt=2, ended=(OLD,)))
    run.feed(m.RowsTakenUp([]))
    run.run()
    assert [one["job_id"] for one in run.records["a"]["attempts"]] == ["j-again"]
