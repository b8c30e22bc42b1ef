"""Limits on virtual time: exact, not "about"."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.core.jobs import messages as m
from batchrun.core.limits.gate import Gate
from batchrun.core.limits.rate import TOLERANCE, Rate
from batchrun.core.settings.settings import Settings
from tests.core.driver import DROPPED, UNSENT, Driver, answer, error, heavy

NO_LIMIT = {"concurrency": 100_000, "submits": 10_000}


def most_in_a_window(times, width):
    most = start = 0
    for end, time in enumerate(times):
        while times[start] <= time - width:
            start += 1
        most = max(most, end - start + 1)
    return most


@pytest.mark.parametrize("rpm", [60, 90, 600, 6_000, 30_000])
def test_no_second_holds_more_than_the_rate_and_nearly_all_of_it_is_used(rpm):
    rows = min(3_000, rpm)
    run = Driver(rows, rpm=rpm, latency=0.05, **NO_LIMIT).run()
    times = run.times("submit")
    assert len(times) == rows
    assert most_in_a_window(times, 1.0) <= rpm / 60 + 1
    assert most_in_a_window(times, 10.0) <= rpm / 6 + 1
    steady = times[20:]  # slow start is over
    assert (len(steady) - 1) / (steady[-1] - steady[0]) >= 0.95 * rpm / 60


@given(st.lists(st.floats(0, 0.5), min_size=5, max_size=60), st.floats(0.5, 500))
@settings(max_examples=200)
def test_the_bound_holds_however_late_the_loop_wakes(latenesses, per_second):
    rate, now, times = Rate(per_second), 0.0, []
    for lateness in latenesses:
        now = max(now, rate.ready_at()) + lateness
        rate.take(now)
        times.append(now)
    assert most_in_a_window(times, 1.0) <= per_second + 1 + 1e-6


def test_a_loop_that_is_late_catches_up_within_the_tolerance():
    rate, now = Rate(100), 0.0
    for _ in range(1000):
        now = max(now, rate.ready_at()) + 0.002  # two milliseconds late every time
        rate.take(now)
    assert 1000 / now >= 0.95 * 100


def test_a_large_row_waits_no_longer_than_a_small_one_and_pays_afterwards():
    rows = (
        [heavy(f"small-{i}", 100) for i in range(10)]
        + [heavy("large", 60_000)]
        + [heavy(f"late-{i}", 100) for i in range(3)]
    )
    run = Driver(rows, tpm=60_000, latency=0.01, **NO_LIMIT).run()
    (large,), (next_one,) = run.times("submit", "large"), run.times("submit", "late-0")
    assert large < 1.5, "ten small rows of 0.1 s each go before it"
    assert next_one - large == pytest.approx(60 * (1 + TOLERANCE) - TOLERANCE, abs=0.05), "a minute's worth of tokens"


def test_tokens_that_were_not_used_are_given_back():
    def poll(job_id, n):
        return answer(200, {"id": job_id, "status": "completed", "output": "x", "usage": {"total_tokens": 10}})

    rows = [heavy(f"row-{i}", 30_000) for i in range(4)]
    run = Driver(rows, tpm=60_000, poll=poll, latency=0.01, poll_min=0.5, poll_max=0.5, **NO_LIMIT).run()
    assert run.times("submit")[-1] < 10.0, "by the estimates alone it would be at 90 s"


def test_slow_start_doubles_every_round_trip_up_to_w():
    run = Driver(200, submits=32, latency=1.0, concurrency=1000, poll_min=50, poll_max=50).run(until=8.5)
    times = run.times("submit")
    assert [times.count(float(second)) for second in range(8)] == [1, 2, 4, 8, 16, 32, 32, 32]


def test_the_number_of_jobs_in_flight_is_never_exceeded():
    run = Driver(300, concurrency=20, submits=32, poll_rate=1000)
    most = 0
    while run.outcome is None:
        run.run(until=run.now + 0.05)
        most = max(most, run.engine.jobs.open_jobs)
    assert most == 20
    assert run.states() == {"succeeded": 300}


# --- pauses ---


def test_s20_a_refusal_stops_all_submits_with_jitter_on_top_of_the_floor():
    def submit(key, n):
        return (
            answer(429, {}, retry_after="10")
            if (key, n) == ("row-5", 0)
            else answer(200, {"id": f"j-{key}", "status": "queued"})
        )

    run = Driver(40, submit=submit, latency=0.1, submits=4, poll_min=100, poll_max=100).run(until=60)
    times = run.times("submit")
    refused_at = run.times("submit", "row-5")[0] + 0.1
    resumed = min(time for time in times if time > refused_at)
    assert refused_at + 10 <= resumed <= refused_at + 10 + 2.5
    assert run.engine.jobs.accepted == 40
    assert run.engine.jobs.retries == 0, "a refusal is no attempt"


def test_all_refusals_within_one_pause_are_one_incident():
    def submit(key, n):
        return answer(429, {}, retry_after="5") if n == 0 else answer(200, {"id": f"j-{key}", "status": "queued"})

    run = Driver(8, submit=submit, submits=8, latency=0.1, poll_min=100, poll_max=100)
    run.engine.gate.window.size = 8.0  # as after a good start
    run.run(until=30)
    assert max(run.times("submit")) < 16


def test_s01_nothing_was_sent_pauses_and_costs_no_attempt():
    def submit(key, n):
        return UNSENT if run.now < 30 else answer(200, {"id": f"j-{key}", "status": "completed", "output": "x"})

    run = Driver(3, submit=submit)
    run.run()
    assert run.states() == {"succeeded": 3}
    assert {record["retry_count"] for record in run.records.values()} == {0}
    gaps = [b - a for a, b in zip(run.times("submit"), run.times("submit")[1:], strict=False) if b < 30]
    assert len(gaps) < 15, "backed off, not hammering"


def test_slow_down_lowers_the_rate_of_the_whole():
    def submit(key, n):
        slow = key == "row-100" and n == 0
        return error(503, "slow_down") if slow else answer(200, {"id": f"j-{key}", "status": "queued"})

    run = Driver(400, submit=submit, latency=1.0, submits=32, concurrency=1000, poll_min=200, poll_max=200).run(
        until=60
    )
    times = run.times("submit")
    refused_at = run.times("submit", "row-100")[0] + 1.0
    resumed = min(time for time in times if time > refused_at)
    seconds = [sum(resumed + i <= time < resumed + i + 1 for time in times) for i in range(5)]
    assert sum(refused_at - 1 <= time <= refused_at for time in times) >= 31
    assert all(15 <= sent <= 21 for sent in seconds), "half of what was open, and from there on a careful climb"
    assert sorted(seconds) == seconds


# --- outage ---


def test_s24_an_outage_of_two_minutes_loses_at_most_forty_rows():
    def submit(key, n):
        good = answer(200, {"id": f"j-{key}", "status": "queued"})
        return good if not 10 <= run.now < 130 else answer(502, b"<html>Bad Gateway")

    run = Driver(5_000, submit=submit, submits=32, concurrency=10_000, latency=0.5, poll_min=100, poll_max=100)
    run.run(until=150)
    assert run.states()["unconfirmed"] <= 40
    assert run.told == []
    probes = [time for time in run.times("submit") if 13 < time < 130]
    assert [time - probes[0] for time in probes] == pytest.approx([0, 10.5, 31.0, 71.5]), "after 5 s, growing to 60 s"
    run.run(until=400)
    assert run.engine.jobs.accepted > 4_900


def test_what_was_sent_before_an_outage_does_not_end_it():
    """A POST that was taken by the service before it broke may be answered after: that is no sign of recovery."""
    gate = Gate(Settings(submits=32), lambda: 0.5)
    lane = gate.lane(("/responses", "gpt-5"), 0.0)
    for _ in range(8):
        gate.took(lane, 0.0, 0)
        gate.accepted(lane, 0.0, 0.0, 0)
    for _ in range(8):
        gate.took(lane, 1.0, 0)
    for _ in range(5):
        gate.lost(lane, 2.0, "HTTP 502")
    assert gate.outage
    gate.accepted(lane, 2.1, 1.0, 0)
    assert (gate.outage, gate.opens_at(0)) == (True, None), "no probe before all of them ended"
    gate.withdrew(lane, 2.2, 0)
    gate.lost(lane, 2.3, "HTTP 502")
    assert (gate.in_flight, gate.opens_at(0)) == (0, 2.0 + 5.0)
    gate.took(lane, 7.0, 0)
    gate.accepted(lane, 7.1, 7.0, 0)
    assert not gate.outage


def test_thirty_probes_without_an_answer_halt_the_run():
    run = Driver(100, submit=lambda key, n: DROPPED, latency=0.1)
    run.run()
    assert run.outcome is m.Outcome.HALTED
    assert [halt.reason for _, halt in run.told] == ["outage"]
    assert run.states() == {"unconfirmed": 5 + 30}


# --- halts ---


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (error(429, "insufficient_quota", "no money"), "quota"),
        (answer(402, {"detail": "balance"}), "budget"),
        (error(401, "invalid_api_key"), "auth"),
    ],
)
def test_s14_s15_quota_and_key_halt_and_write_nothing(reply, reason):
    def submit(key, n):
        return reply if int(key[4:]) >= 50 else answer(200, {"id": f"j-{key}", "status": "queued"})

    run = Driver(1_000, submit=submit, submits=8, latency=0.2)
    run.run()
    assert run.outcome is m.Outcome.HALTED
    assert [halt.reason for _, halt in run.told] == [reason]
    assert run.states() == {"succeeded": 50}, "open jobs are watched to their end, refused rows stay open"
    assert len(run.sent["submit"]) <= 50 + 8
    assert all("cleared" in run.tags(f"row-{i}") for i in range(50, len(run.sent["submit"])))


def test_a_job_that_ended_by_quota_has_its_record_and_halts():
    def poll(job_id, n):
        body = {"id": job_id, "status": "failed", "error": {"code": "insufficient_quota", "message": "gone"}}
        return answer(200, body if job_id == "job_row-3_0" else {"id": job_id, "status": "completed", "output": "x"})

    run = Driver(500, poll=poll, submits=4, concurrency=10, latency=0.1).run()
    assert run.outcome is m.Outcome.HALTED
    assert run.records["row-3"]["state"] == "blocked_budget"
    assert run.records["row-3"]["billing_reason"] == "quota"
    assert len(run.records) < 50


def test_s25_the_first_twenty_rows_refused_with_one_code_halt_without_a_record():
    run = Driver(1_000, submit=lambda key, n: error(404, "model_not_found", "no gpt-9"), latency=0.1)
    run.run()
    assert run.outcome is m.Outcome.HALTED
    (at, halt), = run.told  # fmt: skip
    assert halt.reason == "all refused"
    assert "every row so far was refused (model_not_found): no gpt-9" in halt.message
    assert len(run.sent["submit"]) == 20
    assert at == pytest.approx(20 * 0.1)
    assert run.records == {}, "the rows stay open; a better --model and the same command send them"


def test_s25_with_keep_going_every_refusal_is_a_record():
    run = Driver(60, submit=lambda key, n: error(404, "model_not_found"), keep_going=True).run()
    assert (run.outcome, run.states()) == (m.Outcome.COMPLETE, {"rejected": 60})


def test_refusals_before_the_first_acceptance_become_records_with_it():
    def submit(key, n):
        return answer(200, {"id": f"j-{key}", "status": "queued"}) if key == "row-7" else error(400, "invalid_prompt")

    run = Driver(12, submit=submit).run()
    assert run.states() == {"rejected": 11, "succeeded": 1}


def test_a_short_batch_that_is_refused_as_a_whole_ends_with_records():
    run = Driver(5, submit=lambda key, n: error(400, "invalid_prompt")).run()
    assert (run.outcome, run.states()) == (m.Outcome.COMPLETE, {"rejected": 5})


def test_an_hour_without_one_acceptance_halts():
    run = Driver(5, submit=lambda key, n: answer(429, {}, retry_after="300")).run()
    assert [halt.reason for _, halt in run.told] == ["no acceptance"]
    assert 3_600 <= run.told[0][0] < 4_200
    assert run.records == {}


def test_the_batch_has_a_budget_of_new_attempts():
    def poll(job_id, n):
        return answer(200, {"id": job_id, "status": "failed", "error": {"code": "server_error"}})

    run = Driver(2_000, poll=poll, retry_budget=50, concurrency=100, poll_rate=10_000).run()
    assert [halt.reason for _, halt in run.told] == ["retry budget"]
    assert run.engine.jobs.retries >= 51
    posts = [name for _, name in run.sent["submit"]]
    assert len(posts) - len(set(posts)) <= 50, "no new attempt beyond the budget"


def test_the_last_attempt_of_the_budget_halts_nothing():
    def poll(job_id, n):
        over = {"id": job_id, "status": "completed", "output": "x"}
        failed = {"id": job_id, "status": "failed", "error": {"code": "server_error"}}
        return answer(200, failed if job_id.endswith("_0") else over)

    run = Driver(2, poll=poll, retry_budget=2).run()
    assert (run.outcome, run.told, run.engine.jobs.retries) == (m.Outcome.COMPLETE, [], 2)
    assert run.states() == {"succeeded": 2}


def test_max_wait_halts_and_leaves_what_goes_on():
    run = Driver(10, poll=lambda job_id, n: answer(200, {"id": job_id, "status": "queued"}), max_wait=100.0).run()
    assert (run.outcome, run.now, run.records) == (m.Outcome.HALTED, 100.0, {})
