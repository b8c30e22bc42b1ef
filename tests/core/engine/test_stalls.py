"""Jobs that never end: they are told, and others get their places step by step. Whole batches on virtual time."""

import math
import random

import pytest

from batchrun.core.engine.stalls import AFTER
from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import About, Row
from batchrun.core.journal.fold import JournaledRow
from batchrun.core.limits.gate import Shared
from batchrun.core.status.snapshot import Stalled, Throughput
from tests.core.driver import Driver, answer, error

MINUTE = 60.0


class Service:
    """Jobs of unknown duration, log-normal with a median of a minute; those of the rows in `lost` never end."""

    def __init__(self, lost=(), *, median=MINUTE, sigma=0.7, most=None, seed=1, healed_at=math.inf):
        self.lost, self.median, self.sigma, self.most, self.healed_at = set(lost), median, sigma, most, healed_at
        self.dice = random.Random(seed)
        self.jobs = {}  # id → when it ends
        self.most_in_flight = 0
        self.refused = []
        self.run = None

    def of_old(self, count):
        """Jobs of an earlier run that never end."""
        self.jobs |= {f"job_old-{i}": math.inf for i in range(count)}
        return self

    def in_flight(self):
        return sum(ends > self.run.now for ends in self.jobs.values())

    def submit(self, key, n):
        if self.most is not None and self.in_flight() >= self.most:
            self.refused.append(self.run.now)
            return error(429, "rate_limit_exceeded", "too many jobs")
        took = math.inf if key in self.lost else math.exp(self.dice.gauss(math.log(self.median), self.sigma))
        self.jobs[f"job_{key}"] = self.run.now + took
        self.most_in_flight = max(self.most_in_flight, self.in_flight())
        return answer(200, {"id": f"job_{key}", "status": "queued"})

    def poll(self, job_id, n):
        ended = self.run.now >= min(self.jobs[job_id], self.healed_at if math.isinf(self.jobs[job_id]) else math.inf)
        return answer(200, {"id": job_id, "status": "completed" if ended else "in_progress"})

    def driver(self, rows, **settings):
        given = {"concurrency": 15, "pacing": "learned", "deadline": 86_400.0, **settings}
        self.run = Driver(rows, submit=self.submit, poll=self.poll, start=False, **given)
        return self.run

    def started(self, rows, **settings):
        self.driver(rows, **settings).feed(m.TimerFired())
        return self.run


def keys(numbers):
    return [f"row-{n}" for n in numbers]


def done_at(run, count):
    """When so many records were written."""
    run.run(until=0.0)
    while len(run.records) < count:
        run.run(until=run.now + 10)
        assert run.now < 20 * 3600, (run.states(), run.engine.stalls.stalled())
    return run.now


def test_p24_fifteen_jobs_that_never_end_at_fifteen_places_are_told_and_hold_up_nobody():
    service = Service(lost=keys(range(15)))
    run = service.started(60)
    run.run(until=14.9 * MINUTE)
    assert (run.noted, run.engine.snapshot().stalled, service.most_in_flight) == ([], None, 15)
    run.run(until=17 * MINUTE)
    assert run.noted == ["15 jobs have not ended in 15 min 10 s, the oldest row-0; 1 more is tried instead"]
    assert run.engine.snapshot().stalled.jobs == 15
    assert done_at(run, 45) < 35 * MINUTE
    assert run.states() == {"succeeded": 45}
    assert service.most_in_flight <= 30
    assert len(run.noted) == 1
    assert len(run.times("submit")) == 60


def test_p24_their_deadline_stays_what_it_was():
    service = Service(lost=keys(range(15)))
    run = service.started(60, deadline=3 * 3600.0)
    run.script["cancel"] = lambda job_id, n: error(404, "not_found")
    run.run()
    assert run.states() == {"succeeded": 45, "timeout": 15}
    assert [at == pytest.approx(3 * 3600, abs=15) for at in run.times("cancel")] == [True] * 15


@pytest.mark.parametrize("seed", range(2))
def test_also_where_they_are_any_of_the_rows(seed):
    service = Service(lost=keys(random.Random(seed).sample(range(60), 15)), seed=seed)
    run = service.started(60)
    assert done_at(run, 45) < 70 * MINUTE
    assert service.most_in_flight <= 30


def test_also_jobs_of_an_earlier_run():
    service = Service().of_old(15)
    run = service.driver(45)
    run.recover(15, age=3 * 3600.0)
    run.feed(m.TimerFired())
    run.run(until=20 * MINUTE)
    assert run.noted == ["15 jobs have not ended in 3 h 15 min, the oldest old-0; 1 more is tried instead"]
    assert done_at(run, 45) < 40 * MINUTE
    assert service.most_in_flight <= 30


def test_where_it_is_known_how_long_jobs_take_no_further_time_is_waited():
    service = Service().of_old(15)
    run = service.driver(45)
    rows = []
    for i in range(15):
        journaled = JournaledRow()
        journaled.job_id, journaled.submitted_at = f"job_old-{i}", 1_000_000.0 - 3600.0
        rows.append((Row(f"old-{i}"), journaled))
    run.feed(m.Recovered({}, 15, 0, 0, 0, durations=[60.0 + n / 10 for n in range(200)]))
    run.feed(m.RowsTakenUp(rows))
    run.run(until=30.0)
    assert run.noted == ["15 jobs have not ended in 1 h, the oldest old-0; 1 more is tried instead"]


def test_jobs_that_the_curve_explains_are_none():
    """Half an hour is what they take: after the first of them no place is given back."""
    service = Service(median=1800.0, sigma=0.1)
    run = service.driver(60)
    run.feed(m.Recovered({}, 100, 0, 0, 0, durations=[1500.0 + 6 * n for n in range(100)]))
    run.feed(m.RowsTakenUp([]))
    while run.now < 3600:
        run.run(until=run.now + 30)
        assert run.engine.stalls.given_back == 0
        assert run.engine.snapshot().stalled is None
    assert service.most_in_flight == 15


def test_no_row_that_waits_no_probe():
    service = Service(lost=keys(range(5)))
    run = service.started(5)
    run.run(until=3600.0)
    found = run.engine.snapshot().stalled
    assert (found.jobs, found.key, found.tried) == (5, "row-0", 0)
    assert (run.noted, len(run.times("submit"))) == ([], 5)


def test_nothing_that_ends_a_probe_every_fifteen_minutes_and_never_more_than_twice_the_places():
    service = Service(lost=keys(range(100)))
    run = service.started(100)
    run.run(until=AFTER * 4 + 60)
    assert len(run.times("submit")) == 15 + 4
    run.run(until=AFTER * 40)
    assert (len(run.times("submit")), service.most_in_flight) == (30, 30)


def test_the_speed_comes_back_step_by_step():
    service = Service(lost=keys(range(15)))
    run = service.started(100)
    given_back = []
    while len(run.records) < 65:
        run.run(until=run.now + 1)
        count = run.engine.stalls.given_back
        if not given_back or given_back[-1] != count:
            given_back.append(count)
    assert given_back == list(range(16)), "each job that ends frees one place more"


def test_jobs_that_end_after_all_take_their_places_along():
    service = Service(lost=keys(range(15)), healed_at=30 * MINUTE)
    run = service.started(160)
    run.run(until=34.9 * MINUTE)
    assert run.engine.stalls.given_back == 0
    assert run.engine.snapshot().stalled is None
    run.run()
    assert run.states() == {"succeeded": 160}


def test_a_service_that_counts_jobs_in_flight_refuses_the_probe_and_is_left_alone():
    service = Service(lost=keys(range(15)), most=15)
    run = service.started(60)
    run.run(until=AFTER * 2 - 30)
    assert (len(service.refused), run.engine.stalls.given_back) == (1, 0)
    run.run(until=AFTER * 3 + 60)
    assert len(service.refused) == 3, "asked again every fifteen minutes"
    service.most = 18
    run.run(until=AFTER * 6)
    assert service.in_flight() <= 18
    assert len(run.records) > 5, "what it allows is used"


def test_learned_places_are_given_back_too():
    """The service bears five jobs of this model, and lost five; there are a hundred places."""
    service = Service(lost=keys(range(5)))
    run = service.driver(40, concurrency=100)
    lane = run.engine.gate.lane(("", None), 0.0)
    lane.places.limit = 5.0
    run.feed(m.TimerFired())
    run.run(until=AFTER + 60)
    assert run.engine.stalls.given_back == 1
    assert len(run.times("submit")) == 6
    assert done_at(run, 35) < 60 * MINUTE
    assert service.most_in_flight <= lane.places.limit + 5


def test_within_the_window_that_a_row_bought_its_job_is_none():
    rows = [Row(f"row-{n}", About(window=7200.0)) for n in range(60)]
    service = Service(lost=keys(range(15)))
    run = service.started(rows)
    run.run(until=7000.0)
    assert (run.noted, len(run.times("submit"))) == ([], 15)
    run.run(until=7300.0)
    assert run.noted == ["15 jobs have not ended in 2 h, the oldest row-0; 1 more is tried instead"]


def test_while_polls_fail_nobody_knows():
    service = Service(lost=keys(range(15)))
    run = service.started(60)
    poll = run.script["poll"]
    run.script["poll"] = lambda job_id, n: error(503, "down") if 600 < run.now < 3600 else poll(job_id, n)
    run.run(until=3590.0)
    assert len(run.times("submit")) == 15
    run.run(until=3590.0 + 400)
    assert len(run.times("submit")) > 15


def test_after_a_suspension_nobody_knows_yet():
    service = Service(lost=keys(range(15)))
    run = service.started(60)
    run.run(until=100.0)
    run.now = 30_000.0
    run.feed(m.SuspensionEnded(29_900.0))
    run.run(until=30_000.0 + AFTER - 60)
    assert len(run.times("submit")) == 15
    run.run(until=30_000.0 + AFTER + 60)
    assert len(run.times("submit")) > 15


def test_batches_that_share_places_give_back_their_part():
    shared = Shared(concurrency=4)
    service = Service(lost=keys(range(4)))
    run = service.driver(20)
    gate = run.engine.gate
    gate.shared = shared
    shared.join(gate, lambda: None)
    shared.join("another", lambda: None)
    run.feed(m.TimerFired())
    run.run(until=AFTER + 60)
    assert service.most_in_flight == 5
    assert done_at(run, 16) < 60 * MINUTE
    assert service.most_in_flight <= 6, "the other batch may give back as many"


def test_no_time_left_is_told_while_nothing_moves():
    service = Service(lost=keys(range(15, 30)), median=5.0)
    run = service.started(400)
    throughput, told = Throughput(400), {}
    while run.now < AFTER:
        run.run(until=run.now + 5)
        snapshot = run.engine.snapshot()
        told[run.now] = throughput.add(snapshot).left, snapshot.done
    last = min(now for now, (_, done) in told.items() if done == told[600.0][1])
    assert last < 400, "fifteen of four hundred are enough to hold all places"
    assert [now for now in told if last + 60 < now < AFTER and told[now][0] is not None] == []


def test_in_words():
    assert str(Stalled(15, "row-3", 1020.0, 1020.0, 1)) == (
        "15 jobs have not ended in 17 min, the oldest row-3; 1 more is tried instead"
    )
    assert str(Stalled(2, "a\nb", 7200.0, 900.0)) == "2 jobs have not ended in 15 min, the oldest a\\nb in 2 h"
    assert str(Stalled(1, "row-3", 900.0, 900.0, 1)) == "row-3 has not ended in 15 min; 1 more is tried instead"
    assert str(Stalled(20, "r", 900.0, 900.0, 2)).endswith("; 2 more are tried instead")
