"""Rows that come while the batch runs, and a place that is shared: what the engine makes of the events."""

import random

import pytest

from batchrun.core.engine.engine import Engine
from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import Row
from batchrun.core.limits.gate import Shared
from batchrun.core.settings.settings import Settings
from tests.core.driver import Driver, error


def dry(run):
    """All rows that are there were read, and more may come."""
    run.feed(m.InputEnded(for_now=True))
    return run.run()


def test_an_input_that_is_dry_is_no_end():
    run = dry(Driver(2, input_ends=False).run())
    assert run.states() == {"succeeded": 2}
    assert run.outcome is None
    run.feed(m.RowRead(Row("late")))
    assert run.run().states() == {"succeeded": 3}
    run.feed(m.InputEnded())
    assert run.outcome is m.Outcome.COMPLETE


def test_a_refusal_is_not_held_back_for_ever_where_more_rows_may_come():
    """Before anything was accepted it may be the run's own fault; with nothing else at hand it is the row's."""
    run = Driver(1, submit=lambda key, n: error(400, "invalid_prompt"), input_ends=False).run()
    assert run.records == {}
    assert dry(run).states() == {"rejected": 1}


def test_twenty_first_refusals_halt_although_each_came_alone():
    run = Driver(0, submit=lambda key, n: error(400, "invalid_prompt"), input_ends=False).run()
    for number in range(20):
        assert not run.told
        run.feed(m.RowRead(Row(f"one-{number}")))
        run.run()
        dry(run)
    assert [halt.reason for _, halt in run.told] == ["all refused"]


def two(shared, **settings):
    """Two batches in one world: the instructions that each gave."""
    engines = [
        Engine(Settings(**settings), run_id="r", now=0.0, epoch=0.0, chance=random.Random(7).random, shared=shared)
        for _ in range(2)
    ]
    for engine in engines:
        shared.join(engine.gate, lambda: None)
    return engines


def given(engine, event, now):
    """The rows that were let go in answer to an event: an intent is written for each."""
    return sum(b'"intent"' in order.line for order in engine.handle(event, now) if isinstance(order, m.Append))


def test_one_rate_for_both():
    first, second = two(Shared(rpm=60))
    assert given(first, m.RowRead(Row("a")), 0.0) == 1
    assert given(second, m.RowRead(Row("b")), 0.0) == 0, "the second's turn is a second later"
    assert given(second, m.TimerFired(), 0.9) == 0
    assert given(second, m.TimerFired(), 1.05) == 1


@pytest.mark.parametrize(("places", "went"), [(1, 0), (2, 1)])
def test_one_number_of_places_for_both(places, went):
    first, second = two(Shared(concurrency=places))
    assert given(first, m.RowRead(Row("a")), 0.0) == 1
    assert given(second, m.RowRead(Row("b")), 0.0) == went
