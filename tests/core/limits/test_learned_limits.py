"""What is used of a service's limit and what is refused, on virtual time: the goals, held against simulated services.

The figures for 20,000 rows and for all services are those of benchmarks/limits.py; here are shorter runs of the same,
and with --long the long ones.
"""

from collections import Counter

import pytest

from batchrun.core.jobs.job import About, Row
from batchrun.simulator.limits import Allowance
from benchmarks.limited import FixedMinutes, Service, World, claiming, honest
from benchmarks.limits import requests, rows, sized, tokens

RPM = 3_000


def used(world, since, until, limit=RPM, counts=None):
    counts = world.accepted if counts is None else counts
    return sum(counts[second] for second in range(since, until)) / (limit / 60 * (until - since))


@pytest.fixture
def until(long):
    """Seconds of a run: that of 20,000 rows, or shorter."""
    return 400 if long else 110


@pytest.mark.parametrize("window", [1, 10, 60])
def test_a_limit_is_found_and_used(window, until):
    world = World(Service(requests(window)), rows(24_000)).run(until)
    assert used(world, 60, until) >= 0.95
    assert world.share_refused(0, 60) <= 0.05
    assert world.share_refused(60, until) <= 0.005


def test_fixed_minutes_without_a_usable_retry_after(until):
    service = Service({"requests": FixedMinutes(RPM, -20.0)}, retry_after="1")
    world = World(service, rows(24_000)).run(100 if until < 400 else 400)
    assert world.share_refused(0, 100) <= 0.06
    assert used(world, 40, 100) >= 0.95, "one of its minutes"


@pytest.mark.parametrize("window", [1, 10, 60])
def test_a_limit_that_is_halved(window, long):
    if window != 1 and not long:
        pytest.skip("--long")
    service = Service(requests(window), [(60.0, requests(window, RPM / 2, 60.0))])
    world = World(service, rows(24_000)).run(120)
    assert world.share_refused(60, 120) <= 0.03
    assert used(world, 60, 120, RPM / 2) >= 0.9


@pytest.mark.parametrize("window", [1, 10, 60])
def test_a_limit_that_is_doubled(window, long):
    if window != 1 and not long:
        pytest.skip("--long")
    service = Service(requests(window), [(60.0, requests(window, RPM * 2, 60.0))])
    world = World(service, rows(24_000)).run(180)
    assert used(world, 60, 180, RPM * 2) >= 0.75


@pytest.mark.parametrize("window", [1, 10, 60])
def test_a_limit_of_tokens_with_rows_of_every_size(window, long):
    if window != 10 and not long:
        pytest.skip("--long")
    world = World(Service(tokens(window, 4e6)), sized(12_000)).run(180)
    assert used(world, 60, 180, 4e6, world.tokens) >= 0.95
    assert world.share_refused(0, 60) <= 0.05
    assert world.share_refused(60, 180) <= 0.005


def test_headers_that_are_honest_save_all_refusals():
    world = World(Service(requests(1), headers=honest), rows(24_000)).run(60)
    assert world.share_refused(0, 60) == 0
    assert used(world, 5, 60) >= 0.95


def test_headers_that_claim_too_little_are_found_out(long):
    world = World(Service(requests(10), headers=claiming(requests=30)), rows(24_000)).run(400 if long else 260)
    assert used(world, 230, 260) >= 0.8


def test_headers_that_claim_too_much_change_nothing():
    world = World(Service(requests(10), headers=claiming(requests=300_000)), rows(24_000)).run(90)
    assert world.share_refused(0, 60) <= 0.05
    assert used(world, 60, 90) >= 0.9


def test_two_batches_of_a_process_learn_one_limit():
    world = World(Service(requests(1)), rows(9_000, "a"), rows(9_000, "b")).run(100)
    assert used(world, 60, 100) >= 0.95
    assert world.share_refused(0, 60) <= 0.05
    assert world.share_refused(60, 100) <= 0.005
    sent = Counter(key[0] for at, key in world.posts if at > 60)
    assert min(sent.values()) >= 0.4 * sum(sent.values()), "each gets its part"


def test_a_cap_of_jobs_in_flight_is_learned_as_places(long):
    count = 5_000 if long else 2_000
    world = World(Service(most_jobs=100, duration=60.0), rows(count)).run()
    refused = sum(world.refused.values())
    lane = next(iter(world.batches[0].engine.gate.lanes.values()))
    assert 90 <= lane.places.limit <= 115
    assert world.share_refused(600, world.last_second) <= 0.03
    assert refused / (refused + count) <= (0.03 if long else 0.06), "most of it before the places were learned"


def test_one_of_twenty_503_at_random_costs_little():
    done = []
    for fails in (0.0, 0.05):
        world = World(Service(requests(10), fails=fails), rows(2_000)).run()
        at = sorted(when for when, _ in world.ended.values())
        done.append(at[int(0.99 * len(at))])
    assert done[0] >= 0.85 * done[1]


@pytest.mark.parametrize(
    ("count", "bad"), [(100, [50]), (100, [0]), (400, range(0, 400, 40)), (400, range(0, 100, 10))]
)
def test_s31_rows_that_are_always_refused_hold_up_no_others(count, bad):
    keys = frozenset(f"row-{i}" for i in bad)
    world = World(Service(bad=keys, duration=20.0), rows(count)).run()
    alone = World(Service(duration=20.0), rows(count)).run()
    states = Counter(state for key, (_, state) in world.ended.items() if key in keys)
    assert states == {"rate_limited": len(keys)}
    assert len(world.ended) == count
    assert world.now < 150
    sent = [max(at for at, key in one.posts if key not in keys) for one in (world, alone)]
    assert sent[0] <= sent[1] + 8.0, "ten incidents with their pauses"
    recorded = [max(at for key, (at, _) in one.ended.items() if key not in keys) for one in (world, alone)]
    assert recorded[0] - recorded[1] <= sent[0] - sent[1] + 2.0, "and the lag of a poll: a tenth of 20 s"
    assert not world.halts


def test_s32_a_retry_after_of_a_millisecond_is_no_hot_loop():
    world = World(Service(bad=frozenset({"row-0"}), retry_after="1"), rows(1)).run()
    times = [at for at, _ in world.posts]
    assert max(sum(begin <= at < begin + 60 for at in times) for begin in times) < 20
    assert world.halts[0][1] == "no acceptance"
    assert world.ended == {}, "it shows nothing of the row while nothing else is accepted"


@pytest.mark.parametrize("status", [429, 503])
def test_at_half_of_all_refused_at_random_no_healthy_row_dies(status, long):
    count = 20_000 if long else 500
    world = World(Service(fails=0.5, status=status), rows(count)).run()
    assert Counter(state for _, state in world.ended.values()) == {"succeeded": count}


def test_a_service_of_three_a_minute_is_not_asked_all_the_time():
    world = World(Service(requests(1, 3)), rows(200)).run(1_800)
    assert world.share_refused(300, 1_800) <= 0.05
    assert used(world, 300, 1_800, 3) >= 0.8


def of_models(count, path="/responses"):
    return [Row(f"{model}-{i}", About(model, path=path)) for i in range(count) for model in ("slow", "quick")]


def test_rows_of_another_model_go_on_meanwhile():
    class OneModel(Service):
        """Takes one row a minute of a model, and any of the other."""

        def post(self, row, now):
            self.limits = {"requests": self.scarce} if row.about.model == "slow" else {}
            return super().post(row, now)

    service = OneModel(retry_after="honest")
    service.scarce = Allowance(1, 1, 0.0)
    world = World(service, of_models(100)).run(20)
    sent = Counter(key.partition("-")[0] for key in world.ended)
    assert sent["quick"] == 100
    waits = world.batches[0].engine.snapshot().waits
    assert [(one.model, one.why) for one in waits] == [("slow", "rate limit")]
    assert waits[0].rows >= 90
    assert 0 < waits[0].until - world.now <= 75
