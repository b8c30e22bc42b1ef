"""What pacing learns, and when jobs are polled by it, on virtual time."""

import math
import random
from heapq import heappop, heappush
from statistics import fmean

import pytest

from batchrun.core.pacing.curve import BEYOND, curve_of
from batchrun.core.pacing.life_table import EDGES, LAST, LifeTable, bin_of
from batchrun.core.pacing.pacing import AT_THE_END, KNOWN_ENDS, UNKNOWN_AGE, Pacing
from batchrun.core.settings.settings import Lag, read_lag

TENTH = Lag(0.1, is_share=True)


def log_normal(sigma, mean=10.0):
    mu = math.log(mean) - sigma * sigma / 2
    return lambda chance: math.exp(mu + sigma * chance.gauss(0, 1))


def simulated(draw, jobs=2_500, places=250, lag=TENTH, *, told=False, model=lambda i: "m", seed=1):
    """Polls and lag of each job, in the order of submission; and the pacing."""
    chance = random.Random(seed)
    durations = [draw(chance, i) for i in range(jobs)]
    pacing = Pacing(lag, 0.25, 1_800.0)
    submitted, seen, polls, found = [0.0] * jobs, [0.0] * jobs, [0] * jobs, [(0, 0.0)] * jobs
    planned = [0] * jobs
    queue, waiting, next_refresh, in_flight = [], iter(range(jobs)), 0.0, set()

    def plan(i, at):
        planned[i] += 1
        heappush(queue, (at, planned[i], i))

    def submit(i, now):
        submitted[i] = now
        in_flight.add(i)
        plan(i, now + pacing.of(model(i)).first(chance.random(), chance.random()))

    for _ in range(places):
        submit(next(waiting), 0.0)
    while queue:
        now, number, i = heappop(queue)
        if number != planned[i]:
            continue
        pace, age = pacing.of(model(i)), now - submitted[i]
        polls[i] += 1
        if age >= durations[i]:
            whole = math.floor(submitted[i] + durations[i]) - math.floor(submitted[i])
            pace.ended(seen[i], age, (whole - 0.5, whole + 0.5) if told else None)
            found[i] = (polls[i], age - durations[i])
            in_flight.remove(i)
            if (following := next(waiting, None)) is not None:
                submit(following, now)
        else:
            plan(i, now + pace.running(seen[i], age, chance.random()))
            seen[i] = age
        if now >= next_refresh:
            seconds, again = pacing.refresh()
            next_refresh = now + seconds
            for j in in_flight if again is not None else ():
                if pacing.of(model(j)) is again:
                    plan(j, max(now, submitted[j] + seen[j] + again.gap(seen[j], chance.random())))
    return found, durations, pacing


def means(found, durations, first=0, last=None):
    """Polls per job, and mean lag as a share of the mean duration."""
    part = found[first:last]
    return fmean(polls for polls, _ in part), fmean(lag for _, lag in part) / fmean(durations[first:last])


# --- the life table ---


def test_every_age_has_its_bin():
    for age in (0.0, 0.01, 0.05, 0.0500001, 1.0, 59.9, 3_600.0, 86_400.0, EDGES[LAST], 1e9):
        k = bin_of(age)
        assert EDGES[k] <= age * (1 + 1e-9)
        assert age <= EDGES[k + 1] * (1 + 1e-9) or k == LAST


@pytest.mark.parametrize("watched_to", [1.0, 5.0, 30.0])
def test_running_jobs_count_up_to_their_last_poll(watched_to):
    """The first ends of a batch are its shortest jobs: without those that still run all jobs would seem short."""
    chance, table = random.Random(3), LifeTable()
    for _ in range(2_000):
        duration = chance.expovariate(0.1)
        if duration < watched_to:
            table.add_end(0.0, duration, duration)
        else:
            table.add_running(0.0, watched_to)
    table.place(None)
    curve, _ = curve_of([table])
    for age in (0.5, 0.9, 4.0, 25.0):
        if age < watched_to:
            assert curve.running_at(age) == pytest.approx(math.exp(-age / 10), abs=0.04)


def test_an_end_between_two_polls_lies_where_the_others_say():
    table = LifeTable()
    for _ in range(300):
        table.add_end(0.0, 9.9, 10.1)
    table.place(None)
    known, _ = curve_of([table])
    for _ in range(100):
        table.add_end(0.0, 1.0, 20.0)
    table.place(known.ended)
    curve, _ = curve_of([table])
    assert curve.running_at(9.0) > 0.97
    assert curve.running_at(11.5) < 0.04


@pytest.mark.parametrize(("factor", "drifted"), [(1.0, False), (0.5, True), (2.0, True)])
def test_a_service_that_becomes_slower_or_faster_is_noticed_and_what_was_known_forgotten(factor, drifted):
    chance, table, draw = random.Random(5), LifeTable(), log_normal(0.5)
    for _ in range(600):
        duration = draw(chance)
        table.add_running(0.0, duration * 0.9)
        table.add_end(duration * 0.9, duration * 0.9, duration * 1.1)
    table.place(None)
    _, hazards = curve_of([table])
    table.watch(hazards)
    noticed = 0
    for _ in range(50):
        for _ in range(2):
            duration = draw(chance) * factor
            table.add_running(0.0, duration * 0.9)
            table.add_end(duration * 0.9, duration * 0.9, duration * 1.1)
        table.place(None)
        if table.drifted():
            noticed += 1
            assert table.count == 0
            break
    assert bool(noticed) is drifted


def test_jobs_of_two_kinds_that_become_faster_are_noticed_where_no_job_ended_before():
    chance, table = random.Random(5), LifeTable()

    def end(by=1.0):
        duration = by * (150.0 if chance.random() < 0.3 else 10.0) * chance.lognormvariate(0, 0.1)
        table.add_end(0.0, duration - 0.2, duration + 0.2)

    for _ in range(1_000):
        end()
    table.place(None)
    table.watch(curve_of([table])[1])
    for _ in range(60):
        end()
    table.place(None)
    assert not table.drifted()
    while table.count:
        end(0.5 if chance.random() < 0.3 else 1.0)  # 9% of them now take 75 s, 21% take 5 s
        table.place(None)
        noticed, table_count = table.drifted(), table.count
        assert noticed or table_count < 1_140


# --- the curve ---


def exponential_curve(mean=10.0, ends=20_000):
    chance, table = random.Random(9), LifeTable()
    for _ in range(ends):
        duration = chance.expovariate(1 / mean)
        table.add_end(0.0, duration, duration)
    table.weight = 1.0  # all count alike
    table.place(None)
    return curve_of([table])[0]


def test_of_jobs_that_end_at_any_age_alike_the_gap_hardly_depends_on_the_age():
    curve = exponential_curve()
    curve.plan(1.0)
    gaps = [curve.next_age(age, curve.price) - age for age in (0.0, 1.0, 5.0, 10.0, 20.0)]
    assert max(gaps) < 1.35 * min(gaps)
    assert curve.price * curve.polls == pytest.approx(1.0, rel=0.02), "each interval costs the same lag"


@pytest.mark.parametrize("lag", [0.05, 1.0, 8.0])
@pytest.mark.parametrize("near", [0.0, 1e-6, 0.5, 1e6])
def test_the_price_does_not_depend_on_where_the_search_for_it_begins(lag, near):
    curve = exponential_curve(ends=2_000)
    curve.plan(lag, near)
    assert curve.price * curve.expected_polls(curve.price) == pytest.approx(lag, rel=1e-3)


def test_the_search_for_the_price_is_short_from_the_last_one_on(monkeypatch):
    curve, tried = exponential_curve(ends=2_000), []
    curve.plan(8.0)
    expected_polls = type(curve).expected_polls
    monkeypatch.setattr(type(curve), "expected_polls", lambda *args: tried.append(args) or expected_polls(*args))
    curve.plan(8.2, curve.price)
    assert len(tried) <= 3


def test_jobs_that_never_end_early_are_not_polled_early():
    chance, table = random.Random(9), LifeTable()
    for _ in range(1_000):
        duration = chance.uniform(540.0, 660.0)
        table.add_end(0.0, duration, duration)
    table.place(None)
    curve, _ = curve_of([table])
    curve.plan(30.0)
    assert curve.next_age(0.0, curve.price) > 500.0
    assert curve.polls < 3.0


def test_beyond_what_is_known_no_gap_exceeds_a_third_of_the_age():
    curve = exponential_curve(ends=200)
    curve.plan(5.0)
    for age in (100.0, 400.0, 3_000.0):
        assert curve.next_age(age, curve.price) - age <= BEYOND * age + 1e-6


# --- pacing ---


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize(
    ("draw", "most"), [(log_normal(0.3), 3.3), (log_normal(0.7), 5.7), (lambda c: c.expovariate(0.1), 6.6)],
    ids=["narrow", "usual", "memoryless"],
)  # fmt: skip
def test_the_lag_is_what_was_asked_for_with_few_polls(draw, most, told):
    """`most` is about 1.15 times what the true distribution needs."""
    found, durations, _ = simulated(lambda chance, _: draw(chance), told=told)
    polls, lag = means(found, durations, 500, 2_250)
    assert 0.08 <= lag <= 0.13
    assert polls <= most


def test_a_lag_may_be_a_time():
    found, durations, _ = simulated(lambda chance, _: log_normal(0.5)(chance), lag=read_lag("2s"))
    _, lag = means(found, durations, 500, 2_250)
    assert 1.6 <= lag * fmean(durations[500:2_250]) <= 2.5


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_service_whose_speed_changes_has_its_lag_again_after_a_thousand_jobs(factor):
    draw = log_normal(0.7)
    found, durations, _ = simulated(lambda chance, i: draw(chance) * (factor if i >= 1_000 else 1), jobs=3_500)
    polls, lag = means(found, durations, 2_000, 3_250)
    assert 0.075 <= lag <= 0.125
    assert polls <= 6.0


def test_each_class_has_its_own_curve_and_borrows_that_of_all_until_it_is_known():
    draw = log_normal(0.3)
    *_, pacing = simulated(
        lambda chance, i: draw(chance) * (1 if i % 2 else 20), model=lambda i: "quick" if i % 2 else "slow"
    )
    quick, slow = (pacing.of(name).curve for name in ("quick", "slow"))
    assert quick.mean == pytest.approx(10.0, rel=0.15)
    assert slow.mean == pytest.approx(200.0, rel=0.15)
    new = pacing.of("new")
    assert new.curve is not None
    assert quick.mean < new.curve.mean < slow.mean


def test_what_earlier_runs_tell_counts_from_the_first_poll_on():
    pacing = Pacing(TENTH, 0.25, 300.0)
    pacing.learned_before([60.0 + i / 10 for i in range(100)])
    assert pacing.of("m").first(0.5, 0.5) > 50.0
    few = Pacing(TENTH, 0.25, 300.0)
    few.learned_before([60.0] * (KNOWN_ENDS - 1))
    assert few.of("m").first(0.5, 0.5) < 1.0


def test_what_happened_while_nobody_polled_teaches_nothing():
    pace = Pacing(TENTH, 0.25, 300.0).of("m")
    pace.running(UNKNOWN_AGE, 3_600.0, 0.5)
    pace.ended(UNKNOWN_AGE, 3_700.0)
    pace.table.place(None)
    assert pace.table.count == 0
    assert not any(pace.table.left)


def test_at_the_end_of_a_batch_gaps_are_a_quarter():
    pacing = Pacing(TENTH, 0.25, 300.0)
    pacing.learned_before([60.0 + i / 10 for i in range(100)])
    pace = pacing.of("m")
    usual = pace.gap(30.0, 0.5)
    assert pacing.hurry(at_the_end=True) == [pace]
    assert pace.gap(30.0, 0.5) == pytest.approx(usual / AT_THE_END)
    assert pacing.hurry(at_the_end=True) == []
    assert pacing.hurry(at_the_end=False) == []
    assert pace.gap(30.0, 0.5) == pytest.approx(usual)


def test_no_gap_leaves_its_bounds_and_all_have_jitter():
    pacing = Pacing(TENTH, 2.0, 10.0)
    pace = pacing.of("m")
    for learned in (False, True):
        for age in (0.0, 0.1, 5.0, 200.0):
            gaps = [pace.gap(age, chance) for chance in (0.0, 0.5, 0.999)]
            assert all(2.0 <= gap <= 10.0 for gap in gaps)
            assert len(set(gaps)) == 3
        if not learned:
            for _ in range(50):
                pace.ended(0.0, 60.0)
            pacing.refresh()


@pytest.mark.parametrize("text", ["0%", "-1%", "101%", "%", "0", "0s", "soon", "ten%", ""])
def test_a_lag_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        read_lag(text)


def test_a_lag_is_a_share_or_a_time():
    assert read_lag("10%") == Lag(0.1, is_share=True)
    assert read_lag("2s") == read_lag("2") == Lag(2.0)
    assert read_lag(" 2.5 %") == Lag(0.025, is_share=True)
