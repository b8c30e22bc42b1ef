"""The books tell what a client really did."""

import json
import math
import random

from tests.simulator.bench import Bench


def test_a_row_is_known_by_its_body_or_by_its_custom_id():
    bench = Bench()
    body = {"model": "gpt-5", "input": "x", "metadata": {"a": "b"}}
    bench.ask("POST", "/v1/responses", {**body, "background": True, "store": True})
    bench.ask("POST", "/v1/responses", {"background": True, "metadata": {"a": "b"}, "input": "x", "model": "gpt-5"})
    assert bench.statistics.posts_of(body) == bench.statistics.jobs_of(body) == 2
    assert bench.statistics.posts_of({**body, "input": "y"}) == 0
    bench.submit("x", metadata={"custom_id": "row-1"})
    bench.submit("y", metadata={"custom_id": "row-1"})
    assert bench.statistics.posts_of("row-1") == 2
    shown = json.loads(bench.ask("GET", "/_books/rows").body)
    assert shown["posts"]["row-1"] == 2
    assert sorted(shown["jobs"].values()) == [2, 2]
    assert bench.statistics.rows == 2


def test_refused_posts_count_and_their_jobs_do_not():
    bench = Bench("[limits]\nrpm = 60\n[jobs]\nempty = 0.5")
    for _ in range(3):
        bench.submit("x", metadata={"custom_id": "a"})  # one is let through
    bench.submit("[[refuse http_500 1]]", metadata={"custom_id": "b"})
    bench.now += 1
    bench.submit("[[refuse http_500 1]]", metadata={"custom_id": "b"})
    bench.now += 1
    bench.submit("[[refuse http_500 1]]", metadata={"custom_id": "b"})
    assert [(bench.statistics.posts_of(row), bench.statistics.jobs_of(row)) for row in "ab"] == [(3, 1), (3, 1)]
    assert bench.statistics.refusals == {"rate_limit_exceeded": 3, "http_500": 1}
    assert bench.statistics.answers == {200: 2, 429: 3, 500: 1}
    assert json.loads(bench.ask("GET", "/_books").body)["rows_with_more_jobs_count"] == 0
    assert "more than one job" not in bench.statistics.summary(bench.now)


def test_a_row_that_was_paid_twice_is_named():
    bench = Bench()
    for _ in range(2):
        bench.submit("x", metadata={"custom_id": "a"})
    assert json.loads(bench.ask("GET", "/_books").body)["rows_with_more_jobs"] == {"a": 2}
    assert "2 submits of 1 rows (1 of them more than one job), 2 jobs (2 open" in bench.statistics.summary(bench.now)


def test_open_jobs_now_and_at_most_against_a_plain_count():
    chance = random.Random(5)
    bench = Bench(
        "[times]\nduration = '1s..9s'\nqueued = '0s..3s'\nlate = '2s'\n[cancels]\nslow = 0.3\nignored = 0.3\nlate_completed = 0.2"
    )
    jobs, peak = [], 0

    def is_open():
        return sum(bench.status_after(0, job) in ("queued", "in_progress") for job in jobs)

    for i in range(150):
        bench.now += chance.choice((0, 0.2))
        jobs.append(bench.job(f"row {i}"))
        peak = max(peak, is_open())
        if chance.random() < 0.3:
            bench.cancel(chance.choice(jobs))
        if chance.random() < 0.1:
            bench.ask("DELETE", f"/v1/responses/{chance.choice(jobs)}")
        assert bench.statistics.open_jobs(bench.now) == is_open()
    assert bench.statistics.peak_open_jobs == peak
    bench.now += 100
    assert bench.statistics.open_jobs(bench.now) == 0


def test_rates_and_gaps():
    bench = Bench("[times]\nduration = '1h'")
    jobs = [bench.job(f"row {i}") for i in range(5)]
    assert bench.statistics.to_dict(bench.now)["peak_submits_per_second"] == 5
    bench.now = math.floor(bench.now) + 10
    for gap in (0.0, 0.1, 0.15, 40.0):
        bench.now += gap
        for job in jobs:
            bench.look(job)
    assert (bench.statistics.polls, bench.statistics.to_dict(bench.now)["peak_polls_per_second"]) == (20, 15)
    gaps = json.loads(bench.ask("GET", "/_books").body)["poll_gaps"]
    assert (gaps["least"], gaps["most"]) == (0.1, 40.0)
    assert {bound: count for bound, count in gaps["up_to"].items() if count} == {"0.1": 5, "0.2": 5, "60": 5}


def test_the_scenario_may_change_while_it_runs():
    bench = Bench("seed = 3\n[times]\nduration = '60s'")
    job = bench.job()
    assert bench.ask("POST", "/_scenario", b"[[outages]]\nto = '10s'").status == 200
    assert bench.status_after(9.9, job) == "502"
    assert bench.status_after(0.1, job) == "in_progress", "jobs stay as they were decided"
    wrong = bench.ask("POST", "/_scenario", b"[limit]")
    assert (wrong.status, "did you mean 'limits'?" in wrong.body.decode()) == (400, True)
    assert bench.ask("POST", "/_scenario", b"seed = 4").status == 400
    assert bench.ask("POST", "/_scenario", b"[times]\nduration = 'trace(/etc/passwd)'").status == 400
    assert bench.status_after(0, job) == "in_progress"
