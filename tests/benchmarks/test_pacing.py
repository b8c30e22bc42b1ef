"""The benchmark of pacing: what it compares with is right, and it measures, records and draws."""

import itertools
import json
import xml.etree.ElementTree as ET

import pytest

from batchrun.core.pacing.backoff import Backoff
from batchrun.core.pacing.pacing import Pacing
from batchrun.core.settings.settings import Lag
from benchmarks import charts, pacing, pacing_queue, pacing_rules, pacing_workloads, results
from benchmarks.pacing_rules import Known, Seen, TradeOff, at_ages
from benchmarks.pacing_simulation import simulate


def test_the_trace_is_that_of_azure():
    durations = pacing_workloads.azure_durations()
    assert len(durations) == 8819
    assert durations[0] == pytest.approx(0.5 + 0.00025 * 4808 + 0.03 * 10)  # its first row: 4,808 and 10 tokens
    assert sum(durations) / len(durations) == pytest.approx(1.848, abs=0.001)


def test_the_trace_is_kept_as_azure_publishes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(pacing_workloads, "TRACE", tmp_path / "kept.csv.xz")
    published = tmp_path / "published.csv"
    published.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n")
    pacing_workloads.keep_trace(published)
    pacing_workloads.azure_durations.cache_clear()
    try:
        assert pacing_workloads.azure_durations() == (2.002,)
    finally:
        pacing_workloads.azure_durations.cache_clear()


@pytest.mark.parametrize("workload", pacing_workloads.workloads(), ids=lambda workload: workload.name)
def test_durations_are_drawn_from_the_distribution_that_the_rules_are_told(workload):
    durations = workload.durations(4000)
    assert sum(durations) / 4000 == pytest.approx(workload.mean, rel=0.05)
    for share in (0.5, 1.0, 1.5):
        age = share * workload.mean
        assert sum(one > age for one in durations) / 4000 == pytest.approx(workload.survival(age), abs=0.03)


def test_fixed_gaps_and_backoffs_are_counted():
    assert pacing_rules.every(2.0, [1.0, 2.0, 3.0]) == Seen(4 / 3, pytest.approx(2 / 3))
    assert pacing_rules.backoff(Backoff(1.0, 30.0), [3.0], jitter=False) == Seen(3, 1 + 1.5 + 2.25 - 3.0)
    assert at_ages([2.0, 3.0], 3.5) == (3, pytest.approx(0.5))
    curve = TradeOff([Seen(4.0, 1.0), Seen(1.0, 4.0), Seen(5.0, 2.0)])
    assert curve.polls(2.0) == pytest.approx(2.0)  # the point that takes more polls for more lag does not count


def test_the_least_possible_is_what_theory_says():
    """Where as many jobs end at each age, each gap is best shorter by the price of a poll than the one before.

    To move a poll by dt adds lag to the jobs of the gap before it, takes it from the next, and saves a poll of dt.
    """
    ages = Known(lambda age: max(0.0, 1 - age / 100), 50.0, 1000.0).best_ages(2.0)
    gaps = [after - before for before, after in itertools.pairwise([0.0, *ages])]
    assert len(gaps) > 5
    assert all(before - after == pytest.approx(2.0, abs=0.7) for before, after in itertools.pairwise(gaps[:-1]))
    assert ages[-1] == pytest.approx(100.0, abs=1.0)


def test_pacing_learns_on_virtual_time_what_the_rule_knows():
    workload = pacing_workloads.log_normal(0.3)
    durations = workload.durations(2000)
    jobs = simulate(durations, Pacing(Lag(0.1, is_share=True), 0.25, 300.0), told=False, mean=10.0)
    seen = pacing_rules.mean(jobs[1000:1500])
    known = Known(workload.survival, 10.0, 300.0)
    assert seen.lag == pytest.approx(1.0, rel=0.2)
    assert seen.polls < 1.15 * known.equal_lag(durations[1000:1500], (0.5, 2.0)).polls(seen.lag)


def test_it_measures_records_and_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "HERE", tmp_path)
    monkeypatch.setattr(pacing, "workloads", lambda: [pacing_workloads.log_normal(0.3)])
    assert pacing.main(["--quick"]) == 0
    shown = capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    found = {line["name"]: line for line in lines}
    one = found["pacing: log-normal, σ 0.3, intervals"]
    assert one["least"][0] <= one["value"] * 1.02 < one["fixed"][0] < one["backoff"][0]
    goals = [name for name in found if name.startswith("pacing: goal: ")]
    assert len(goals) == len(shown.splitlines()) >= 6
    drawn = {path.stem: path for path in charts.draw(tmp_path / "charts")}
    texts = [text.text for text in ET.parse(drawn["pacing"]).getroot().iter("{http://www.w3.org/2000/svg}text")]
    assert {"batchrun", "best fixed gap", "log-normal, σ 0.3 (mean 10 s)", "10%"} <= set(texts)


def test_a_queue_is_polled_by_what_polls_show():
    jobs = [(10.0, 3.0), (0.5, 1.0)]
    seen = pacing_queue.polled_by_state(jobs, 4.0, [0.5, 2.0])
    # polled at 4, 8, 12 and, as it runs then, 12.5 and 14; the other at 4, when it is over
    assert seen == Seen(3.0, (1.0 + 2.5) / 2)


def test_the_first_jobs_of_a_window_are_polled_as_expected_until_most_of_their_own_curve_is_known():
    workload = pacing_workloads.window(5400.0, "2-hour window, last quarter")
    pacing_of_it = pacing.pacing_of(workload, Lag(120.0))
    seen = pacing_rules.mean(simulate(workload.durations(500), pacing_of_it, told=False, mean=workload.mean))
    assert seen.lag < 130
    assert seen.polls < 30
