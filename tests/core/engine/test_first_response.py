"""The first job proves the service: a first response of no known shape costs one row, and no other."""

import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import Row
from batchrun.core.journal.fold import JournaledRow
from tests.core.driver import DROPPED, Driver, answer, error

UNKNOWN = {"code": 200, "result": {"job_id": "t1"}}
REASON = "unknown response"


def unknown(key, n):
    return answer(200, UNKNOWN)


def reasons(run):
    return [halt.reason for _, halt in run.told]


def test_s27_the_run_halts_after_one_row_which_is_unconfirmed_and_says_what_came():
    run = Driver(50, submit=unknown).run()
    assert (run.outcome, reasons(run), len(run.sent["submit"])) == (m.Outcome.HALTED, [REASON], 1)
    assert run.states() == {"unconfirmed": 1}
    assert run.records["row-0"]["error"]["code"] == "answer_lost"
    ((_, halt),) = run.told
    assert halt.message.startswith("row 'row-0' ends as unconfirmed: HTTP 200 without an id and without a result: ")
    assert '"job_id":"t1"' in halt.message
    halted = run.engine.gate.halted
    assert (halted.shape.id, halted.shape.background) == ("result.job_id", True)
    assert run.tags("row-0") == ["intent", "unconfirmed", "done"]


def test_s27_not_after_an_acceptance():
    run = Driver(5, submit=lambda key, n: unknown(key, n) if key == "row-3" else Driver.accept(run, key, n))
    run.run()
    assert (run.outcome, reasons(run)) == (m.Outcome.COMPLETE, [])
    assert run.states() == {"succeeded": 4, "unconfirmed": 1}


def test_s27_with_keep_going_every_row_is_sent():
    run = Driver(4, submit=unknown, keep_going=True).run()
    assert (run.outcome, reasons(run), run.states()) == (m.Outcome.COMPLETE, [], {"unconfirmed": 4})


@pytest.mark.parametrize(
    ("accepted", "finished", "halts"),
    [
        (1, {}, False),
        (0, {"old": "succeeded"}, False),  # it was answered at once: no entry tells of its acceptance
        (0, {"old": "incomplete"}, False),
        (0, {"old": "unconfirmed"}, True),
        (0, {"old": "rejected", "older": "cancelled"}, True),
        (0, {}, True),
    ],
)
def test_s27_a_resumed_batch_remembers_that_a_job_was_accepted(accepted, finished, halts):
    run = Driver([Row(key) for key in (*finished, "new-1", "new-2")], submit=unknown)
    run.take_up([], finished, accepted, 0, 0, 0)
    run.run()
    assert reasons(run) == ([REASON] if halts else [])
    assert len(run.sent["submit"]) == (1 if halts else 2)


def test_s27_a_resumed_job_counts_as_accepted():
    journaled = JournaledRow()
    journaled.job_id, journaled.submitted_at = "job_old", 999_990.0
    run = Driver([Row("new")], submit=unknown)
    run.take_up([(Row("old"), journaled)], {}, 1, 0, 0, 0)
    assert run.run().states() == {"succeeded": 1, "unconfirmed": 1}
    assert reasons(run) == []


@pytest.mark.parametrize(
    ("first", "unconfirmed"),
    [(DROPPED, 2), (answer(200, b"<p>"), 2), (error(400, "model_not_found"), 1), (error(503, "overloaded"), 1)],
)
def test_s27_what_came_before_without_an_acceptance_proves_nothing(first, unconfirmed):
    run = Driver(4, submit=lambda key, n: first if (key, n) == ("row-0", 0) else unknown(key, n)).run()
    assert (reasons(run), run.states()) == ([REASON], {"unconfirmed": unconfirmed})
    assert len(run.sent["submit"]) == 2


def test_the_same_command_again_spends_one_row_more_and_halts_again():
    first = Driver(3, submit=unknown).run()
    second = Driver(3, submit=unknown)
    second.take_up([], {key: record["state"] for key, record in first.records.items()}, 0, 0, 0, 0)
    second.run()
    assert [key for _, key in second.sent["submit"]] == ["row-1"]
    assert reasons(second) == [REASON]


def test_a_detached_run_halts_too():
    run = Driver(10, submit=unknown, start=False)
    run.feed(m.StopRequested(m.StopMode.DETACH))
    run.run()
    assert (run.outcome, len(run.sent["submit"])) == (m.Outcome.HALTED, 1)
