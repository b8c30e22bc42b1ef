"""How long jobs still take: the tail beyond what is known, and what is left of a whole batch."""

import math
import random

import pytest

from batchrun.core.pacing.curve import Curve, curve_of
from batchrun.core.pacing.durations import Durations, StillRunning
from batchrun.core.pacing.life_table import LifeTable
from batchrun.core.pacing.outlook import InFlight, Outlook


def learned(draw, jobs: int, until: float = math.inf) -> tuple[Curve, int]:
    """A curve of `jobs` durations; those longer than `until` still run."""
    chance, table = random.Random(5), LifeTable()
    for _ in range(jobs):
        took = draw(chance)
        if took < until:
            table.add_end(0.0, took, took)
        else:
            table.add_running(0.0, until)
    table.place(None)
    return curve_of((table,))[0], table.count


def log_normal(chance):
    return math.exp(chance.gauss(math.log(30.0), 0.7))


def exponential(chance):
    return chance.expovariate(1 / 30.0)


@pytest.mark.parametrize(("draw", "mean", "deviation", "thousandth"), [
    (log_normal, 38.3, 30.4, 261.0),
    (exponential, 30.0, 30.0, 207.0),
])  # fmt: skip
@pytest.mark.parametrize("until", [90.0, math.inf])
def test_the_tail_is_about_that_of_the_jobs(draw, mean, deviation, thousandth, until):
    found = Durations(*learned(draw, 1500, until))
    assert found.mean == pytest.approx(mean, rel=0.15)
    assert found.deviation == pytest.approx(deviation, rel=0.35)
    assert 0.65 < found.age_at(0.001) / thousandth < 1.6


def test_running_share_and_age_are_inverse_and_never_rise():
    found = Durations(*learned(log_normal, 1500))
    ages = [2.0 * 1.1**k for k in range(80)]
    shares = [found.running_at(age) for age in ages]
    assert shares == sorted(shares, reverse=True)
    for age, share in zip(ages, shares, strict=True):
        if 1e-9 < share < 0.99:
            assert found.age_at(share) == pytest.approx(age, rel=0.01)


def test_what_is_beyond_an_age_is_the_sum_of_what_runs():
    found = Durations(*learned(log_normal, 1500))
    for age in (0.0, 20.0, 100.0, 1.5 * found.known_age):
        total = sum(found.running_at(age + 0.5 + step) for step in range(5_000))
        assert found.beyond(age) == pytest.approx(total, rel=0.02)


def test_a_job_far_beyond_all_others_may_take_as_long_again():
    found = Durations(*learned(log_normal, 1500))
    age = 5 * found.known_age
    of_these = StillRunning(found, age)
    assert found.running_at(2 * age) < 0.01 * found.running_at(age)
    assert of_these.running_at(2 * age) == pytest.approx(0.25, rel=0.1)
    assert of_these.beyond(age) == pytest.approx(age, rel=0.1)
    assert StillRunning(found, 20.0).running_at(40.0) == pytest.approx(found.running_at(40.0) / found.running_at(20.0))


def outlook(*in_flight: InFlight, lag: float = 0.0, post: float = 0.0) -> Outlook:
    return Outlook(100.0, DURATIONS, 600, lag, post, in_flight)


DURATIONS = Durations(*learned(log_normal, 1500))


def test_one_job():
    left = outlook(InFlight(1, 0.0, 0.0, DURATIONS)).left(100.0, 0, places=10)
    assert left is not None
    assert left[0] == pytest.approx(max(0.0, 30 - 1.2 * (30 - DURATIONS.age_at(0.95))), abs=2)
    assert left[1] == pytest.approx(30 + 1.2 * (DURATIONS.age_at(0.05) - 30), rel=0.1)


def test_rows_that_wait_take_the_places_in_turn():
    places = [InFlight(10, age, age, DURATIONS) for age in (2.0, 10.0, 25.0, 50.0)]
    left = outlook(*places, lag=2.0, post=1.0).left(100.0, 4_000, places=40)
    assert left is not None
    whole = 4_000 / 40 * (DURATIONS.mean + 3.0)
    assert left[0] < whole + 60 < left[1]
    assert left[1] - left[0] < 0.3 * whole


def test_a_rate_limits_where_places_are_free():
    left = outlook(InFlight(40, 10.0, 10.0, DURATIONS)).left(100.0, 600, places=500, rate=0.5)
    assert left is not None
    assert left[0] > 1_100
    assert left[1] < 1_600


def test_what_passes_since_the_jobs_were_looked_at_counts():
    then = outlook(InFlight(40, 10.0, 10.0, DURATIONS))
    first, later = then.left(100.0, 0, places=40), then.left(110.0, 0, places=40)
    assert first is not None
    assert later is not None
    assert later[1] == pytest.approx(first[1] - 10, abs=2)


@pytest.mark.parametrize(("rows", "rate"), [(0, 1.0), (10, 0.0)])
def test_nothing_is_told_where_nothing_moves(rows, rate):
    assert outlook().left(100.0, rows, places=10, rate=rate) is None
