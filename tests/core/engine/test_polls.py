"""Polls, deadlines and the write-off rule, as tables of exact times."""

import itertools
from collections import Counter

import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import TICKS_PER_SECOND, CancelReason, Row
from batchrun.core.journal.fold import JournaledRow
from batchrun.core.pacing.backoff import Backoff
from batchrun.core.responses.http import Cause, Failure
from batchrun.core.settings.settings import LONGEST_GAP, Settings, UsageError
from tests.core.driver import DROPPED, Driver, answer, error

MIDDLE = {"chance": lambda: 0.5}  # every gap exactly as long as its base
HTML = answer(200, b"<html>please log in")


def running(job_id, n):
    return answer(200, {"id": job_id, "status": "in_progress"})


def test_gaps_grow_by_half_up_to_the_cap():
    run = Driver(1, poll=running, latency=0.0, poll_min=1.0, poll_max=10.0, **MIDDLE).run(until=80)
    times = run.times("poll")
    gaps = [b - a for a, b in zip([0.0, *times], times, strict=False)]
    expected = [1.0, 1.5, 2.25, 3.375, 5.0625, 7.59375, 10.0, 10.0, 10.0]
    assert gaps[: len(expected)] == pytest.approx(expected, abs=2 / TICKS_PER_SECOND)


def test_a_gap_is_jittered_and_never_beyond_five_minutes():
    pacing = Backoff(1.0, 30.0)
    assert [pacing.gap(0, chance) for chance in (0.0, 0.5, 0.999)] == pytest.approx([0.5, 1.0, 1.499])
    assert pacing.gap(50, 0.999) == pytest.approx(44.97)
    assert Backoff(300.0, 300.0).gap(3, 0.999) == LONGEST_GAP
    with pytest.raises(UsageError, match="--poll-max: expected at most 1800 s"):
        Settings(poll_max=1801)


def test_ten_thousand_jobs_accepted_at_once_never_come_back_in_step():
    run = Driver(
        10_000,
        poll=running,
        latency=0.0,
        poll_rate=1e9,
        connections=20_000,
        concurrency=20_000,
        submits=20_000,
        poll_min=10.0,
        rate="fixed",
    )
    run.engine.gate.window.size = 20_000.0
    run.run(until=15.1)
    assert {at for at, _ in run.sent["submit"]} == {0.0}
    first = {}
    for at, name in run.sent["poll"]:
        first.setdefault(name, at)
    tenths = Counter(int(at * 10) for at in first.values())
    assert len(first) == 10_000
    assert max(tenths.values()) <= 1.5 * 10_000 / 100, "an even share of ten seconds in tenths"


def test_polls_keep_their_rate():
    run = Driver(start=False, poll=running, latency=0.01, poll_rate=50, poll_min=5, poll_max=5).recover(500)
    run.run(until=9.0)
    times = run.times("poll")
    assert max(sum(start <= time < start + 1 for time in times) for start in times) <= 51
    assert len(times) >= 0.95 * 50 * 8


def test_the_service_may_name_the_next_look():
    def poll(job_id, n):
        return answer(200, {"id": job_id, "status": "queued"}, openai_poll_after_ms="20000")

    run = Driver(1, poll=poll, latency=0.0, **MIDDLE).run(until=60)
    gaps = [b - a for a, b in zip(run.times("poll"), run.times("poll")[1:], strict=False)]
    assert all(20.0 <= gap <= 25.1 for gap in gaps)


@pytest.mark.parametrize(
    "trouble",
    [
        answer(500),
        answer(502, b"<html>"),
        answer(408),
        answer(429),
        DROPPED,
        answer(200, b""),
        answer(200, b'{"id'),
        HTML,
    ],
)
def test_p01_trouble_on_polls_changes_nothing(trouble):
    def poll(job_id, n):
        return trouble if n < 8 else answer(200, {"id": job_id, "status": "completed", "output": "x"})

    run = Driver(3, poll=poll).run()
    assert run.states() == {"succeeded": 3}
    assert len(run.sent["submit"]) == 3
    assert run.sent["cancel"] == []
    assert {record["polls"] for record in run.records.values()} == {9}


def test_p04_p12_a_status_may_move_backwards_and_the_first_final_word_stands():
    words = ["in_progress", "queued", "in_progress", "completed", "failed"]
    run = Driver(1, poll=lambda job_id, n: answer(200, {"id": job_id, "status": words[n], "output": "x"})).run()
    assert (run.states(), len(run.sent["poll"])) == ({"succeeded": 1}, 4)


def test_a_429_on_polls_pauses_all_of_them():
    def poll(job_id, n):
        return answer(429, {}, retry_after="20") if (job_id, n) == ("job_old-0", 0) else running(job_id, n)

    run = Driver(start=False, poll=poll, latency=0.0, poll_rate=1000).recover(50)
    run.run(until=40)
    refused_at = run.times("poll", "job_old-0")[0]
    assert [time for time in run.times("poll") if refused_at < time < refused_at + 20] == []


# --- deadlines ---


@pytest.mark.parametrize("word", ["queued", "in_progress", "brand_new", None])
def test_p05_for_ever_ends_at_the_deadline_after_one_last_look(word):
    run = Driver(
        1,
        poll=lambda job_id, n: answer(200, {"id": job_id, "status": word}),
        deadline=100.0,
        cancel=lambda *_: answer(409),
    )
    run.run(until=101.0)
    last_look, *_ = reversed([time for time in run.times("poll") if time <= 100.5])
    assert 100.0 <= last_look <= 100.2
    assert run.times("cancel") == [pytest.approx(last_look + 0.1)]
    run.run()
    record = run.records["row-0"]
    assert (record["state"], record["error"]["code"], record["error"]["source"]) == (
        "timeout",
        "deadline_exceeded",
        "client",
    )
    assert (record["billing"], record["status"]) == ("unknown", word)
    assert len(run.sent["submit"]) == 1
    if word not in ("queued", "in_progress"):
        assert "unknown_status" in record["warnings"]


def test_a_result_that_is_there_at_the_last_look_is_kept():
    done = {"status": "completed", "output": "x"}
    run = Driver(
        1,
        poll=lambda job_id, n: answer(200, {"id": job_id, **(done if run.now > 50 else {"status": "queued"})}),
        deadline=50.0,
    )
    run.run()
    assert (run.records["row-0"]["state"], run.records["row-0"]["warnings"]) == ("succeeded", ["after_deadline"])
    assert run.records["row-0"]["response"]["body"]["output"] == "x"


def test_an_outage_at_the_deadline_waits_for_a_look():
    def poll(job_id, n):
        if 40 < run.now < 400:
            return answer(503)
        return answer(
            200,
            {"id": job_id, "status": "completed", "output": "x"}
            if run.now > 400
            else {"id": job_id, "status": "queued"},
        )

    run = Driver(5, poll=poll, deadline=60.0)
    run.run()
    assert run.states() == {"succeeded": 5}
    assert run.now > 400


def test_jobs_of_a_service_that_is_never_seen_again_end_an_hour_past_their_deadline():
    run = Driver(2, poll=lambda job_id, n: answer(503), deadline=60.0, cancel=lambda *_: answer(503))
    assert run.run(until=5_000.0).states() == {"timeout": 2}
    assert 60.0 + 3_600.0 <= run.times("cancel")[0] <= 60.0 + 3_600.0 + 60.0


def test_one_job_that_cannot_be_seen_ends_although_the_others_can():
    def poll(job_id, n):
        return (
            answer(500)
            if job_id == "job_row-0_0"
            else running(job_id, n)
            if run.now < 300
            else run.third_time(job_id, 9)
        )

    run = Driver(4, poll=poll, deadline=200.0, cancel=lambda *_: answer(500))
    run.run()
    assert run.records["row-0"]["state"] == "timeout"
    assert run.now < 200 + 300 + 60


def test_what_stays_unreadable_to_the_deadline_is_kept():
    run = Driver(1, poll=lambda job_id, n: answer(200, b'{"paid": "for", '), deadline=30.0).run()
    assert run.records["row-0"]["error"]["code"] == "unreadable_result"
    assert run.kept == [m.KeepUnreadable("row-0", b'{"paid": "for", ')]


LARGE = b'{"paid": "for", "x": NaN, ' + b" " * (8 << 20) + b'"y": 1}'


def test_p25_what_is_too_large_to_read_ends_its_row_at_the_first_poll_and_is_kept():
    run = Driver(2, poll=lambda job_id, n: answer(200, LARGE) if "row-0" in job_id else running(job_id, n)).run(
        until=60
    )
    assert [job_id for _, job_id in run.sent["poll"]].count("job_row-0_0") == 1
    record = run.records["row-0"]
    assert (record["state"], record["error"]["code"], record["job_id"]) == (
        "failed",
        "unreadable_result",
        "job_row-0_0",
    )
    assert f"{len(LARGE):,} bytes that are not" in record["error"]["message"]
    assert run.kept == [m.KeepUnreadable("row-0", LARGE)]
    assert "row-1" not in run.records


@pytest.mark.parametrize("body", [b'{"paid": "for", ', LARGE], ids=["cut off", "p25-large"])
def test_what_a_submit_brings_and_nobody_can_read_is_kept_and_its_row_unconfirmed(body):
    run = Driver(1, submit=lambda key, n: answer(200, body)).run()
    assert run.records["row-0"]["state"] == "unconfirmed"
    assert run.kept == [m.KeepUnreadable("row-0", body)]
    assert len(run.sent["submit"]) == 1


def test_what_a_cancelled_row_brings_is_not_kept():
    for script in ({"submit": lambda key, n: answer(200, LARGE)}, {"poll": lambda job_id, n: answer(200, LARGE)}):
        run = Driver(1, latency=1.0, **script)
        run.at(1.5 if "poll" in script else 0.5, m.CancelRequested(None, CancelReason.USER))
        run.run()
        assert run.records["row-0"]["state"] == "cancelled"
        assert run.kept == []


def test_p15_a_result_over_the_cap_is_told_and_waits_over_there():
    run = Driver(1, poll=lambda job_id, n: Failure(sent=True, cause=Cause.TOO_LARGE, message="over 64 MiB")).run()
    record = run.records["row-0"]
    assert (record["state"], record["error"]["code"], record["job_id"]) == ("failed", "result_too_large", "job_row-0_0")


# --- the write-off rule ---


def not_found(job_id, n):
    return answer(404, {"error": {"message": "no such job"}})


def test_p06_a_404_heals():
    run = Driver(1, poll=lambda job_id, n: not_found(job_id, n) if run.now < 32 else run.third_time(job_id, 9))
    run.run()
    assert run.states() == {"succeeded": 1}


def test_p07_one_job_is_not_found_while_others_are():
    def poll(job_id, n):
        return (
            not_found(job_id, n)
            if job_id == "job_old-0"
            else running(job_id, n)
            if run.now < 200
            else run.third_time(job_id, 9)
        )

    run = Driver(start=False, poll=poll).recover(5)
    run.run(until=110.0)
    assert run.records == {}
    run.run()
    assert run.records["old-0"]["state"] == "expired"
    assert run.records["old-0"]["error"]["code"] == "job_not_found"
    looks = run.times("poll", "job_old-0")
    assert len(looks) >= 3
    assert looks[-1] - looks[0] >= 120.0
    assert run.states() == {"expired": 1, "succeeded": 4}


def test_two_looks_are_not_enough_however_far_apart():
    def poll(job_id, n):
        return not_found(job_id, n) if job_id == "job_old-0" else running(job_id, n)

    run = Driver(start=False, poll=poll, poll_min=200.0, poll_max=200.0, **MIDDLE).recover(2)
    while "old-0" not in run.records:
        run.run(until=run._queue[0][0])
    assert len(run.times("poll", "job_old-0")) == 3


def test_a_job_that_was_found_meanwhile_is_looked_for_anew():
    def poll(job_id, n):
        if job_id == "job_old-1":
            return running(job_id, n) if run.now < 300 else run.third_time(job_id, 9)
        found = 90 < run.now < 110 or run.now > 200
        return run.third_time(job_id, 9 if run.now > 200 else 0) if found else not_found(job_id, n)

    run = Driver(start=False, poll=poll, poll_min=2.0, poll_max=2.0).recover(2)
    assert run.run().states() == {"succeeded": 2}


@pytest.mark.parametrize("trouble", [HTML, answer(400, {"detail": "?"}), answer(301, b"")])
def test_the_last_open_job_is_not_given_up_for_an_answer_that_does_not_say_that_it_is_gone(trouble):
    def poll(job_id, n):
        return trouble if job_id == "job_old-0" and 20 < run.now < 3_000 else run.third_time(
            job_id, 9 if job_id != "job_old-0" or run.now > 20 else 0
        )  # fmt: skip

    run = Driver(start=False, poll=poll).recover(3)
    assert run.run().states() == {"succeeded": 3}


@pytest.mark.parametrize(
    "reply", [answer(404), answer(403), answer(401), HTML, answer(400, {"detail": "?"}), answer(301, b"")]
)
def test_p08_nothing_is_found_at_all(reply):
    run = Driver(start=False, poll=lambda job_id, n: reply).recover(1_204)
    run.run()
    assert (run.outcome, run.records) == (m.Outcome.HALTED, {})
    (_, halt), = run.told  # fmt: skip
    if reply.status in (401, 403):
        assert halt.reason == "unauthorised"
    else:
        assert halt.message == "the service finds none of 1,204 open jobs with this API key"
    assert 120 <= run.now <= 700


def test_o17_with_another_key_nothing_is_submitted_before_a_job_is_found():
    journaled = JournaledRow()
    journaled.job_id, journaled.submitted_at = "job_old", 1_000_000.0
    run = Driver(start=False, poll=lambda job_id, n: running(job_id, n) if run.now > 20 else not_found(job_id, n))
    run.rows = [Row("new")]
    run.take_up([(Row("old"), journaled)], {}, 1, 0, 0, 0, new_key=True)
    run.run(until=60)
    found = next(time for time in run.times("poll") if time > 20)
    assert run.times("submit", "new") == [pytest.approx(found + 0.1)]
    run = Driver(start=False, poll=not_found)
    run.rows = [Row("new")]
    run.take_up([(Row("old"), journaled)], {}, 1, 0, 0, 0, new_key=True)
    run.run()
    assert (run.outcome, run.sent["submit"], run.records) == (m.Outcome.HALTED, [], {})


def test_p08_write_off_insists():
    run = Driver(start=False, poll=not_found, write_off=True).recover(20)
    run.run()
    assert (run.outcome, run.states()) == (m.Outcome.COMPLETE, {"expired": 20})


def test_p09_polls_refused_for_their_key_slow_down_and_halt_after_ten_minutes():
    run = Driver(
        start=False, poll=lambda job_id, n: running(job_id, n) if run.now < 60 else error(401, "invalid_api_key")
    ).recover(30)
    run.run()
    assert run.outcome is m.Outcome.HALTED
    assert [halt.reason for _, halt in run.told] == ["unauthorised"]
    assert 600 <= run.now <= 760
    late = [time for time in run.times("poll", "job_old-3") if time > 100]
    assert min(b - a for a, b in itertools.pairwise(late)) >= 30.0


def test_polls_that_are_refused_for_their_key_are_counted_from_the_last_answer():
    def poll(job_id, n):
        if run.now < 40 or 1_000 < run.now < 1_300:
            return error(401, "invalid_api_key")
        return run.third_time(job_id, 9 if run.now > 1_300 else 0)

    run = Driver(start=False, poll=poll).recover(2)
    run.run()
    assert (run.told, run.states()) == ([], {"succeeded": 2})


def test_the_last_open_job_may_be_given_up_by_a_service_that_knew_the_others():
    def poll(job_id, n):
        return (
            not_found(job_id, n)
            if job_id == "job_old-0" and run.now > 20
            else run.third_time(job_id, 9 if job_id != "job_old-0" else 0)
        )

    run = Driver(start=False, poll=poll).recover(3)
    run.run()
    assert run.states() == {"succeeded": 2, "expired": 1}
    assert 600 <= run.now <= 700


def test_an_outage_of_the_service_writes_nothing_off():
    run = Driver(
        start=False, poll=lambda job_id, n: answer(502, b"<html>") if run.now < 7_200 else run.third_time(job_id, 9)
    ).recover(100)
    run.run()
    assert run.states() == {"succeeded": 100}


def test_looks_of_which_none_is_answered_are_told_of():
    """One that is answered among many that are not is no outage."""

    def poll(job_id, n):
        return answer(502, b"<html>") if 20 <= run.now < 100 else running(job_id, n)

    run = Driver(start=False, poll=poll, poll_min=1.0, poll_max=2.0).recover(20)
    told = {}
    for second in (15, 25, 40, 99, 110):
        told[second] = run.run(until=second).engine.snapshot().unanswered
    assert told == {15: None, 25: None, 40: "HTTP 502", 99: "HTTP 502", 110: None}
    flaky = Driver(
        start=False, poll=lambda job_id, n: answer(502) if n % 4 else running(job_id, n), poll_min=1.0, poll_max=2.0
    ).recover(20)
    assert all(flaky.run(until=at).engine.snapshot().unanswered is None for at in range(1, 60))


def test_o23_overdue_looks_are_spread_after_a_suspension():
    run = Driver(
        start=False, poll=running, latency=0.0, poll_rate=1e6, connections=10_000, poll_min=10, poll_max=10
    ).recover(1_000)
    run.run(until=60.0)
    run.sent["poll"].clear()
    run.now = 3_660.0
    run._queue = [(3_660.0, i, what) for i, (_, _, what) in enumerate(run._queue)]
    run.feed(m.SuspensionEnded(3_600.0))
    run.run(until=3_672.0)
    buckets = Counter(int(at - 3_660) for at, _ in run.sent["poll"])
    assert max(buckets.values()) <= 200, "a thousand jobs over ten seconds"
