"""Events to instructions: the order of things, cancels, stops, recovery."""

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import About, CancelReason, Row
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.journal.entries import AttemptEnded
from batchrun.core.journal.fold import JournaledRow
from batchrun.core.records.record import RECORD_SCHEMA
from batchrun.core.responses.error import our_problem
from tests.core.driver import DROPPED, UNSENT, Driver, answer, error
from tests.core.invariants import check_invariants

VALIDATOR = jsonschema.Draft202012Validator(RECORD_SCHEMA)


def running(job_id, n):
    return answer(200, {"id": job_id, "status": "in_progress"})


def names(instructions):
    return [type(instruction).__name__ for instruction in instructions]


def cancel(*keys, reason=CancelReason.USER):
    return m.CancelRequested(frozenset(keys) or None, reason)


# --- one row's way ---


def test_one_rows_way_step_by_step():
    run = Driver([Row("row-0", About("gpt-5", b'{"a":1}'))]).run()
    way = [name for name in names(run.instructions) if name not in ("Wake", "ReadRows")]
    assert way == ["Append", "Submit", "Append", "Poll", "Poll", "Poll", "Emit", "Append", "Finish"]
    assert run.tags("row-0") == ["intent", "submitted", "done"]
    record = run.records["row-0"]
    VALIDATOR.validate(record)
    assert (record["state"], record["job_id"], record["polls"], record["metadata"]) == (
        "succeeded",
        "job_row-0_0",
        3,
        {"a": 1},
    )
    assert record["model"] == "gpt-5"
    assert record["submitted_at"] < record["running_at"] < record["finished_at"]
    assert run.outcome is m.Outcome.COMPLETE


def test_nothing_is_sent_before_its_intent_is_synced_and_nothing_watched_before_its_id_is():
    run = Driver(start=False)
    engine = run.engine
    engine.handle(m.RowRead(Row("a")), 0.0)
    job = engine.jobs.unsubmitted["a"]
    assert job.phase is Phase.INTENDING
    assert names(engine.handle(m.TimerFired(), 5.0)) == []
    assert names(engine.handle(m.Synced(m.BatchFile.JOURNAL, 1), 6.0))[0] == "Submit"
    from batchrun.core.responses.verdict import read_submit

    engine.handle(m.SubmitAccepted(job, 1, read_submit(answer(200, {"id": "x", "status": "queued"}), 0.0)), 7.0)
    assert job.phase is Phase.RECORDING
    assert "Poll" not in names(engine.handle(m.TimerFired(), 500.0))
    engine.handle(m.Synced(m.BatchFile.JOURNAL, 2), 501.0)
    assert job.phase is Phase.WATCHING


def test_no_intent_without_a_turn():
    run = Driver(100, submits=4, rpm=60, latency=0.0).run(until=5.0)
    intents = [entry for entry in run.entries if "intent" in entry]
    assert len(intents) == len(run.sent["submit"]) <= 7


def test_a_record_is_done_only_when_it_is_synced():
    run = Driver(1)
    run.run(until=0.05)
    engine = run.engine
    job = engine.jobs.unsubmitted["row-0"]
    from batchrun.core.responses.verdict import read_submit

    instructions = engine.handle(
        m.SubmitAccepted(job, 1, read_submit(answer(200, {"status": "completed", "output": "x"}), 0.0)), 1.0
    )
    assert "Emit" in names(instructions)
    assert "Finish" not in names(instructions)
    assert job.phase is Phase.ENDING
    done = engine.handle(m.Synced(m.BatchFile.OUTPUT, 1), 2.0)
    assert job.phase is Phase.FINISHED
    assert [b"done" in instruction.line for instruction in done if isinstance(instruction, m.Append)] == [True]
    assert done[-1] == m.Finish(m.Outcome.COMPLETE)


def test_s09_over_at_once_needs_no_poll():
    run = Driver(1, submit=lambda key, n: answer(200, {"id": "r1", "status": "completed", "output": "x"})).run()
    assert (run.sent["poll"], run.records["row-0"]["job_id"], run.records["row-0"]["polls"]) == ([], "r1", 0)


def test_s07_an_id_that_another_row_has():
    run = Driver(2, submit=lambda key, n: answer(200, {"id": "same", "status": "queued"})).run()
    first, second = run.records["row-0"], run.records["row-1"]
    assert (first["state"], second["state"], second["error"]["code"]) == (
        "succeeded",
        "unconfirmed",
        "duplicate_job_id",
    )
    assert "'row-0'" in second["error"]["message"]
    assert "'row-1'" in second["error"]["message"]


def test_s02_a_lost_answer_is_unconfirmed_and_never_sent_again():
    run = Driver(3, submit=lambda key, n: DROPPED if key == "row-1" else run.accept(key, n))
    run.run()
    assert run.records["row-1"]["state"] == "unconfirmed"
    assert run.records["row-1"]["billing"] == "unknown"
    assert run.tags("row-1") == ["intent", "unconfirmed", "done"]
    assert len(run.times("submit", "row-1")) == 1


def test_a_row_that_the_check_refused_ends_without_a_request():
    run = Driver([Row("bad", problem=our_problem("no_model", "line 3 names no model")), Row("good")]).run()
    assert run.records["bad"]["state"] == "rejected"
    assert run.records["bad"]["error"]["source"] == "client"
    assert [name for _, name in run.sent["submit"]] == ["good"]


def test_a_timer_that_fires_too_early_is_set_again():
    run = Driver(1, latency=0.0)
    run.run(until=0.0)
    (wish,) = [i.at for i in run.instructions if isinstance(i, m.Wake)][-1:]
    assert run.engine.handle(m.TimerFired(), wish - 0.001) == [m.Wake(wish)]


def test_a_limit_takes_so_many_rows_of_those_that_are_left():
    run = Driver(start=False, limit=3)
    run.rows = [Row("finished"), *(Row(f"r{i}") for i in range(500))]
    run.take_up([], {"finished": "failed"}, 0, 0, 0, 0)
    run.run()
    assert (run.outcome, set(run.records)) == (m.Outcome.COMPLETE, {"r0", "r1", "r2"})


def test_i26_what_was_sent_otherwise_is_a_warning_of_the_record():
    run = Driver(1)
    run.run(until=0.05)
    job = run.engine.jobs.unsubmitted["row-0"]
    from batchrun.core.responses.verdict import read_submit

    accepted = read_submit(answer(200, {"status": "completed", "output": "x"}), 0.0)
    run.feed(m.SubmitAccepted(job, 1, accepted, ("stream_overridden",)))
    assert run.records["row-0"]["warnings"] == ["stream_overridden"]


# --- attempts ---


def failing(code, times):
    def poll(job_id, n):
        attempt = int(job_id.rsplit("_", 1)[1])
        return answer(
            200,
            {"id": job_id, "status": "failed", "error": {"code": code}}
            if attempt < times
            else {"id": job_id, "status": "completed", "output": "x"},
        )

    return poll


@pytest.mark.parametrize(
    ("code", "failures", "retries", "state", "attempts"),
    [
        ("server_error", 1, 4, "succeeded", 1), ("server_error", 9, 4, "internal_error", 2), ("rate_limit_exceeded", 9, 4, "rate_limited", 4),
        ("vector_store_timeout", 9, 4, "timeout", 2), ("failed_to_download_image", 9, 4, "rejected", 1), ("invalid_prompt", 9, 4, "rejected", 0),
        ("server_error", 9, 0, "internal_error", 0), ("server_error", 9, 1, "internal_error", 1), ("bio_policy", 9, 4, "blocked", 0),
    ],
)  # fmt: skip
def test_new_attempts_are_counted_capped_and_listed(code, failures, retries, state, attempts):
    run = Driver(1, poll=failing(code, failures), retries=retries).run()
    record = run.records["row-0"]
    VALIDATOR.validate(record)
    assert (record["state"], record["retry_count"], len(run.sent["submit"])) == (state, attempts, attempts + 1)
    assert [attempt["job_id"] for attempt in record["attempts"]] == [f"job_row-0_{n}" for n in range(attempts)]
    assert run.tags("row-0").count("ended") == attempts


def test_a_new_attempt_waits_and_asks_for_its_turn_again():
    run = Driver(
        1, poll=failing("rate_limit_exceeded", 3), chance=lambda: 0.999, latency=0.0, poll_min=0.1, poll_max=0.1
    ).run()
    gaps = [b - a for a, b in zip(run.times("submit"), run.times("submit")[1:], strict=False)]
    assert gaps == pytest.approx([1.15, 2.15, 4.15], abs=0.05)


def test_the_delay_named_by_the_service_is_a_floor():
    def poll(job_id, n):
        body = {
            "id": job_id,
            "status": "failed",
            "error": {"code": "rate_limit_exceeded", "message": "try again in 30s"},
        }
        return answer(200, body) if job_id.endswith("_0") else run.third_time(job_id, 9)

    run = Driver(1, poll=poll)
    run.run()
    first, second = run.times("submit")
    assert 30 < second - first < 45


def test_stale_answers_are_counted_and_dropped():
    run = Driver(1, poll=failing("server_error", 1))
    run.run(until=1.0)
    job = next(iter(run.engine.jobs.watched.values()))
    from batchrun.core.responses.verdict import read_poll, read_submit

    late = m.SubmitAccepted(job, 1, read_submit(answer(200, {"id": "other", "status": "queued"}), 0.0))
    assert [name for name in names(run.feed(late)) if name != "Wake"] == []
    run.run()
    seen = read_poll(answer(200, {"id": job.job_id, "status": "failed"}), 0.0, job.job_id)
    run.outcome = run.engine.outcome = None
    run.feed(m.PollAnswered(job, 1, seen))
    assert run.engine.snapshot().stale == 2
    assert run.states() == {"succeeded": 1}


# --- cancels ---


def test_c01_before_the_submit_nothing_is_sent():
    run = Driver(5, submits=1, rpm=60)
    run.at(0.5, cancel("row-4"))
    run.run()
    record = run.records["row-4"]
    assert (record["state"], record["billing"], record["error"]["code"]) == (
        "cancelled",
        "not_billed",
        "cancelled_by_user",
    )
    assert run.times("submit", "row-4") == run.times("cancel") == []
    assert run.tags("row-4") == ["cancelling", "done"]


def test_c02_while_the_post_is_in_flight_it_is_sent_as_soon_as_the_id_is_known():
    run = Driver(1, latency=1.0, poll=lambda j, n: answer(200, {"id": j, "status": "cancelled"}))
    run.at(0.5, cancel("row-0"))
    run.run()
    assert run.times("cancel") == [1.0]
    assert run.records["row-0"]["state"] == "cancelled"
    assert run.sent["poll"] == [(pytest.approx(12.0, abs=0.02), "job_row-0_0")], "the settle look and no other"


def test_c02_the_answer_is_lost():
    run = Driver(1, submit=lambda key, n: DROPPED, latency=1.0)
    run.at(0.5, cancel("row-0"))
    run.run()
    record = run.records["row-0"]
    assert (record["state"], record["billing"], record["warnings"]) == ("cancelled", "unknown", ["submit_unanswered"])


@pytest.mark.parametrize("reply", [error(429, "rate_limit_exceeded"), error(400, "invalid_prompt"), UNSENT])
def test_c02_the_submit_is_refused(reply):
    run = Driver(1, submit=lambda key, n: reply, latency=1.0)
    run.at(0.5, cancel("row-0"))
    run.run()
    assert (run.records["row-0"]["state"], run.records["row-0"]["billing"]) == ("cancelled", "not_billed")


@pytest.mark.parametrize("word", ["cancelled", "cancelling", "canceled"])
def test_c03_answered_and_settled(word):
    words = iter([word, "cancelled", "cancelled", "cancelled"])
    run = Driver(
        1,
        cancel=lambda j, n: answer(200, {"id": j, "status": next(words)}),
        poll=lambda j, n: answer(
            200, {"id": j, "status": next(words)} if run.times("cancel") else {"status": "queued"}
        ),
    )
    run.at(5.0, cancel("row-0"))
    run.run()
    assert run.records["row-0"]["state"] == "cancelled"
    assert run.now >= run.times("cancel")[0] + 10.0
    assert run.now < run.times("cancel")[0] + 13.0


@pytest.mark.parametrize("reply", [answer(400), answer(409), answer(500), DROPPED, answer(200, b"<html>")])
def test_c04_never_granted_ends_after_five_minutes(reply):
    run = Driver(1, poll=running, cancel=lambda j, n: reply)
    run.at(5.0, cancel("row-0"))
    run.run()
    record = run.records["row-0"]
    assert (record["state"], record["billing"]) == ("cancelled", "unknown")
    assert 305.0 <= run.now < 306.0


@pytest.mark.parametrize(("status", "at", "ends"), [(404, 5.0, 120.0), (404, 1000.0, 1001.1), (410, 1000.0, 1001.1)])
def test_c04_not_found_is_settled_by_a_last_poll_once_the_job_is_two_minutes_old(status, at, ends):
    run = Driver(1, poll=running, cancel=lambda j, n: answer(status))
    run.at(at, cancel("row-0"))
    run.run()
    record = run.records["row-0"]
    assert (record["state"], record["billing"]) == ("cancelled", "unknown")
    assert ends <= run.now < ends + 0.5
    assert run.times("poll")[-1] > run.times("cancel")[0]


def test_c04_not_found_and_the_last_poll_shows_its_end():
    def poll(job_id, n):
        return answer(200, {"id": job_id, "status": "completed" if run.times("cancel") else "in_progress"})

    run = Driver(1, poll=poll, cancel=lambda j, n: answer(404))
    run.at(500.0, cancel("row-0"))
    run.run()
    assert (run.records["row-0"]["state"], run.records["row-0"]["warnings"]) == ("cancelled", ["late_completed"])


def test_c05_completed_at_the_settle_look():
    done = {
        "status": "completed",
        "output": "canary",
        "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
    }
    run = Driver(1, poll=lambda j, n: answer(200, {"id": j, **done} if run.times("cancel") else {"status": "queued"}))
    run.at(5.0, cancel("row-0"))
    run.run()
    record = run.records["row-0"]
    VALIDATOR.validate(record)
    assert (record["state"], record["warnings"], record["billing"]) == ("cancelled", ["late_completed"], "billed")
    assert (record["usage"]["total_tokens"], record["response"], record["output_text"]) == (7, None, None)
    assert not any(b"canary" in getattr(i, "line", b"") for i in run.instructions)


def test_a_cancel_during_a_poll_that_brings_the_result():
    run = Driver(1, latency=1.0, poll=lambda j, n: answer(200, {"id": j, "status": "completed", "output": "canary"}))
    run.run(until=2.2)
    assert run.engine.jobs.in_phase[Phase.POLLING] == 1
    run.at(run.now, cancel("row-0"))
    run.run()
    assert (run.records["row-0"]["state"], run.records["row-0"]["warnings"]) == ("cancelled", ["late_completed"])
    assert run.sent["cancel"] == [], "there was nothing left to cancel"


def test_c06_twice_unknown_and_finished_are_harmless():
    run = Driver(2)
    run.at(0.3, cancel("row-0"))
    run.at(0.35, cancel("row-0"))
    run.at(0.4, cancel("nobody"))
    run.run()
    assert run.states() == {"cancelled": 1, "succeeded": 1}
    assert run.tags("row-0").count("cancelling") == 1
    assert len(run.sent["cancel"]) == 1


def test_a_row_between_two_attempts_is_cancelled_at_once():
    run = Driver(1, poll=failing("rate_limit_exceeded", 9), chance=lambda: 0.999)
    run.run(until=1.9)
    assert run.engine.jobs.in_phase[Phase.WAITING] == 1
    run.at(run.now, cancel("row-0"))
    run.run()
    record = run.records["row-0"]
    assert (record["state"], record["retry_count"], record["billing"]) == ("cancelled", 1, "unknown")
    assert "before it was sent" not in record["error"]["message"], "its first attempt was"


def test_cancelling_everything_reaches_the_rows_that_are_not_read_yet():
    run = Driver(500, concurrency=10, submits=4, poll=running)
    run.at(3.0, cancel())
    run.run()
    assert run.states() == {"cancelled": 500}
    assert len(run.sent["submit"]) < 60


def test_a_row_is_cancelled_before_it_is_read():
    run = Driver(500, concurrency=10, submits=4)
    run.at(0.5, m.CancelRequested(frozenset({"row-499", "nobody"}), CancelReason.USER, frozenset({"row-499"})))
    run.run()
    assert run.records["row-499"]["state"] == "cancelled"
    assert run.times("submit", "row-499") == []


# --- stops ---


def test_o18_a_drain_waits_for_the_posts_in_flight_and_leaves_nothing_unconfirmed():
    run = Driver(100, latency=2.0, submits=8, concurrency=50)
    run.at(9.0, m.StopRequested(m.StopMode.DRAIN))
    run.run()
    assert (run.outcome, run.states()) == (m.Outcome.STOPPED, {})
    assert run.now <= 11.0
    assert all(time <= 9.0 for time in run.times("submit"))
    intents, ids = (
        {key for e in run.entries for tag, v in e.items() if tag == t for key in [v["key"]]}
        for t in ("intent", "submitted")
    )
    assert intents == ids


def test_an_intent_whose_post_never_began_is_cleared_on_a_stop():
    run = Driver(start=False)
    run.engine.handle(m.RowRead(Row("a")), 0.0)
    run.engine.handle(m.StopRequested(m.StopMode.DRAIN), 0.1)
    out = run.engine.handle(m.Synced(m.BatchFile.JOURNAL, 1), 0.2)
    assert [b'{"cleared":' in instruction.line for instruction in out if isinstance(instruction, m.Append)] == [True]
    assert "Submit" not in names(out)
    assert names(run.engine.handle(m.Synced(m.BatchFile.JOURNAL, 2), 0.3)) == ["Finish"]


def test_a_cancel_while_the_intent_is_on_its_way_to_the_disk():
    run = Driver(start=False)
    run.engine.handle(m.RowRead(Row("a")), 0.0)
    out = run.engine.handle(cancel("a"), 0.1)
    assert "Emit" in names(out)
    assert "Submit" not in names(run.engine.handle(m.Synced(m.BatchFile.JOURNAL, 3), 0.2))
    check_invariants(run.engine)


def test_a_drain_does_not_wait_beyond_its_time():
    run = Driver(10, latency=500.0, drain=30.0)
    run.at(5.0, m.StopRequested(m.StopMode.DRAIN))
    run.run()
    assert (run.outcome, run.now) == (m.Outcome.STOPPED, 35.0)


def test_the_second_stop_leaves_at_once():
    run = Driver(10, latency=500.0)
    run.at(5.0, m.StopRequested(m.StopMode.DRAIN))
    run.at(6.0, m.StopRequested(m.StopMode.NOW))
    run.run()
    assert (run.outcome, run.now) == (m.Outcome.STOPPED, 6.0)


def test_detach_submits_everything_and_watches_nothing():
    run = Driver(40, submits=8)
    run.at(0.0, m.StopRequested(m.StopMode.DETACH))
    run.run()
    assert (run.outcome, run.sent["poll"], len(run.sent["submit"])) == (m.Outcome.DETACHED, [], 40)
    assert sum("submitted" in entry for entry in run.entries) == 40


def test_collecting_submits_nothing_and_watches_to_the_end():
    run = Driver(start=False, collecting=True)
    journaled = JournaledRow()
    journaled.ended, journaled.attempt, journaled.retry_at = (OLD,), 2, OLD.retry_at
    run.take_up([(Row("again"), journaled)], {}, 4, 0, 0, 0)
    assert (run.run().outcome, run.sent["submit"]) == (m.Outcome.PARTIAL, [])
    run = Driver(start=False, collecting=True)
    assert run.recover(2).run().outcome is m.Outcome.COMPLETE


def test_o07_a_write_error_ends_the_run_without_another_request():
    run = Driver(50, submits=4)
    run.at(1.0, m.WriteFailed(m.BatchFile.OUTPUT, "no space left on device"))
    run.run()
    assert (run.outcome, run.now) == (m.Outcome.WRITE_FAILED, 1.0)
    assert [halt.reason for _, halt in run.told] == ["write failed"]


def test_no_polls_while_too_much_waits_for_the_disk():
    run = Driver(50, max_memory=1)
    run.engine.jobs.unsynced_records = 10
    run.run(until=20)
    assert run.sent["poll"] == []


# --- recovery ---


def recovered(trail_of):
    journaled = JournaledRow()
    for name, value in trail_of.items():
        setattr(journaled, name, value)
    run = Driver(start=False)
    run.rows = [Row("finished"), Row("r"), Row("new")]
    run.script["poll"] = lambda name, n: (
        run.cancelled(name, n) if run.times("cancel", name) else run.third_time(name, n)
    )
    run.take_up([(Row("r"), journaled)], {"finished": "succeeded"}, 1, 0, 0, 0)
    run.run()
    return run


OLD = AttemptEnded("r", 1, "j0", "internal_error", "server_error", "unknown", 1_000_005.0, 1_000_000.0)


@pytest.mark.parametrize(
    ("journaled", "state", "posts", "polls"),
    [
        ({"open_intent": True}, "unconfirmed", 0, 0),
        ({"unconfirmed": True}, "unconfirmed", 0, 0),
        ({"job_id": "j", "submitted_at": 999_990.0}, "succeeded", 0, 3),
        ({"ended": (OLD,), "attempt": 2, "retry_at": 1_000_005.0}, "succeeded", 1, 3),
        ({"job_id": "j", "cancel": "user"}, "cancelled", 0, 1),
        ({"cancel": "user"}, "cancelled", 0, 0),
        ({"cancel": "user", "open_intent": True}, "cancelled", 0, 0),
        ({"job_id": "j", "submitted_at": 999_990.0, "marker": (0, 0, 9, 9, "succeeded")}, "succeeded", 0, 3),
        ({"marker": (0, 0, 9, 9, "succeeded")}, "expired", 0, 0),
    ],
)
def test_where_a_row_is_taken_up(journaled, state, posts, polls):
    run = recovered(journaled)
    assert run.records["r"]["state"] == state
    assert (len(run.times("submit", "r")), sum(name in ("j", "job_r_0") for _, name in run.sent["poll"])) == (
        posts,
        polls,
    )
    assert run.records["new"]["state"] == "succeeded"
    assert "finished" not in run.records
    if journaled.get("ended"):
        assert run.times("submit", "r")[0] >= 5.0
        assert run.records["r"]["retry_count"] == 1
    if journaled.get("cancel") and journaled.get("open_intent"):
        assert run.records["r"]["warnings"] == ["submit_unanswered"]


def test_c07_a_cancel_that_was_journaled_and_not_sent_is_sent_by_the_next_run():
    run = recovered({"job_id": "j", "submitted_at": 999_990.0, "cancel": "user"})
    assert [name for _, name in run.sent["cancel"]] == ["j"]
    assert run.times("cancel")[0] == 0.0, "before anything else is asked"
    assert run.times("submit", "r") == []
    assert (run.records["r"]["state"], run.records["r"]["error"]["source"]) == ("cancelled", "client")
    assert run.times("poll", "j")[0] >= 10.0, "the settle look and no other"


def test_budgets_survive_a_restart():
    ends = tuple(OLD for _ in range(2))
    journaled = JournaledRow()
    journaled.ended, journaled.attempt, journaled.retry_at = ends, 3, 0.0
    run = Driver(start=False, poll=failing("server_error", 9))
    run.take_up([(Row("r"), journaled)], {}, 2, 2, 0, 0)
    run.run()
    assert (run.records["r"]["state"], run.records["r"]["retry_count"], len(run.sent["submit"])) == (
        "internal_error",
        2,
        1,
    )


def test_a_deadline_counts_from_the_first_run():
    run = Driver(start=False, poll=running, deadline=100.0, cancel=lambda *_: answer(409)).recover(1, age=95.0)
    run.run()
    assert run.records["old-0"]["state"] == "timeout"
    assert run.times("cancel")[0] < 7.0


DAY = 86_400.0


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_o22_within_a_run_the_wall_clock_is_not_asked(jump):
    """Only the clock that the engine is handed counts; the time of day is read once, when a run begins."""

    def of(epoch):
        run = Driver(start=False, poll=running, deadline=100.0, cancel=lambda *_: answer(409))
        run.engine.jobs.epoch += epoch
        run.rows = [Row(f"row-{i}") for i in range(20)]
        run.feed(m.TimerFired())
        run.run()
        return run.now, run.sent, list(run.records)

    assert of(0.0) == of(jump)


@pytest.mark.parametrize(("jump", "at"), [(DAY, 100.0), (-DAY, 0.0)])
def test_o22_between_runs_a_job_is_at_least_of_age_0(jump, at):
    """Set back a day, the clock says that the job is of tomorrow: it has its whole deadline. Set on, one last look."""
    run = Driver(start=False, poll=running, deadline=100.0, cancel=lambda *_: answer(409)).recover(1, age=-jump)
    run.run()
    assert run.records["old-0"]["error"]["code"] == "deadline_exceeded"
    assert at <= run.times("cancel")[0] <= at + 2.0
    assert run.times("poll")[0] <= run.times("cancel")[0]
    assert run.records["old-0"]["submitted_at"] <= run.records["old-0"]["finished_at"]


@pytest.mark.parametrize(("jump", "at"), [(DAY, 0.0), (-DAY, 5.0)])
def test_o22_between_runs_a_delay_is_no_longer_than_it_was(jump, at):
    began = 1_000_000.0 - jump
    end = AttemptEnded("r", 1, "j0", "internal_error", "server_error", "unknown", began + 5.0, began)
    run = recovered({"ended": (end,), "attempt": 2, "retry_at": end.retry_at})
    assert run.times("submit", "r")[0] == pytest.approx(at, abs=0.5)


# --- anything in any order ---

REPLIES = st.sampled_from(
    ["queued", "completed", "failed", "retry", "refuse", "reject", "drop", "500", "404", "html", "quota"]
)


def scripted(word, name):
    match word:
        case "queued" | "completed" | "failed":
            return answer(200, {"id": name, "status": word, "output": "x"})
        case "retry":
            return answer(200, {"id": name, "status": "failed", "error": {"code": "server_error"}})
        case "refuse":
            return error(429, "rate_limit_exceeded")
        case "reject":
            return error(400, "invalid_prompt")
        case "drop":
            return DROPPED
        case "404":
            return answer(404)
        case "html":
            return answer(200, b"<html>")
        case "quota":
            return error(429, "insufficient_quota")
        case _:
            return answer(500)


@given(
    st.integers(1, 8),
    st.lists(REPLIES, min_size=1, max_size=12),
    st.lists(REPLIES, min_size=1, max_size=12),
    st.lists(st.tuples(st.floats(0, 40), st.sampled_from(["cancel one", "cancel all", "time", "woke"])), max_size=5),
    st.randoms(use_true_random=False),
)
@settings(max_examples=150, deadline=None)
def test_every_row_ends_in_exactly_one_record_or_stays_open_for_a_reason(rows, submits, polls, wishes, rng):
    run = Driver(rows, submits=3, deadline=200.0, chance=rng.random,
                 submit=lambda key, n: scripted(submits[(hash(key) + n) % len(submits)], f"{key}_{n}"),
                 poll=lambda name, n: scripted(polls[n % len(polls)], name), cancel=lambda name, n: scripted(polls[n % len(polls)], name))  # fmt: skip
    asked = set()
    for when, wish in wishes:
        if wish == "cancel one":
            run.at(when, cancel(f"row-{int(when) % rows}"))
        elif wish == "cancel all":
            run.at(when, cancel())
        else:
            run.at(when, m.TimerFired() if wish == "time" else m.SuspensionEnded(10.0))
    while run.outcome is None and run._queue and run.now < 1e5:
        run.run(until=run._queue[0][0])
        asked |= {job.key for job in [*run.engine.jobs.unsubmitted.values(), *run.engine.jobs.watched.values()]
                  if job.cancel_reason is CancelReason.USER and job.phase not in (Phase.ENDING, Phase.FINISHED)}  # fmt: skip
    assert run.outcome in (m.Outcome.COMPLETE, m.Outcome.HALTED)
    for record in run.records.values():
        VALIDATOR.validate(record)
    if run.outcome is m.Outcome.COMPLETE:
        assert set(run.records) == {f"row-{i}" for i in range(rows)}
    else:
        assert run.told
    assert all(run.records[key]["state"] == "cancelled" for key in asked if key in run.records), "cancelled is for ever"
