"""Rates and the time left, on fed times."""

import pytest

from batchrun.core.status.snapshot import RECENT_SECONDS, Throughput
from tests.core.snapshots import snapshot


def at(now, done=0, **counts):
    return snapshot(now=now, states={"succeeded": done}, **counts)


def test_at_the_start_nothing_is_known():
    assert Throughput(100).add(at(5.0)) == (0.0, 0.0, 0.0, None)


def test_the_time_left_follows_from_the_rate():
    rhythm = Throughput(100)
    rhythm.add(at(50.0))
    pace = rhythm.add(at(60.0, done=20, submits=40, polls=100))
    assert pace == (4.0, 10.0, 2.0, (40.0, 40.0))


def test_the_time_left_is_unknown_for_two_seconds():
    rhythm = Throughput(100)
    rhythm.add(at(0.0))
    assert rhythm.add(at(1.9, done=10)).left is None
    assert rhythm.add(at(2.0, done=10)).left == (18.0, 18.0)


def test_what_earlier_runs_finished_is_done_and_no_speed():
    rhythm = Throughput(100)
    rhythm.add(at(0.0, finished_before=70))
    pace = rhythm.add(at(10.0, done=10, finished_before=70))
    assert (pace.records, pace.left) == (1.0, (20.0, 20.0))


def test_the_time_left_forgets_what_was_five_minutes_ago():
    rhythm = Throughput(10_000)
    for second in range(301):
        rhythm.add(at(float(second), done=second * 10))  # ten a second for five minutes
    for second in range(301, 901):
        pace = rhythm.add(at(float(second), done=3000 + (second - 300)))  # then one
    assert pace.records == 1.0
    assert pace.left == (10_000 - 3600, 10_000 - 3600)


def test_submits_and_polls_are_those_of_the_last_ten_seconds():
    rhythm = Throughput(None)
    for second in range(61):
        pace = rhythm.add(at(float(second), submits=second * 100, polls=0 if second < 55 else (second - 55) * 10))
    assert pace.submits == 100.0
    assert pace.polls == 5.0  # 50 of them in ten seconds


@pytest.mark.parametrize(("total", "counts", "left"), [
    (None, {}, None),
    (20, {}, (0.0, 0.0)),
    (5, {}, (0.0, 0.0)),
    (100, {"halted": ("quota", "gone")}, None),
])  # fmt: skip
def test_what_is_left_when_it_is_known_otherwise(total, counts, left):
    rhythm = Throughput(total)
    rhythm.add(at(0.0))
    assert rhythm.add(at(10.0, done=20, **counts)).left == left


def test_without_progress_the_time_left_is_unknown():
    rhythm = Throughput(100)
    rhythm.add(at(0.0))
    assert rhythm.add(at(1000.0)).left is None


@pytest.mark.parametrize(("counts", "known"), [
    ({}, True),
    ({"paused_until": 200.0}, False),
    ({"paused_until": 99.0}, True),
    ({"outage": True}, False),
    ({"unanswered": "HTTP 503"}, False),
])  # fmt: skip
def test_no_time_is_left_to_tell_while_the_service_takes_nothing(counts, known):
    rhythm = Throughput(1_000)
    rhythm.add(at(90.0))
    assert (rhythm.add(at(100.0, done=20, **counts)).left is not None) == known


def test_no_time_is_left_to_tell_while_nothing_moves():
    rhythm = Throughput(1_000)
    for second in range(61):
        rhythm.add(at(float(second), done=second))  # one a second
    assert rhythm.add(at(70.0, done=60)).left is not None
    assert rhythm.add(at(70.1, done=60)).left is None
    assert rhythm.add(at(300.0, done=60)).left is None
    assert rhythm.add(at(301.0, done=61)).left is not None


def test_jobs_that_end_every_minute_are_no_standstill():
    rhythm = Throughput(100)
    for second in range(241):
        pace = rhythm.add(at(float(second), done=second // 60))
    for second in range(241, 420):
        pace = rhythm.add(at(float(second), done=4))
        assert (pace.left is not None) == (second <= 420), second


def test_samples_are_few_however_often_it_is_fed():
    rhythm = Throughput(100)
    for tick in range(20_000):
        rhythm.add(at(tick / 10))
    assert len(rhythm._samples) <= RECENT_SECONDS + 2
