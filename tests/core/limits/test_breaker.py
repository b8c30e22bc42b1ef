"""A service that accepts jobs and fails them, on virtual time: few retries are used up, and all rows are recorded."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import About, Row
from batchrun.core.limits.breaker import Breaker
from batchrun.core.taxonomy.rules import State
from batchrun.edge.progress import counts, fitted
from tests.core.driver import Driver, answer, error
from tests.core.snapshots import snapshot

FAILED = {"status": "failed", "error": {"code": "server_error", "message": "it broke"}}
DONE = {"status": "completed", "output": "x"}


def batch(rows, ends, *, lasts=10.0, **settings):
    """A run whose jobs last so long and end as `ends(now, key, n)` says, n being the attempt."""
    submitted = {}

    def submit(key, n):
        submitted[f"job_{key}_{n}"] = run.now
        return answer(200, {"id": f"job_{key}_{n}", "status": "queued"})

    def poll(job_id, n):
        if run.now < submitted[job_id] + lasts:
            return answer(200, {"id": job_id, "status": "in_progress"})
        _, key, attempt = job_id.split("_")
        return answer(200, {"id": job_id, **ends(run.now, key, int(attempt))})

    run = Driver(rows, start=False, submit=submit, poll=poll, **settings)
    run.feed(m.TimerFired())
    return run


def until(when):
    return lambda now, key, n: FAILED if now < when else DONE


@pytest.mark.parametrize("concurrency", [20, 500])
def test_a_service_that_fails_all_jobs_for_ten_minutes_costs_few_retries(concurrency):
    run = batch(800, until(600.0), concurrency=concurrency).run(until=600.0)
    probes = [at for at, _ in run.sent["submit"] if at > 30.0]
    assert 8 <= len(probes) <= 16
    assert run.records == {}, "no row is given up"
    failing, = run.engine.snapshot().failing  # fmt: skip
    assert (failing.why, failing.model, run.engine.snapshot().waiting > 0) == ("server_error", None, True)
    assert failing.lasts == pytest.approx(574.0, abs=1.0)
    run.run()
    assert (run.outcome, run.told, run.states()) == (m.Outcome.COMPLETE, [], {"succeeded": 800})
    assert run.engine.jobs.retries <= concurrency + 40, "one for each job that was in flight, and the probes"
    assert max(record["retry_count"] for record in run.records.values()) == 1
    opened, closed = run.noted
    assert opened.startswith("25 of the last 25 jobs failed by the service's own fault (server_error)")
    assert opened.endswith("its rows wait, and one at a time is sent, the next in 5 s")
    assert closed.startswith("jobs succeed again, after 1")
    assert run.engine.snapshot().failing == ()


def test_a_retry_budget_that_was_given_is_not_exceeded():
    run = batch(800, until(600.0), concurrency=500, retry_budget=100).run()
    assert [halt.reason for _, halt in run.told] == ["retry budget"]
    posts = [key for _, key in run.sent["submit"]]
    assert len(posts) - len(set(posts)) <= 100


def test_one_job_at_a_time_is_sent_with_gaps_that_double_to_a_minute():
    run = batch(800, until(600.0), lasts=1.0, concurrency=20, latency=0.01).run(until=400.0)
    probes = [at for at, _ in run.sent["submit"] if at > 6.0]
    gaps = [b - a for a, b in pairwise(probes)]
    assert gaps[:7] == pytest.approx([11.0, 21.0, 41.0, 61.0, 61.0, 61.0, 61.0], abs=2.0)


def test_it_recovers_step_by_step():
    run = batch(400, until(100.0), lasts=1.0, concurrency=100).run()
    assert run.states() == {"succeeded": 400}
    assert run.engine.snapshot().failing == ()
    assert run.now < 100 + 60 + 40


def test_another_model_goes_on_meanwhile():
    rows = [Row(f"{model}-{i}", About(model)) for i in range(400) for model in ("a", "b")]
    run = batch(rows, lambda now, key, n: FAILED if now < 600 and key.startswith("a") else DONE, concurrency=50)
    run.run(until=300.0)
    assert Counter(key[0] for key in run.records) == {"b": 400}
    assert [one.model for one in run.engine.snapshot().failing] == ["a"]
    run.run()
    assert run.states() == {"succeeded": 800}


def test_failures_at_random_never_open_it():
    chance = Random(4)
    run = batch(3_000, lambda *_: FAILED if chance.random() < 0.05 else DONE, lasts=1.0, concurrency=500).run()
    assert run.noted == []
    assert run.states()["succeeded"] >= 2_995


@pytest.mark.parametrize(
    "body",
    [
        {"status": "failed", "error": {"code": "invalid_prompt", "message": "x"}},
        {"status": "failed", "error": {"code": "content_policy_violation", "message": "x"}},
        {"status": "failed"},
        {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": "x"},
        {"status": "cancelled"},
        {"status": "expired"},
        {"status": "timeout"},
        {"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "x"}},
    ],
    ids=lambda body: body.get("error", body)["code" if "error" in body else "status"],
)
def test_rows_that_fail_by_their_own_fault_or_for_a_limit_never_open_it(body):
    run = batch(200, lambda *_: body, lasts=1.0, concurrency=50, retries=1).run()
    assert run.noted == []


def test_rows_that_fail_each_time_are_counted_once():
    """A quarter of the rows, retried twice: by jobs that is half."""
    run = batch(600, lambda now, key, n: FAILED if int(key[4:]) % 4 == 0 else DONE, lasts=1.0, retry_budget=1_000)
    run.run()
    assert run.noted == []
    assert run.states() == {"succeeded": 450, "internal_error": 150}


def test_a_probe_that_ends_in_whatever_way_makes_room_for_the_next():
    replies = iter([error(400, "invalid_prompt"), error(429, "rate_limit_exceeded"), answer(502)])
    run = batch(200, until(60.0), lasts=1.0, concurrency=20)
    submit = run.script["submit"]
    run.script["submit"] = lambda key, n: (next(replies, None) if 20 < run.now < 60 else None) or submit(key, n)
    run.run()
    assert (run.outcome, run.states()) == (m.Outcome.COMPLETE, {"succeeded": 198, "rejected": 1, "unconfirmed": 1})


def test_what_was_in_flight_when_it_opened_closes_it_only_where_it_succeeds():
    breaker = Breaker("gpt-5")
    for n in range(25):
        breaker.ended(float(n), State.INTERNAL_ERROR, "server_error", first=True, probe=False)
    assert breaker.is_open
    for _ in range(100):
        breaker.ended(30.0, State.INTERNAL_ERROR, "server_error", first=True, probe=False)
    assert breaker.opens_at() == 24.0 + 5.0, "their failures are the same incident"
    told = [breaker.ended(31.0, State.SUCCEEDED, "succeeded", first=True, probe=False) for _ in range(8)]
    assert told == [None] * 7 + ["jobs of gpt-5 succeed again, after 7 s: all rows go"]


def test_what_fails_since_when_and_what_happens_next_is_shown_in_as_many_words_as_fit():
    run = batch([Row(f"row-{i}", About("gpt-5")) for i in range(200)], until(600.0), concurrency=20).run(until=120.0)
    assert run.engine.snapshot().failing[0].next_in is not None
    shown = snapshot(now=120.0, failing=run.engine.snapshot().failing)
    for room, says in (
        (90, "jobs of gpt-5 fail for 1 min 15 s (server_error): one at a time, the next in 39 s"),
        (60, "jobs fail for 1 min 15 s: one at a time"),
        (12, "jobs fail"),
    ):
        pace = type("Pace", (), {"left": None})
        assert fitted(counts(shown, pace), room).startswith(says)
