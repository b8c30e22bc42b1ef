"""Jobs that a service queues first: when they are polled where polls show whether a job has begun."""

import random

import pytest

from batchrun.core.pacing.pacing import ClassPacing
from batchrun.core.pacing.stages import GIVEN_UP, Stages
from batchrun.core.settings.settings import Lag


def polled(pace, wait, run, chances):
    """Poll one job to its end; how often."""
    before, age, begun, polls = 0.0, pace.first(chances.random(), chances.random(), queued=True), None, 1
    while age < wait + run:
        begun = age if begun is None and age >= wait else begun
        gap = pace.seen(before, age, begun, chances.random())
        before, age, polls = age, age + gap, polls + 1
    pace.ended(before, age, None, begun)
    return polls


def learned(wait, run, jobs=2_000):
    """A class whose jobs wait and run for so long, drawn by these; polls per job of the last quarter."""
    chances, pace, polls = random.Random(3), ClassPacing(Lag(0.05, is_share=True), 0.25, 300.0), []
    for job in range(jobs):
        polls.append(polled(pace, wait(chances), run(chances), chances))
        if job % 25 == 0:
            pace.refresh(lambda: None)
    return pace, sum(polls[-500:]) / 500


def short(chances):
    return chances.lognormvariate(1.5, 0.5)


def test_where_the_age_says_little_polls_go_by_what_they_show():
    pace, polls = learned(lambda chances: chances.expovariate(1 / 60), short)
    assert pace.stages.used
    assert polls < 0.75 * pace.curve.polls, "by age"
    in_queue, just_begun, later = pace.gap(100.0, 0.5, None), pace.gap(100.0, 0.5, 99.0), pace.gap(100.0, 0.5, 90.0)
    assert in_queue > 3 * just_begun
    assert later < in_queue


def test_where_all_jobs_wait_for_as_long_polls_go_by_age():
    pace, polls = learned(lambda chances: chances.gauss(60.0, 3.0), short)
    assert not pace.stages.used
    assert polls < 1.2 * pace.curve.polls


def test_a_service_that_says_queued_until_the_end_is_not_asked_on():
    pace, _ = learned(lambda chances: chances.gauss(60.0, 20.0), lambda _: 0.0, jobs=GIVEN_UP + 50)
    assert pace.stages is None


def test_a_class_without_queued_jobs_has_no_stages():
    chances, pace = random.Random(3), ClassPacing(Lag(0.1, is_share=True), 0.25, 300.0)
    for _ in range(200):
        before, age = 0.0, 1.0
        while age < 10.0:
            gap = pace.seen(before, age, 1.0, chances.random())
            before, age = age, age + gap
        pace.ended(before, age, None, 1.0)
    assert pace.stages is None


@pytest.fixture
def stages():
    """Waits of 60 s and runs of 10 s, as polls show them."""
    one, chances = Stages(), random.Random(5)
    for job in range(600):
        wait, run = chances.gauss(60.0, 2.0), chances.gauss(10.0, 0.5)
        one.queued(0.0, wait - 1.0)
        one.in_progress(wait - 1.0, wait + 0.5, wait + 0.5)
        one.ended(wait + 0.5, wait + run - 0.5, wait + run + 0.5, wait + 0.5)
        if job % 100 == 99:
            assert one.refresh(2.0, 50.0)
    return one


def test_the_gap_of_a_queued_job_reaches_to_where_it_has_also_run(stages):
    assert stages.used
    for age in (0.0, 20.0, 50.0):
        assert 66.0 < age + stages.gap(age, None) < 76.0


def test_the_gap_of_a_job_in_progress_counts_from_its_begin(stages):
    for begun in (30.0, 60.5, 90.0):
        assert 7.5 < stages.gap(begun, begun) < 12.0
        assert stages.gap(begun + 8.0, begun) < 3.5


def test_a_job_that_was_never_seen_in_progress_teaches_what_the_others_say(stages):
    lags = [stages.ended(40.0, 40.0, 75.0, None) for _ in range(300)]
    assert sum(lags) / 300 == pytest.approx(5.0, abs=1.5), "it began at about 60 s and ran for 10 s"
    stages.refresh(2.0, 50.0)
    assert 63.0 < stages.gap(0.0, None) < 76.0


def test_fewer_polls_are_counted_for_more_lag(stages):
    soon = stages.gap(62.0, None)
    stages.queued(0.0, 1.0)
    for _ in range(8):
        for _ in range(40):
            stages.ended(60.5, 69.5, 70.5, 60.5)
        stages.refresh(8.0, 50.0)
    assert stages.gap(62.0, None) > soon
