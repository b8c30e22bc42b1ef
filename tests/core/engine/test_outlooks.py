"""What a run tells of its polls, the lag, the time left and unusual jobs: whole batches on virtual time."""

import math
import random
from functools import cache
from types import SimpleNamespace

import pytest

from batchrun.core.engine.outlooks import Outlooks
from batchrun.core.jobs.job import Job, Row
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.jobs.messages import TimerFired
from batchrun.core.pacing.curve import curve_of
from batchrun.core.pacing.life_table import LifeTable
from batchrun.core.status.snapshot import MOST_UNUSUAL, Throughput, Unusual
from batchrun.core.text.readable import seconds_of_utc
from tests.core.driver import Driver, answer

EVERY = 2.0
"""Seconds between two snapshots."""
MEDIAN = 8.0
LONG = 240.0


@cache
def batch(seed: int, long: float = 0.0, rows: int = 500, pacing: str = "learned"):
    """A batch of log-normal jobs (σ 0.7, median 8 s), 80 at once; row-250 takes `long` seconds."""
    durations = random.Random(seed)
    jobs = {}

    def accept(key, n):
        took = long if long and key == "row-250" else math.exp(durations.gauss(math.log(MEDIAN), 0.7))
        jobs[f"job_{key}"] = driver.now, took
        return answer(200, {"id": f"job_{key}", "status": "queued"})

    def poll(job_id, n):
        begun, took = jobs[job_id]
        status = "in_progress" if driver.now - begun < took else "completed"
        return answer(200, {"id": job_id, "status": status})

    driver = Driver(
        rows, submit=accept, poll=poll, start=False, chance=random.Random(seed + 1).random, concurrency=80, pacing=pacing
    )  # fmt: skip
    driver.feed(TimerFired())
    throughput, moments = Throughput(rows), []
    while driver.outcome is None:
        driver.run(EVERY * (len(moments) + 1))
        snapshot = driver.engine.snapshot()
        moments.append((snapshot, throughput.add(snapshot)))
    moments.pop()
    records = driver.records.values()
    ended = {record["job_id"]: seconds_of_utc(record["finished_at"]) - 1_000_000.0 for record in records}
    lags = [ended[job_id] - sum(jobs[job_id]) for job_id in jobs]
    return SimpleNamespace(
        driver=driver, moments=moments, end=max(ended.values()), lag=sum(lags) / rows,
        polls=sum(record["polls"] for record in records) / rows,
    )  # fmt: skip


def test_mean_lag_and_polls_per_job_are_what_they_were():
    done = batch(1, 0.0)
    last = done.driver.engine.snapshot()
    assert last.polls_per_job == pytest.approx(done.polls)
    assert last.mean_lag == pytest.approx(done.lag, rel=0.1)


def test_with_a_plain_backoff_the_lag_is_known_and_the_time_left_as_before():
    done = batch(1, 0.0, 200, "backoff")
    last = done.driver.engine.snapshot()
    assert last.polls_per_job == pytest.approx(done.polls)
    assert last.mean_lag == pytest.approx(done.lag, rel=0.25)
    assert all(one.outlook is None and one.unusual is None for one, _ in done.moments)
    assert any(pace.left for _, pace in done.moments)


@pytest.mark.parametrize(("seed", "long"), [(1, 0.0), (3, 0.0), (4, LONG)])
def test_the_time_left_is_in_the_range_that_is_told(seed, long):
    done = batch(seed, long)
    known = [(one.now, pace.left) for one, pace in done.moments if one.outlook is not None]
    assert known[0][0] < 0.3 * done.end
    while_usual = [
        (now, left) for now, left in known if not long or now > LONG / 2
    ]  # before, nothing tells of the long one
    step = len(while_usual) / 10
    spread = [while_usual[int(step * (k + 0.5))] for k in range(10)]
    right = [left is not None and left[0] <= done.end - now <= left[1] for now, left in spread]
    assert sum(right) >= 8, [(now, done.end - now, left) for now, left in spread]
    if not long:  # and it tells something
        assert all(left[1] < 6 * (done.end - now) for now, left in spread[:5])


def test_a_job_that_runs_unusually_long_is_named():
    done = batch(4, LONG)
    found = [(one.now, one.unusual) for one, _ in done.moments if one.unusual is not None]
    assert {(unusual.jobs, unusual.key) for _, unusual in found} == {(1, "row-250")}
    first, last = found[0], found[-1]
    assert MEDIAN * math.exp(3 * 0.7) < first[1].age < LONG
    assert last[1].age == pytest.approx(LONG, rel=0.05)


def test_usual_jobs_are_not_named():
    assert sum(one.unusual is not None for seed in (1, 3) for one, _ in batch(seed, 0.0).moments) <= 2


def looked_at(*ages: tuple[float, float]) -> Outlooks:
    """Jobs in flight of these ages, each last seen to run at the second one, where jobs take 10 to 20 s."""
    table = LifeTable()
    for k in range(1_000):
        table.add_end(0.0, 10.0 + k / 100, 10.0 + k / 100)
    table.place(None)
    watched = {}
    for number, (age, seen) in enumerate(ages):
        job = Job(Row(f"row-{number}"), 1, f"job-{number}", 1_000_000.0 - age)
        job.phase = Phase.WATCHING
        job.found(seen)
        watched[job.job_id] = job
    jobs = SimpleNamespace(
        now=0.0, watched=watched, post_seconds=0.0, age=lambda job: 1_000_000.0 - job.submitted_at
    )  # fmt: skip
    known = (curve_of((table,))[0], 1_000)
    times = SimpleNamespace(pacing=SimpleNamespace(known=lambda: known), lags=SimpleNamespace(mean=0.5))
    outlooks = Outlooks(jobs, times)
    outlooks.refresh()
    return outlooks


def test_a_job_counts_for_as_long_as_polls_saw_it_run():
    assert looked_at((500.0, 12.0), (15.0, 14.0), (500.0, -1.0)).unusual is None
    assert looked_at((500.0, 480.0), (600.0, 580.0), (15.0, 14.0)).unusual == Unusual(2, "row-1", 600.0)


def test_of_many_jobs_the_oldest_and_a_sample_are_looked_at():
    many = looked_at(*[(20_000 / (k + 1_000), 1.0) for k in range(20_000)])
    assert sum(one.jobs for one in many.outlook.in_flight) == pytest.approx(20_000, rel=0.02)
    assert len(many.outlook.in_flight) < 200
    unusual = looked_at(*[(900.0, 900.0)] * 2_000).unusual
    assert unusual.jobs == MOST_UNUSUAL


def test_the_polls_of_a_retried_row_are_those_of_two_jobs():
    def poll(job_id, n):
        failed = {"status": "failed", "error": {"code": "server_error", "message": "scripted"}}
        end = failed if job_id.endswith("_0") else {"status": "completed"}
        return answer(200, {"id": job_id, **({"status": "in_progress"} if n < 2 else end)})

    driver = Driver(1, poll=poll).run()
    assert driver.records["row-0"]["polls"] == 6
    assert driver.engine.snapshot().polls_per_job == 3.0
