"""A scenario says what it means, or says what is wrong with it and what to write instead."""

import math
from pathlib import Path
from statistics import median

import pytest

from batchrun.simulator import DEMO, Scenario, ScenarioError, load, parse
from batchrun.simulator.distributions import Spread, seconds, spread
from batchrun.simulator.outcomes import Mix, share
from tests.simulator.bench import Bench

SAMPLE = Path(__file__).parents[2] / "samples" / "scenario.toml"


def test_an_empty_scenario_completes_every_job_after_two_seconds():
    bench = Bench("")
    job = bench.job()
    assert [bench.status_after(delay, job) for delay in (0, 1.999, 0.001)] == [
        "in_progress",
        "in_progress",
        "completed",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("times = ", "scenario: expected TOML"),
        ("sed = 1", "scenario: sed: unknown key; did you mean 'seed'?"),
        ("[time]\nduration = '1s'", "scenario: time: unknown key; did you mean 'times'?"),
        ("[times]\ndurations = '1s'", "scenario: times.durations: unknown key; did you mean 'times.duration'?"),
        ("[times]\nduration = '1 fortnight'", "scenario: times.duration: expected '2s', '50ms..300ms'"),
        ("[times]\nduration = '3s..1s'", "write '1s..3s'"),
        ("[times]\nduration = 'lognormal(2s)'", "expected a sigma such as 0.8, got ''"),
        ("[times]\nduration = 'trace(x.csv)'", "expected no file here"),
        ("[times]\nlate = -1", "expected a time such as '50ms', '2s' or '1h', got -1"),
        ("[jobs]\nserver_eror = 0.1", "scenario: jobs: 'server_eror' is unknown; did you mean 'server_error'?"),
        ("[jobs]\nhttp_500 = 0.1", "'http_500' is unknown"),
        ("[jobs]\nserver_error = '5'", "expected a share such as '5%' or 0.05, got '5'"),
        ("[jobs]\nserver_error = true", "expected a share such as '5%' or 0.05, got True"),
        ("[jobs]\nserver_error = 0.6\nempty = 0.5", "expected shares of at most 100% together, got 110.0%"),
        ("[submits]\nhttp_200 = 0.1", "'http_200' is unknown"),
        ("[polls]\nlost = 0.1", "'lost' is unknown"),
        ("[cancels]\nlate = 0.1", "did you mean 'late_completed'?"),
        ("jobs = 3", "scenario: jobs: expected a table, got 3"),
        ("times = 3", "scenario: times: expected a table, got 3"),
        ("[limits]\nrpm = 0", "scenario: limits.rpm: expected a number above 0, got 0"),
        ("[limits]\nquota = 1.5", "expected a whole number of at least 0, got 1.5"),
        ("seed = -1", "expected a whole number of at least 0, got -1"),
        ("demo = 1", "expected true or false, got 1"),
        ('api_key = "a\\nb"', "expected printable ASCII"),
        ("models = 'gpt-5'", "scenario: models: expected a list, got 'gpt-5'"),
        ("finished_cancel = 300", "expected one of 200, 400, 409, got 300"),
        ("[[outages]]\nfrom = 5\nto = 1", "expected 'to' after 'from', got 5s to 1s"),
        ("[[outages]]\nfrom = 5\nuntil = 9", "unknown key 'until'; did you mean"),
        ("[[outages]]\nto = 9\nstatus = 200", "expected a status of 400 to 599, or 0 to hang up, got 200"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_its_remedy(text, says):
    with pytest.raises(ScenarioError) as wrong:
        parse(text)
    assert says in str(wrong.value)


def test_a_scenario_that_is_not_there_names_its_file(tmp_path):
    with pytest.raises(ScenarioError, match=r"expected a scenario at .*none\.toml"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "value"),
    [("2s", 2.0), ("50ms", 0.05), ("1.5m", 90.0), ("2h", 7200.0), ("3", 3.0), (0.25, 0.25), (4, 4.0)],
)
def test_times(text, value):
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1e3s", "1 s s", "nan", "inf", None, True, math.nan, math.inf, -0.1])
def test_what_is_no_time(text):
    with pytest.raises(ScenarioError, match="expected a time such as"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "value"), [("5%", 0.05), ("0.5%", 0.005), (0.2, 0.2), ("0.2", 0.2), (1, 1.0), ("100%", 1.0)]
)
def test_shares(text, value):
    assert share(text) == pytest.approx(value)


def test_spreads_by_quantile():
    assert [spread("2s").at(u) for u in (0, 0.5, 0.99)] == [2, 2, 2]
    assert [spread("1s..3s").at(u) for u in (0, 0.5)] == [1, 2]
    odd = spread("lognormal(2s, 0.8)")
    assert odd.at(0.5) == pytest.approx(2)
    assert odd.at(0.8413447) == pytest.approx(2 * math.exp(0.8), rel=1e-4)  # one sigma above the median
    assert 0 < odd.at(0.0) < odd.at(1 - 2**-53) < math.inf


def test_a_mix_gives_each_word_its_share():
    mix = Mix((("a", 0.25), ("b", 0.5)))
    assert [mix.pick(u) for u in (0, 0.249, 0.25, 0.749, 0.75, 0.999)] == ["a", "a", "b", "b", None, None]


def test_a_trace_draws_durations_by_the_stated_model(tmp_path):
    trace = tmp_path / "t.csv"
    trace.write_text("# cite me\nTIMESTAMP,ContextTokens,GeneratedTokens\nx,1000,10\ny,2000,100\n")
    drawn = spread("trace(t.csv, 0.1)", tmp_path)
    assert [drawn.at(u) for u in (0.0, 0.6)] == pytest.approx([0.1 * (0.5 + 0.25 + 0.3), 0.1 * (0.5 + 0.5 + 3.0)])
    assert [drawn.tokens(u) for u in (0.0, 0.6)] == [10, 100]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("TIMESTAMP,ContextTokens\nx,1\n", "in row 1"),
        ("ContextTokens,GeneratedTokens\n1,b\n", "row 1"),
        ("", "at least one row"),
    ],
)
def test_a_trace_that_is_none_is_named(tmp_path, text, says):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ScenarioError, match=says):
        spread("trace(t.csv)", tmp_path)
    with pytest.raises(ScenarioError, match=r"expected a trace at .*none\.csv, got No such file"):
        spread("trace(none.csv)", tmp_path)


def test_the_sample_scenario_is_read_and_runs():
    scenario = load(SAMPLE)
    bench = Bench(scenario)
    outcomes = []
    for i in range(400):
        bench.now += 0.05
        answer = bench.submit(f"row {i}")
        if answer.status == 200:
            assert 0.05 <= answer.delay <= 0.3
            outcomes.append(answer)
    assert len(outcomes) > 380  # a hundredth is refused
    assert bench.books.refusals.keys() <= {"server_is_overloaded"}
    bench.now += 41  # in the outage
    assert bench.submit().status == 502


def test_every_key_of_a_scenario_stands_in_the_sample():
    text = SAMPLE.read_text()
    for name in Scenario.__dataclass_fields__:
        assert name in text
    for table in (Scenario().times, Scenario().traits, Scenario().limits):
        for name in type(table).__dataclass_fields__:
            assert f"\n{name} = " in text or f"# {name} = " in text, name


def test_the_demo_takes_seconds_and_shows_failures():
    assert DEMO.demo
    assert isinstance(DEMO.times.duration, Spread)
    assert 1 < median(DEMO.times.duration.at(i / 1000) for i in range(1000)) < 3
    assert 0 < sum(part for _, part in DEMO.jobs.shares) < 0.2
