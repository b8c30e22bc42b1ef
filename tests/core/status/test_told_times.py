"""What the status tells from files: polls per job, lag, the time left, unusual jobs."""

import math
import random

import pytest

from batchrun.core.journal.entries import Intent, Started, Submitted
from batchrun.core.text.readable import utc
from tests.core.status.test_status import NOW, RUNNING, record, stand

SINCE = NOW - 60  # the beginning of the run


def ended(k, took=10.0, lag=0.5, at=NOW - 20, **more):
    """The record of a job of this run that took so long and was seen to have ended `lag` seconds later."""
    begun = at - took - lag
    body = {"created_at": begun, "completed_at": begun + took}
    return record(
        f"d{k}", at=at, submitted_at=utc(begun), polls=3, retry_count=0, response={"status_code": 200, "body": body}, **more
    )  # fmt: skip


def open_job(key, age):
    return [Intent(key, 1, "s", NOW - age), Submitted(key, 1, f"resp_{key}", NOW - age)]


def log_normal(count):
    chance = random.Random(3)
    return [min(30.0, math.exp(chance.gauss(math.log(8.0), 0.4))) for _ in range(count)]


def run_of(ages, count=400, total=10):
    records = [ended(k, took, at=NOW - 0.01 * k) for k, took in enumerate(log_normal(count))]
    entries = [Started(7, SINCE, total), *(entry for k, age in enumerate(ages) for entry in open_job(f"o{k}", age))]
    return stand(entries, records, held=True, process=7)


def test_polls_per_job_and_the_lag_by_the_times_in_the_records():
    found = stand(RUNNING, [ended(1, lag=0.4), ended(2, lag=0.8), record("x")], held=True, process=7)
    assert (found.polls_per_job, found.mean_lag) == (3.0, pytest.approx(0.6, abs=0.002))


@pytest.mark.parametrize("one", [
    ended(1, took=100.0),  # an earlier run submitted it
    ended(1, state="cancelled"),
    ended(1) | {"polls": 0},
    ended(1) | {"retry_count": 1},
    ended(1) | {"submitted_at": None},
    ended(1) | {"polls": "3"},
])  # fmt: skip
def test_records_that_tell_nothing_of_this_run(one):
    found = stand(RUNNING, [one], held=True, process=7)
    assert (found.polls_per_job, found.mean_lag, found.forecast, found.unusual) == (None, None, None, None)


def test_where_the_service_tells_no_times_only_the_lag_is_unknown():
    found = stand(RUNNING, [ended(1) | {"response": None}], held=True, process=7)
    assert (found.polls_per_job, found.mean_lag) == (3.0, None)


def test_the_time_left_is_a_range():
    found = run_of([1.0, 3.0, 5.0, 9.0], total=410)
    low, high = found.forecast
    assert 5 < low < 25
    assert low < high < 60
    assert found.left == (low + high) / 2


def test_of_few_records_the_time_left_is_as_before():
    found = run_of([1.0, 3.0], count=10, total=30)
    assert found.forecast is None
    assert found.left == 20 * found.recent.seconds / 10


def test_a_job_that_is_unusually_old_is_named():
    found = run_of([1.0, 55.0, 3.0, 58.0])
    assert (found.unusual.jobs, found.unusual.key, found.unusual.age) == (2, "o3", pytest.approx(58.0))
    assert run_of([1.0, 12.0]).unusual is None


def test_without_a_run_nothing_is_said_of_open_jobs():
    found = stand([*RUNNING, *open_job("o", 58.0)], [ended(k) for k in range(50)])
    assert (found.forecast, found.unusual, found.polls_per_job) == (None, None, 3.0)
