"""When a job that failed is retried, and when its failure lets all submits wait. Exact times: without chance there is no jitter."""

from itertools import pairwise

import pytest

from tests.core.driver import Driver, answer

TICK = 1 / 64  # of each timer
MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}
RATE, BUSY, BROKEN = "rate_limit_exceeded", "server_is_overloaded", "server_error"


def failed(job_id, code, message="scripted", **headers):
    return answer(200, {"id": job_id, "status": "failed", "error": {"code": code, "message": message}}, **headers)


def completed(job_id):
    return answer(200, {"id": job_id, "status": "completed", "output": [MESSAGE]})


def run_of(rows, reply, **settings):
    """The first job of row-0 ends as `reply(job_id)`, at 0.7 s; every other one is completed at its first poll."""
    return Driver(
        rows,
        poll=lambda job_id, n: reply(job_id) if job_id == "job_row-0_0" else completed(job_id),
        chance=settings.pop("chance", lambda: 0.0),
        **settings,
    )


@pytest.mark.parametrize("code", [RATE, BUSY, BROKEN])
@pytest.mark.parametrize(
    ("headers", "message", "delay"),
    [
        ({"retry_after": "5"}, "scripted", 5.0),
        ({"retry_after_ms": "5000", "retry_after": "99"}, "scripted", 5.0),
        ({"retry_after": "Fri, 15 Jan 2027 08:00:05 GMT", "date": "Fri, 15 Jan 2027 08:00:00 GMT"}, "scripted", 5.0),
        ({"retry_after": "5"}, "try again in 99s", 5.0),
        ({"retry_after": "-1"}, "try again in 5s", 5.0),
        ({}, "try again in 5s", 5.0),
    ],
    ids=str,
)
def test_p21_a_retry_waits_as_long_as_the_poll_asked(code, headers, message, delay):
    run = run_of(1, lambda job_id: failed(job_id, code, message, **headers)).run()
    assert run.times("submit") == [0.0, pytest.approx(0.7 + delay, abs=2 * TICK)]
    (ended,) = (entry["ended"] for entry in run.entries if "ended" in entry)
    assert ended["retry_at"] - ended["at"] == pytest.approx(delay), "the next run waits as long"
    assert (run.records["row-0"]["state"], run.records["row-0"]["retry_count"]) == ("succeeded", 1)


def test_p21_what_is_asked_gets_jitter_on_top_and_is_no_less_than_our_own_delay():
    run = run_of(1, lambda job_id: failed(job_id, BROKEN, retry_after="8"), chance=lambda: 0.5).run()
    first, second = run.times("submit")
    assert second - first == pytest.approx(0.1 + 1.0 + 0.1 + 8.0 + 1.0, abs=2 * TICK)
    run = run_of(1, lambda job_id: failed(job_id, BROKEN, retry_after_ms="1"), chance=lambda: 0.5).run()
    first, second = run.times("submit")
    assert second - first == pytest.approx(0.1 + 1.0 + 0.1 + 0.5, abs=2 * TICK)


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "1e21", "3601", "soon"])
def test_p21_what_cannot_be_meant_is_ignored(value):
    run = run_of(1, lambda job_id: failed(job_id, BROKEN, retry_after=value), chance=lambda: 0.5).run()
    first, second = run.times("submit")
    assert second - first == pytest.approx(0.1 + 1.0 + 0.1 + 0.5, abs=2 * TICK)


def submits_while_waiting(reply, **settings):
    """Of rows that go one a second: the submits in the five seconds after row-0's first job failed, and the first ones after."""
    run = run_of(12, reply, rpm=60, poll_rate=1000, **settings).run()
    assert run.states() == {"succeeded": 12}
    times = run.times("submit")
    return [at for at in times if 0.7 < at < 5.7], [at for at in times if at >= 5.7]


@pytest.mark.parametrize("code", [RATE, BUSY, "slow_down"])
def test_p21_a_rate_or_an_overload_pauses_all_submits(code):
    within, after = submits_while_waiting(lambda job_id: failed(job_id, code, retry_after="5"))
    assert (within, after[0]) == ([], pytest.approx(5.7, abs=2 * TICK))


def test_p21_another_failure_delays_its_own_row_alone():
    within, _ = submits_while_waiting(lambda job_id: failed(job_id, BROKEN, retry_after="5"))
    assert len(within) == 5


def test_p21_a_rate_without_a_time_delays_its_own_row_alone():
    within, _ = submits_while_waiting(lambda job_id: failed(job_id, RATE))
    assert len(within) >= 5


def test_p21_a_rate_pauses_all_submits_where_its_own_row_has_no_retry_left():
    run = run_of(12, lambda job_id: failed(job_id, RATE, retry_after="5"), rpm=60, retries=0, poll_rate=1000).run()
    assert run.states() == {"succeeded": 11, "rate_limited": 1}
    assert [at for at in run.times("submit") if 0.2 < at < 5.7] == []


@pytest.mark.parametrize(("code", "others"), [(RATE, 0), (BROKEN, 4)])
def test_p21_a_post_that_is_answered_with_the_end_of_its_job(code, others):
    def submit(key, n):
        if (key, n) == ("row-0", 0):
            return failed("j", code, retry_after="5")
        return answer(200, {"id": f"j-{key}-{n}", "status": "completed", "output": [MESSAGE]})

    alone = Driver(1, submit=submit, chance=lambda: 0.0).run()
    assert alone.times("submit") == [0.0, pytest.approx(5.1, abs=TICK)]
    run = Driver(12, submit=submit, rpm=60, chance=lambda: 0.0).run()
    assert sum(0.0 < at < 5.1 for at in run.times("submit")) == others


def test_p21_failures_within_one_pause_are_one_incident_and_the_longest_wait_counts():
    waits = {"row-0": "2", "row-1": "9", "row-2": "4"}

    def poll(job_id, n):
        _, key, attempt = job_id.split("_")
        return failed(job_id, RATE, retry_after=waits[key]) if attempt == "0" else completed(job_id)

    run = Driver(3, poll=poll, chance=lambda: 0.0).run()
    assert run.times("poll")[2] < 2.0, "all three fail before the first wait is over"
    answered = run.times("poll", "job_row-1_0")[0] + 0.1
    assert run.times("submit")[3] == pytest.approx(answered + 9.0, abs=TICK)
    assert run.states() == {"succeeded": 3}


def test_p21_a_service_that_asks_for_a_millisecond_each_time_is_not_asked_all_the_time():
    run = Driver(
        5000,
        poll=lambda job_id, n: failed(job_id, RATE, retry_after_ms="1"),
        chance=lambda: 0.5,
        retries=0,
        concurrency=10,
    )
    run.run(until=600.0)
    times = run.times("submit")
    gaps = [later - at for at, later in pairwise(times) if later - at > 0.5]
    assert gaps[:5] == sorted(gaps[:5]), "our own delay grows, although every POST is accepted"
    assert gaps[-1] > 40.0
    assert sum(at >= 540.0 for at in times) <= 20


def test_p21_our_own_delay_begins_again_once_a_job_succeeds():
    def poll(job_id, n):
        return completed(job_id) if int(job_id.split("_")[1][4:]) % 8 == 7 else failed(job_id, RATE, retry_after_ms="1")

    run = Driver(400, poll=poll, chance=lambda: 0.5, retries=0, concurrency=4).run()
    times = run.times("submit")
    assert max(later - at for at, later in pairwise(times)) < 10.0


# --- a rate limit that a gateway disguises as a server error ---


def run_beyond_its_rate(*error):
    """A gateway accepts every job, and fails those beyond five in fifteen seconds with `error`."""
    begun = []

    def poll(job_id, n):
        if sum(at > run.now - 15.0 for at in begun) >= 5:
            return failed(job_id, *error)
        begun.append(run.now)
        return completed(job_id)

    run = Driver(20, poll=poll)
    return run.run()


def test_p23_a_disguised_rate_limit_that_a_poll_sees_waits_like_one():
    disguised = run_beyond_its_rate(BROKEN, "litellm.RateLimitError: RateLimitError: RPM limit=5")
    plain = run_beyond_its_rate(RATE, "too fast")
    assert (disguised.sent, disguised.states()) == (plain.sent, plain.states())
    assert disguised.states() == {"succeeded": 10, "rate_limited": 10}
    undisguised = run_beyond_its_rate(BROKEN, "boom")
    assert undisguised.states() == {"succeeded": 5, "internal_error": 15}, "two quick retries were not enough"


def test_p23_a_disguised_rate_limit_with_a_time_pauses_all_submits():
    message = "litellm.RateLimitError: RPM limit=5, try again in 5s"
    within, after = submits_while_waiting(lambda job_id: failed(job_id, BROKEN, message))
    assert (within, after[0]) == ([], pytest.approx(5.7, abs=2 * TICK))


def test_p23_on_a_post_a_500_stays_ambiguous():
    error = {"error": {"code": "server_error", "message": "litellm.RateLimitError: RPM limit=5"}}
    run = Driver(1, submit=lambda key, n: answer(500, error)).run()
    assert (run.states(), len(run.sent["submit"])) == ({"unconfirmed": 1}, 1)
