"""A response that names another row's job says nothing about this row: not at its submit, not at a poll, not at a cancel."""

import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.jobs.ended_ids import EndedIds
from batchrun.core.jobs.job import About, CancelReason, Row
from batchrun.core.journal.entries import AttemptEnded
from batchrun.core.journal.fold import JournaledRow
from batchrun.core.responses.verdict import Accepted, read_submit
from tests.core.driver import Driver, answer

MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "of another row"}]}
OWN = {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}
FAILED = {"status": "failed", "error": {"code": "server_error", "message": "boom"}}
COMPLETED = {"status": "completed", "output": [MESSAGE]}
RUNNING = {"status": "in_progress"}
BODIES = {"running": {"status": "queued"}, "completed": COMPLETED, "failed": FAILED}


def third_time(job_id, n):
    return answer(200, {"id": job_id, **(RUNNING if n < 2 else {"status": "completed", "output": [OWN]})})


def text(record):
    return record["output_text"]


def ended_before(key, job_id, attempt=1):
    """A row whose attempt ended in an earlier run, and that waits for its retry."""
    journaled = JournaledRow()
    journaled.ended = (AttemptEnded(key, attempt, job_id, "internal_error", "server_error", "unknown", 0.0, 0.0),)
    journaled.attempt, journaled.retry_at = attempt + 1, 0.0
    return Row(key), journaled


def submitted_before(key, job_id, body_hash=0):
    journaled = JournaledRow()
    journaled.job_id, journaled.submitted_at = job_id, 1_000_000.0
    return Row(key, About(body_hash=body_hash)), journaled


# --- submits ---


@pytest.mark.parametrize("shown", BODIES)
@pytest.mark.parametrize("moment", ["running", "retrying", "finished", "earlier run"])
def test_s28_an_id_that_another_row_has_or_had_ends_the_row_unconfirmed(moment, shown):
    def submit(key, n):
        if key == "row-1":
            return answer(200, {"id": "X", **BODIES[shown]})
        return answer(200, {"id": "X" if n == 0 else "Y", "status": "queued"})

    def poll(job_id, n):
        if moment == "retrying" and job_id == "X":
            return answer(200, {"id": job_id, **FAILED})
        return third_time(job_id, n)

    places = {} if moment == "running" else {"concurrency": 1}
    if moment == "earlier run":
        run = Driver(2, submit=submit, poll=poll, start=False)
        run.rows = run.rows[1:]
        run.take_up([], {}, 1, 0, 0, 0, ended_ids=EndedIds(["X"]))
        run.run()
    else:
        run = Driver(2, submit=submit, poll=poll, **places).run()
        other = run.records["row-0"]
        assert (other["state"], other["retry_count"]) == ("succeeded", int(moment == "retrying"))
        assert text(other) == "hi", "untouched"
    record = run.records["row-1"]
    assert (record["state"], record["error"]["code"], record["job_id"]) == ("unconfirmed", "duplicate_job_id", None)
    assert (record["response"], record["output_text"], record["billing"]) == (None, None, "unknown")
    assert "the id X" in record["error"]["message"]
    assert ("'row-0'" in record["error"]["message"]) == (moment == "running"), "named where it is known"
    assert len(run.times("submit", "row-1")) == 1
    assert run.tags("row-1")[:2] == ["intent", "unconfirmed"]


def test_s28_an_id_of_an_earlier_attempt_of_an_earlier_run_is_another_rows_too():
    run = Driver(["row-1"], submit=lambda key, n: answer(200, {"id": "X", "status": "queued"}), start=False)
    run.rows = [Row("row-1")]
    run.take_up([ended_before("row-0", "A")], {}, 1, 1, 0, 0, ended_ids=EndedIds(["A", "X"]))
    run.run()
    assert {record["error"]["code"] for record in run.records.values()} == {"duplicate_job_id"}, "A and X are known"


def test_s28_a_job_that_ended_at_its_submit_is_known_at_once():
    run = Driver(2, submit=lambda key, n: answer(200, {"id": "X", **COMPLETED})).run()
    assert [record["state"] for record in run.records.values()] == ["succeeded", "unconfirmed"]


def test_s28_five_in_a_row_are_an_outage_and_not_a_million_rows():
    run = Driver(200, submit=lambda key, n: answer(200, {"id": "X", "status": "queued"}), submits=4)
    run.run(until=60.0)
    assert len(run.records) < 30
    assert run.engine.gate.outage


def test_elsewhere_than_in_the_background_an_id_names_nothing():
    run = Driver([Row("a"), Row("b")], start=False, input_ends=True)

    def submitted(job, attempt, reply):
        verdict = read_submit(reply, 0.0, background=False, result="choices")
        assert isinstance(verdict, Accepted)
        return m.SubmitAccepted(job, attempt, verdict)

    run._submitted = submitted
    run.script["submit"] = lambda key, n: answer(200, {"id": "999", "choices": [{"message": {"content": key}}]})
    run.feed(m.TimerFired())
    run.run()
    assert {key: (one["state"], one["job_id"], text(one)) for key, one in run.records.items()} == {
        "a": ("succeeded", "999", "a"),
        "b": ("succeeded", "999", "b"),
    }


def test_s28_an_endpoint_that_answers_at_once_may_queue_a_job_whose_id_another_row_has():
    run = Driver(2)

    def submitted(job, attempt, reply):
        verdict = read_submit(reply, 0.0, background=False, queues=True, result="images")
        assert isinstance(verdict, Accepted)
        return m.SubmitAccepted(job, attempt, verdict)

    run._submitted = submitted
    run.script["submit"] = lambda key, n: answer(200, {"id": "X", "status": "queued"})
    run.run()
    assert [one["state"] for one in run.records.values()] == ["unconfirmed", "succeeded"]
    assert run.records["row-1"]["error"]["code"] == "duplicate_job_id"


@pytest.mark.parametrize("shown", ["running", "failed"])
def test_a_retry_that_is_answered_with_the_rows_own_ended_job_ends_as_that_did(shown):
    def submit(key, n):
        return answer(200, {"id": "X", **(BODIES["running"] if n == 0 else BODIES[shown])})

    run = Driver(1, submit=submit, poll=lambda job_id, n: answer(200, {"id": job_id, **FAILED})).run()
    record = run.records["row-0"]
    assert (record["state"], record["error"]["code"], record["retry_count"]) == ("internal_error", "server_error", 1)
    assert (record["job_id"], record["attempts"][0]["job_id"]) == ("X", "X")
    assert len(run.times("submit")) == 2, "retried once, and no more"


def test_a_retry_whose_own_ended_job_runs_again_keeps_its_result():
    def poll(job_id, n):
        return answer(200, {"id": job_id, **FAILED}) if n == 0 else third_time(job_id, n)

    run = Driver(1, submit=lambda key, n: answer(200, {"id": "X", "status": "queued"}), poll=poll).run()
    assert (run.records["row-0"]["state"], text(run.records["row-0"])) == ("succeeded", "hi")


def test_a_resumed_retry_with_its_own_ended_id_is_not_retried_either():
    run = Driver(
        [],
        submit=lambda key, n: answer(200, {"id": "X", "status": "queued"}),
        poll=lambda job_id, n: answer(200, {"id": job_id, **FAILED}),
        start=False,
    )
    run.take_up([ended_before("row-0", "X")], {}, 1, 1, 0, 0, ended_ids=EndedIds(["X"]))
    run.run()
    assert (run.records["row-0"]["state"], len(run.times("submit"))) == ("internal_error", 1)


# --- polls ---


@pytest.mark.parametrize("shown", [COMPLETED, FAILED, RUNNING, {**COMPLETED, "state": "failed"}], ids=str)
@pytest.mark.parametrize("whose", ["running", "finished", "earlier run", "own earlier attempt"])
def test_p19_a_poll_that_names_another_rows_job_is_unclear(whose, shown):
    """`row-1` is polled as B, and shown as A until the fifth poll."""

    def submit(key, n):
        return answer(200, {"id": {"row-0": "A", "row-1": "B"}[key], "status": "queued"})

    def poll(job_id, n):
        if job_id == "A":
            return third_time(job_id, n if whose != "running" else 0)
        if n < 4:
            return answer(200, {"id": "A", **shown})
        return answer(200, {"id": "B", "status": "completed", "output": [OWN]})

    if whose in ("running", "finished"):
        run = Driver(2, submit=submit, poll=poll, **({} if whose == "running" else {"concurrency": 1}))
    else:
        run = Driver([], submit=submit, poll=poll, start=False)
        if whose == "earlier run":
            run.rows = [Row("row-1")]
            run.take_up([], {}, 1, 0, 0, 0, ended_ids=EndedIds(["A"]))
        else:
            run.take_up([ended_before("row-1", "A")], {}, 1, 1, 0, 0, ended_ids=EndedIds(["A"]))
    run.run(until=300.0)
    record = run.records["row-1"]
    assert (record["state"], text(record), record["error"]) == ("succeeded", "hi", None)
    assert (record["warnings"], record["polls"]) == ([], 5), "what another row's job showed left no trace"
    assert len(run.times("submit", "row-1")) == 1, "and caused no retry"


def test_p19_a_poll_that_always_names_another_rows_job_ends_at_the_deadline():
    def poll(job_id, n):
        return answer(200, {"id": "job_row-0_0", **COMPLETED})

    run = Driver(2, poll=poll, deadline=100.0).run()
    assert [run.records[f"row-{i}"]["state"] for i in (0, 1)] == ["succeeded", "timeout"]
    assert run.times("cancel", "job_row-1_0")
    assert run.times("cancel", "job_row-0_0") == []
    assert run.records["row-1"]["response"] is None
    assert len(run.sent["submit"]) == 2


def test_p19_it_is_told_why_nothing_is_seen():
    run = Driver(2, poll=lambda job_id, n: answer(200, {"id": "job_row-1_0" if "0_0" in job_id else "job_row-0_0"}))
    run.run(until=60.0)
    assert "names the job" in run.engine.snapshot().unanswered
    assert run.records == {}


@pytest.mark.parametrize("shown", [COMPLETED, FAILED])
def test_p19_the_answer_to_a_cancel_that_names_another_rows_job_says_nothing(shown):
    run = Driver(2, poll=lambda job_id, n: answer(200, {"id": job_id, **RUNNING}), poll_min=2.0, cancel_settle=30.0)
    run.script["cancel"] = lambda job_id, n: answer(200, {"id": "job_row-1_0", **shown, "usage": {"total_tokens": 99}})
    run.at(5.0, m.CancelRequested(frozenset({"row-0"}), CancelReason.USER))
    run.run(until=20.0)
    (cancelled,) = run.times("cancel")
    assert any(cancelled < at < cancelled + 2.5 for at in run.times("poll", "job_row-0_0")), (
        "polled soon, as if unanswered"
    )
    run.run(until=1_000.0)
    assert (run.records["row-0"]["state"], run.records["row-0"]["usage"]["total_tokens"]) == ("cancelled", None)


def test_p02_an_id_that_no_row_has_is_believed():
    def poll(job_id, n):
        return answer(200, {"id": f"other_{job_id}", "status": "completed", "output": [OWN]})

    run = Driver(2, poll=poll).run()
    assert [(one["state"], one["warnings"], one["polls"]) for one in run.records.values()] == [
        ("succeeded", ["id_changed"], 1)
    ] * 2


@pytest.mark.parametrize("shown", [COMPLETED, FAILED])
def test_p19_an_id_that_no_row_has_waits_for_the_posts_in_flight(shown):
    """`row-1` is accepted as B at 10 s, and before that the poll of A shows B."""

    def poll(job_id, n):
        if job_id == "A" and run.now < 15.0:
            return answer(200, {"id": "B", **shown})
        return answer(200, {"id": job_id, "status": "completed", "output": [OWN]})

    run = Driver(
        2, submit=lambda key, n: answer(200, {"id": {"row-0": "A", "row-1": "B"}[key], "status": "queued"}), poll=poll
    )
    exchange = run._exchange

    def slow_for_row_1(kind, name, event_of):
        run.latency = 10.0 if (kind, name) == ("submit", "row-1") else 0.1
        exchange(kind, name, event_of)

    run._exchange = slow_for_row_1
    run.run()
    assert {key: (one["state"], text(one), one["warnings"]) for key, one in run.records.items()} == {
        "row-0": ("succeeded", "hi", []),
        "row-1": ("succeeded", "hi", []),
    }
    assert len(run.sent["submit"]) == 2


def test_p02_an_id_that_no_row_has_is_believed_once_the_posts_in_flight_are_answered():
    """Later POSTs do not count: a long run of them keeps no result waiting."""

    def poll(job_id, n):
        return answer(200, {"id": f"other_{job_id}", "status": "completed", "output": [OWN]})

    run = Driver(300, poll=poll, rpm=600, poll_min=0.5, poll_max=0.5).run(until=15.0)
    assert 60 < len(run.records) < 300
    assert {tuple(one["warnings"]) for one in run.records.values()} == {("id_changed",)}
    assert max(one["polls"] for one in run.records.values()) <= 3


# --- a service that answers equal requests with one job ---


def alike(*hashes):
    return [Row(f"row-{i}", About(body_hash=one)) for i, one in enumerate(hashes)]


def same(key, n):
    return answer(200, {"id": "X", "status": "queued"})


@pytest.mark.parametrize("moment", ["running", "finished"])
def test_s28_equal_rows_share_a_job_where_the_service_repeats_ids(moment):
    places = {} if moment == "running" else {"concurrency": 1}
    run = Driver(alike(7, 7), submit=same, repeats_ids=True, **places).run()
    assert [(one["state"], one["job_id"], text(one)) for one in run.records.values()] == [("succeeded", "X", "hi")] * 2
    assert run.records["row-1"]["warnings"] == ["shared_job"]
    assert run.records["row-0"]["warnings"] == (["shared_job"] if moment == "running" else [])
    assert not run.engine.jobs.sharing
    assert not run.engine.jobs.watched


@pytest.mark.parametrize(("hashes", "repeats_ids"), [((7, 8), True), ((0, 0), True), ((7, 7), False)])
@pytest.mark.parametrize("places", [1, 8])
def test_s28_unequal_rows_share_nothing(places, hashes, repeats_ids):
    run = Driver(alike(*hashes), submit=same, repeats_ids=repeats_ids, concurrency=places).run()
    assert [one["state"] for one in run.records.values()] == ["unconfirmed", "succeeded"][:: -1 if places == 1 else 1]
    assert run.records["row-1"]["error"]["code"] == "duplicate_job_id"


def test_s28_equal_rows_of_an_earlier_run_are_known_by_their_bodies():
    run = Driver([], submit=same, start=False, repeats_ids=True)
    run.rows = alike(7, 8)
    run.take_up([], {}, 1, 0, 0, 0, ended_ids=EndedIds(["W", "X"], [9, 8]))
    run.run()
    assert {key: one["state"] for key, one in run.records.items()} == {"row-0": "unconfirmed", "row-1": "succeeded"}


def test_a_shared_job_that_fails_is_retried_for_each_row_that_shares_it():
    def submit(key, n):
        return answer(200, {"id": "XY"[n], "status": "queued"})

    def poll(job_id, n):
        return answer(200, {"id": job_id, **FAILED}) if job_id == "X" else third_time(job_id, n)

    run = Driver(alike(7, 7, 7), submit=submit, poll=poll, repeats_ids=True).run()
    assert [(one["state"], one["job_id"], one["retry_count"]) for one in run.records.values()] == [
        ("succeeded", "Y", 1)
    ] * 3


def test_a_shared_job_that_is_named_to_every_retry_ends_all_its_rows():
    run = Driver(
        alike(7, 7), submit=same, poll=lambda job_id, n: answer(200, {"id": job_id, **FAILED}), repeats_ids=True
    )
    run.run()
    assert [(one["state"], one["retry_count"]) for one in run.records.values()] == [("internal_error", 1)] * 2


@pytest.mark.parametrize("first", ["row-0", "row-1"])
def test_a_shared_job_is_cancelled_only_when_no_row_wants_it_any_more(first):
    second = {"row-0": "row-1", "row-1": "row-0"}[first]
    run = Driver(
        alike(7, 7), submit=same, poll=lambda job_id, n: answer(200, {"id": job_id, **RUNNING}), repeats_ids=True
    )
    run.at(5.0, m.CancelRequested(frozenset({first}), CancelReason.USER))
    run.at(30.0, m.CancelRequested(frozenset({second}), CancelReason.USER))
    run.run(until=29.0)
    assert run.times("cancel") == []
    assert [(key, one["state"]) for key, one in run.records.items()] == [(first, "cancelled")]
    run.run(until=2_000.0)
    (sent,) = run.times("cancel")
    assert sent >= 30.0
    assert {key: one["state"] for key, one in run.records.items()} == {"row-0": "cancelled", "row-1": "cancelled"}


def test_a_shared_job_stays_for_the_row_that_wants_it():
    run = Driver(alike(7, 7), submit=same, repeats_ids=True, poll_min=5.0, poll_max=5.0)
    run.at(4.0, m.CancelRequested(frozenset({"row-0"}), CancelReason.USER))
    run.run()
    assert {key: (one["state"], text(one)) for key, one in run.records.items()} == {
        "row-0": ("cancelled", None),
        "row-1": ("succeeded", "hi"),
    }
    assert run.sent["cancel"] == []


def test_a_cancel_of_all_rows_cancels_a_shared_job():
    run = Driver(alike(7, 7), submit=same, repeats_ids=True, poll_min=5.0)
    run.at(3.0, m.CancelRequested(None, CancelReason.USER))
    run.run(until=500.0)
    assert run.times("cancel")
    assert {one["state"] for one in run.records.values()} == {"cancelled"}


@pytest.mark.parametrize("finished", [False, True])
def test_a_shared_job_is_taken_up_for_each_of_its_rows(finished):
    """After a crash, also without the input, so that no bodies are known."""
    run = Driver([], start=False, repeats_ids=True, collecting=True)
    rows = [submitted_before("row-0", "X"), submitted_before("row-1", "X")]
    run.take_up(
        rows[finished:], {"row-0": "succeeded"} if finished else {}, 2, 0, 0, 0, ended_ids=EndedIds(["X"] * finished)
    )
    run.run()
    assert {key: (one["state"], one["warnings"], text(one)) for key, one in run.records.items()} == {
        row.key: ("succeeded", ["shared_job"], "hi") for row, _ in rows[finished:]
    }
    assert run.sent["submit"] == []


def test_an_id_that_a_journal_has_twice_counts_once_where_the_service_does_not_repeat_ids():
    run = Driver([], start=False)
    run.take_up([submitted_before("row-0", "X"), submitted_before("row-1", "X")], {}, 2, 0, 0, 0)
    run.run()
    assert run.records["row-0"]["state"] == "succeeded"
    assert (run.records["row-1"]["state"], run.records["row-1"]["error"]["code"]) == ("unconfirmed", "duplicate_job_id")
    assert "'row-0'" in run.records["row-1"]["error"]["message"]


def test_p19_a_poll_that_names_the_job_of_an_equal_row_counts_where_the_service_repeats_ids():
    def submit(key, n):
        return answer(200, {"id": {"row-0": "A", "row-1": "B"}[key], "status": "queued"})

    def poll(job_id, n):
        return answer(200, {"id": "A", "status": "completed", "output": [OWN]})

    run = Driver(alike(7, 7), submit=submit, poll=poll, repeats_ids=True).run()
    assert (run.records["row-1"]["state"], sorted(run.records["row-1"]["warnings"])) == (
        "succeeded",
        ["id_changed", "shared_job"],
    )


# --- what is kept of ended ids ---


def test_of_an_ended_id_at_most_twenty_bytes_are_kept():
    ids = EndedIds(f"job-{n}" for n in range(50_000))
    for n in range(50_000, 100_000):
        ids.add(f"job-{n}")
    index = ids.index
    assert (index.marks.itemsize, ids._bodies.itemsize) == (8, 8), "at most 16 bytes of hashes"
    assert len(index.marks) * 8 + len(index._slots) * 4 <= 20 * len(ids)
    assert hash("job-77") in index
    assert hash("job-77777") in index
    assert hash("job-100001") not in index
    assert len(ids._bodies) == 0


def test_the_bodies_of_ended_ids_stay_with_them():
    ids = EndedIds(["a", "b"], [1, 2])
    ids.add("c")
    ids.add("d", 4)
    ids.add("d", 5)
    ids.add("a", 9)
    assert [ids.body_hash(one) for one in "abcde"] == [1, 2, 0, 4, 0]


@pytest.mark.parametrize("repeats_ids", [True, False])
def test_a_cancel_waits_for_rows_that_may_share_the_job_and_are_taken_up_later(repeats_ids):
    run = Driver([], start=False, repeats_ids=repeats_ids, collecting=True)
    rows = [submitted_before("row-0", "X"), submitted_before("row-1", "X"), submitted_before("row-2", "Y")]
    run.feed(m.Recovered({}, 2, 0, 0, 0, to_cancel={"row-0", "row-2"}))
    run.feed(m.RowsTakenUp([rows[0], rows[2]], more=True))
    assert [name for _, name in run.sent["cancel"]] == ([] if repeats_ids else ["X", "Y"])
    run.feed(m.RowsTakenUp([rows[1]]))
    run.run()
    assert run.records["row-1"]["state"] == ("succeeded" if repeats_ids else "unconfirmed")
    assert (run.records["row-0"]["state"], run.records["row-2"]["state"]) == ("cancelled", "cancelled")
    assert {name for _, name in run.sent["cancel"]} == ({"Y"} if repeats_ids else {"X", "Y"})


@pytest.mark.parametrize("recalled", [1, 2, 3])
def test_a_run_that_only_cancels_leaves_a_job_that_other_rows_want(recalled):
    """The other rows of X are not taken up until they are to end too."""
    always_running = lambda job_id, n: answer(200, {"id": job_id, **RUNNING})  # noqa: E731 - used once
    run = Driver([], start=False, repeats_ids=True, collecting=True, poll=always_running)
    rows = [submitted_before(f"row-{i}", "X") for i in range(3)]
    run.feed(m.Recovered({}, 3, 0, 0, 0, to_cancel={"row-0"}, left_open={"X": 2}))
    run.feed(m.RowsTakenUp([rows[0]], more=True))
    for row in rows[1:recalled]:
        run.at(0.5, m.RowsRecalled([row]))
    run.at(1.0, m.RowsTakenUp([]))
    run.run(until=1_000.0)
    assert {key: one["state"] for key, one in run.records.items()} == {f"row-{i}": "cancelled" for i in range(recalled)}
    assert {name for _, name in run.sent["cancel"]} == ({"X"} if recalled == 3 else set())
