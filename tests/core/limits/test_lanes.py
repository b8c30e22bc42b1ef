"""Rows that wait: which go first, which go alone, and what a user is told of them."""

from itertools import pairwise

import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import About, Row
from batchrun.edge.progress import fitted, waiting
from tests.core.driver import Driver, answer, error
from tests.core.snapshots import snapshot

SLOW = error(429, "rate_limit_exceeded", "slow down")


def queued(key, n):
    return answer(200, {"id": f"job_{key}_{n}", "status": "queued"})


def test_s20_a_503_delays_its_own_row_alone():
    run = Driver(
        40, submit=lambda key, n: error(503, "overloaded") if (key, n) == ("row-5", 0) else queued(key, n), submits=4,
        poll_min=100, poll_max=100,
    ).run(until=30)  # fmt: skip
    first, second = run.times("submit", "row-5")
    others = [at for at, key in run.sent["submit"] if key != "row-5"]
    assert max(b - a for a, b in pairwise(others)) < 0.5
    assert 1.0 <= second - first - 0.1 <= 1.3


def test_s20_more_than_a_fifth_of_503_pauses_all():
    def submit(key, n):
        return error(503, "overloaded") if int(key[4:]) >= 20 and run.now < 5 else queued(key, n)

    run = Driver(60, submit=submit, submits=4, poll_min=100, poll_max=100, start=False)
    run.feed(m.TimerFired())
    run.run(until=60)
    fresh = [at for at, key in run.sent["submit"]]
    assert max(b - a for a, b in pairwise(fresh)) > 0.3
    assert run.engine.jobs.accepted == 60


def test_a_refused_row_waits_its_own_delay_that_doubles_to_sixteen_seconds():
    run = Driver(
        300, submit=lambda key, n: SLOW if key == "row-9" else queued(key, n), poll_min=100, poll_max=100,
        chance=lambda: 0.0,
    ).run(until=120)  # fmt: skip
    times = run.times("submit", "row-9")
    gaps = [round(b - a - 0.1) for a, b in pairwise(times)]
    assert gaps == [1, 2, 4, 8, 16, 16, 16]
    record = run.records["row-9"]
    assert (record["state"], record["error"]["code"]) == ("rate_limited", "rate_limit_exceeded")
    assert (record["billing"], record["refusals"]["count"], record["retry_count"]) == ("not_billed", 8, 0)


def test_what_was_sent_before_another_models_pause_does_not_matter_to_it():
    rows = [Row(f"{model}-{i}", About(model)) for i in range(20) for model in ("a", "b")]

    def submit(key, n):
        return answer(429, {}, retry_after="30") if key.startswith("a") and run.now < 20 else queued(key, n)

    run = Driver(rows, submit=submit, poll_min=100, poll_max=100, start=False)
    run.feed(m.TimerFired())
    run.run(until=20)
    assert sum(key.startswith("b") for _, key in run.sent["submit"]) == 20
    assert run.engine.snapshot().paused_until is None
    assert run.engine.snapshot().waits[0].model == "a"
    run.run(until=90)
    assert run.engine.jobs.accepted == 40


def test_a_row_beyond_a_minutes_tokens_goes_alone_after_the_others():
    rows = [Row(f"row-{i}", About(tokens=100_000 if i == 3 else 100)) for i in range(40)]
    run = Driver(rows, tpm=60_000, latency=0.1, poll_min=100, poll_max=100).run(until=400)
    order = [key for _, key in run.sent["submit"]]
    assert order[-1] == "row-3"
    assert run.times("submit", "row-3")[0] - run.times("submit", order[-2])[0] >= 60.0


def test_a_limit_of_tokens_that_a_header_shows_makes_a_row_go_alone_and_is_told():
    rows = [Row(f"row-{i}", About("gpt-5", tokens=100_000 if i == 150 else 100)) for i in range(200)]

    def submit(key, n):
        return answer(200, {"id": key, "status": "queued"}, x_ratelimit_limit_tokens="60000")

    run = Driver(rows, submit=submit, latency=0.1, poll_min=100, poll_max=100).run(until=400)
    assert [key for _, key in run.sent["submit"]][-1] == "row-150"
    assert run.noted == [
        "row-150 takes about 100,000 tokens, more than the 60,000 per minute of gpt-5: rows like it go alone, after the others"
    ]


def test_an_hour_counts_from_the_first_refusal():
    """Of those since the last acceptance. Where all places were taken for hours, one more refusal halts nothing."""

    def submit(key, n):
        return SLOW if run.now < 1 or 8_000 < run.now < 8_005 else queued(key, n)

    def poll(job_id, n):
        done = {"id": job_id, "status": "completed", "output": "x"}
        return answer(200, done if run.now > 8_000 else {"id": job_id, "status": "in_progress"})

    run = Driver(2, submit=submit, poll=poll, concurrency=1)
    run.run()
    assert (run.outcome, run.told) == (m.Outcome.COMPLETE, [])


def test_with_a_fixed_rate_a_refusal_pauses_and_cuts_nothing():
    run = Driver(
        200, submit=lambda key, n: SLOW if (key, n) == ("row-9", 0) else queued(key, n), latency=0.01, rate="fixed",
        poll_min=100, poll_max=100,
    ).run(until=3)  # fmt: skip
    assert run.engine.jobs.accepted == 200


WAITS = Driver(
    [Row(f"row-{i}", About("gpt-5")) for i in range(12)],
    submit=lambda key, n: answer(429, {}, retry_after="4"),
    submits=1,
    chance=lambda: 0.0,
).run(until=0.2)


@pytest.mark.parametrize(
    ("room", "says"),
    [
        (80, "12 rows of gpt-5 wait: rate limit, next in 3.9 s, 0 ok"),
        (35, "12 rows wait: rate limit, 0 ok"),
        (14, "12 rows wait"),
    ],
)
def test_what_waits_and_why_is_told_in_as_many_words_as_fit(room, says):
    told = WAITS.engine.snapshot()
    shown = snapshot(now=0.2, waits=told.waits, paused_until=told.paused_until)
    assert told.paused_until is not None
    assert fitted([waiting(shown), "0 ok"], room) == says
