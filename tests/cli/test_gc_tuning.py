"""The command keeps the garbage collector away from the jobs in memory, and leaves it as it found it."""

import gc

import pytest

from batchrun.cli.run import GROWTH, THRESHOLDS, YOUNG, Collector


@pytest.fixture
def calls(monkeypatch):
    """What is done to the collector, in order."""
    done = []
    monkeypatch.setattr(gc, "freeze", lambda: done.append("freeze"))
    monkeypatch.setattr(gc, "collect", lambda generation: done.append(("collect", generation)))
    return done


def test_it_freezes_as_jobs_grow_and_collects_young_garbage_before(calls):
    frozen = [("collect", YOUNG), "freeze"]
    with Collector() as collector:
        collector.freeze()
        assert calls == frozen
        for jobs, times in (
            (GROWTH - 1, 1),
            (GROWTH, 2),
            (2 * GROWTH, 2),  # a tenth of what is frozen, and GROWTH
            (2.1 * GROWTH, 3),
            (2.1 * GROWTH, 3),
            (0, 3),
            (GROWTH, 4),  # they ended, and others came
        ):
            collector.freeze_if_grown(int(jobs))
            assert calls == frozen * times, jobs


def test_what_was_there_is_there_again_afterwards():
    before = gc.get_threshold(), gc.get_freeze_count()
    with pytest.raises(KeyboardInterrupt), Collector() as collector:
        assert gc.get_threshold() == THRESHOLDS
        collector.freeze(7)
        assert gc.get_freeze_count() > before[1]
        raise KeyboardInterrupt
    assert gc.get_threshold() == before[0]
    assert gc.get_freeze_count() == 0
