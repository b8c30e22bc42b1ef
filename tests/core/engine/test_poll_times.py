"""When the engine polls: learned gaps through the whole of it, on virtual time."""

import math
import random
from collections import Counter

import pytest

from batchrun.core.engine.poll_times import END_OF_BATCH, PollRate
from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import About
from batchrun.core.pacing.pacing import AT_THE_END, KNOWN_ENDS, UNKNOWN_AGE
from tests.core.driver import Driver, answer, error

LEARNED = {"pacing": "learned", "latency": 0.0}


def service(durations):
    """A script of polls: each job ends so many seconds after its submit, by its number."""
    run = None

    def poll(job_id, _):
        number = int(job_id.split("-")[1].split("_")[0])
        submitted = run.submitted.setdefault(job_id, 0.0)
        ended = run.now - submitted >= durations[number % len(durations)]
        word = {"status": "completed", "output": "x"} if ended else {"status": "in_progress"}
        return answer(200, {"id": job_id, **word})

    def submit(key, n):
        run.submitted[f"job_{key}_{n}"] = run.now
        return answer(200, {"id": f"job_{key}_{n}", "status": "queued"})

    def of(rows, **settings):
        nonlocal run
        run = Driver(rows, submit=submit, poll=poll, start=False, **{**LEARNED, **settings})
        run.submitted = {}
        run.feed(m.TimerFired())
        return run

    return of


def running(job_id, n):
    return answer(200, {"id": job_id, "status": "in_progress"})


def test_ten_thousand_jobs_accepted_in_one_instant_never_exceed_the_rate():
    everything = {"connections": 20_000, "concurrency": 20_000, "submits": 20_000, "rate": "fixed"}
    run = Driver(10_000, poll=running, **LEARNED, **everything)
    run.engine.gate.window.size = 20_000.0
    run.run(until=30.0)
    assert {at for at, _ in run.sent["submit"]} == {0.0}
    tenths = Counter(int(at * 10) for at, _ in run.sent["poll"])
    assert max(tenths.values()) <= 1.5 * 500 / 10
    assert len({name for _, name in run.sent["poll"]}) == 10_000, "the earliest due goes first"


def test_jobs_are_polled_when_their_results_are_likely():
    chance = random.Random(5)
    run = service([max(30.0, chance.gauss(60.0, 5.0)) for _ in range(997)])(400, concurrency=40).run()
    late = [record["polls"] for record in run.records.values()][200:360]
    assert run.states() == {"succeeded": 400}
    assert sum(late) / len(late) < 3.0, "a backoff from 1 s on takes 8"


def test_jobs_that_the_service_queues_are_polled_by_what_polls_show():
    chance, submitted = random.Random(5), {}
    waits = [chance.expovariate(1 / 60) for _ in range(997)]

    def submit(key, n):
        submitted[f"job_{key}"] = run.now
        return answer(200, {"id": f"job_{key}", "status": "queued"})

    def poll(job_id, _):
        age = run.now - submitted[job_id]
        wait = waits[int(job_id.split("-")[1]) % len(waits)]
        word = "queued" if age < wait else "in_progress" if age < wait + 5.0 else "completed"
        return answer(200, {"id": job_id, "status": word, **({"output": "x"} if word == "completed" else {})})

    run = Driver(520, submit=submit, poll=poll, start=False, concurrency=40, lag="5%", **LEARNED)
    run.feed(m.TimerFired())
    run.run()
    pace = run.engine.times.pacing.of(About().resource)
    assert run.states() == {"succeeded": 520}
    assert pace.stages is not None
    assert pace.stages.used
    assert pace.gap(100.0, 0.5, None) > 2 * pace.gap(100.0, 0.5, 98.0)


def test_where_the_curve_first_counts_the_jobs_that_wait_are_planned_again():
    run = service([20.0])(100, concurrency=100).run(until=21.5)
    pace = run.engine.times.pacing.of(About().resource)
    while pace.curve is None:
        run.run(until=run.now + 0.25)
    began = run.now
    run.run(until=began + 4.0)
    assert len(run.records) == 100, "a backoff would have polled the last of them after 30 s"


def test_a_job_whose_service_named_a_time_is_not_planned_again():
    def poll(job_id, n):
        if job_id.startswith("job_row-0_"):
            return answer(200, {"id": job_id, "status": "queued"}, openai_poll_after_ms="60000")
        if job_id.startswith("job_row-1_"):
            return answer(503, {}, retry_after="60")
        return answer(200, {"id": job_id, "status": "completed" if n > 3 else "in_progress", "output": "x"})

    run = Driver(3 * KNOWN_ENDS, poll=poll, **LEARNED).run(until=50.0)
    assert run.engine.times.pacing.of(About().resource).curve is not None
    for row in ("job_row-0_0", "job_row-1_0"):
        assert len(run.times("poll", row)) == 1


def test_what_a_suspension_hides_teaches_nothing():
    run = service([5.0])(50, concurrency=50).run(until=3.0)
    run.now += 3_600.0
    run.feed(m.SuspensionEnded(3_600.0))
    assert {job.seen_age for job in run.engine.jobs.watched.values()} == {UNKNOWN_AGE}
    run.run()
    assert run.states() == {"succeeded": 50}
    assert run.engine.times.pacing.of(About().resource).table.count == 0


def test_jobs_of_an_earlier_run_teach_from_their_first_poll_on():
    run = Driver(start=False, poll=running, **LEARNED)
    run.recover(10, age=600.0).run(until=30.0)
    table = run.engine.times.pacing.of(About().resource).table
    assert len(run.sent["poll"]) >= 10
    assert table.count == 0
    assert all(value == pytest.approx(0.0, abs=1e-9) for value in table.left[:100]), "nobody saw their first seconds"


def test_a_retry_is_a_job_of_its_own():
    def poll(job_id, n):
        ended = {"status": "failed", "error": {"code": "server_error", "message": "scripted"}}
        return answer(200, {"id": job_id, **(ended if job_id.endswith("_0") else {"status": "in_progress"})})

    run = Driver(1, poll=poll, **LEARNED).run(until=1.0)
    job = next(iter(run.engine.jobs.all()))
    assert (job.attempt, job.seen_age) == (2, 0.0)


def test_at_the_end_of_a_batch_gaps_are_a_quarter():
    run = service([60.0])(201, concurrency=100).run(until=119.0)
    assert run.engine.times.pacing.of(About().resource)._divisor == 1.0
    run.run(until=170.0)
    assert run.engine.jobs.open_jobs < END_OF_BATCH * 100
    assert run.engine.times.pacing.of(About().resource)._divisor == AT_THE_END


def test_a_429_of_a_poll_lowers_the_rate_and_it_comes_back():
    rate = PollRate(500.0)
    now = 0.0
    for _ in range(20):
        for _ in range(100):
            rate.take(now)
            now += 0.01
        rate.grow(now)
    rate.cut(now)
    assert rate.per_second == pytest.approx(80.0, rel=0.02), "four fifths of those that went"
    for _ in range(300):
        now += 1.0
        rate.grow(now)
    assert rate.per_second == 500.0


def test_polls_that_are_refused_go_more_slowly():
    refused = []

    def poll(job_id, n):
        lately = sum(at > run.now - 1.0 for at, _ in run.sent["poll"])
        if lately > 60:
            refused.append(run.now)
            return error(429, "rate_limit_exceeded")
        return running(job_id, n)

    run = Driver(start=False, poll=poll, latency=0.0, pacing="backoff", poll_min=1.0, poll_max=1.0).recover(200)
    run.run(until=120.0)
    assert len([at for at in refused if at > 20.0]) < 0.1 * len([at for at in run.times("poll") if at > 20.0])


def test_gaps_do_not_depend_on_how_ages_are_rounded():
    run = service([10.0])(300, concurrency=50).run()
    pace = run.engine.times.pacing.of(About().resource)
    gaps = [pace.gap(age, 0.5) for age in (9.0, 9.001, 9.2)]
    assert max(gaps) < 1.5 * min(gaps)
    assert math.isfinite(sum(gaps))
