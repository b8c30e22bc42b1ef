"""Scouts: first polls that come early, as nothing else shows that jobs have become faster that all end before theirs."""

import random

import pytest

from batchrun.core.pacing.pacing import ClassPacing
from batchrun.core.settings.settings import Lag


def polled(pace, duration, chances, *, told):
    """Poll one job to its end."""
    before, age = 0.0, pace.first(chances.random(), chances.random())
    while age < duration:
        gap = pace.running(before, age, chances.random())
        before, age = age, age + gap
    pace.ended(before, age, (duration - 0.1, duration + 0.1) if told else None)


@pytest.fixture(params=[True, False], ids=["told", "intervals"])
def learned(request):
    """A class whose jobs take about 10 s or 150 s, polled at a lag at which the first are over by their first poll."""
    chances = random.Random(3)
    pace = ClassPacing(Lag(0.2, is_share=True), 0.25, 300.0)
    forgotten = []

    def poll(jobs, by=1.0):
        """Jobs that take `by` times as long; how many of them until all was forgotten."""
        for job in range(jobs):
            mode = 10.0 if chances.random() < 0.7 else 150.0
            polled(pace, by * mode * chances.lognormvariate(0, 0.1), chances, told=request.param)
            if job % 20 == 0 and pace.refresh(lambda: None) and pace.curve is None:
                forgotten.append(job)
                return job
        return None

    assert poll(5000) is None  # steady: all is remembered
    return poll


def test_jobs_that_became_faster_are_noticed(learned):
    """Without scouts where few jobs had ended this takes thousands of jobs."""
    noticed = learned(1500, 0.4)
    assert noticed is not None


def test_scouts_do_not_count_for_less_where_the_service_tells_when_jobs_ended(learned):
    assert learned(3000) is None
