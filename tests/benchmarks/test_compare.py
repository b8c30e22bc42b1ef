"""What the comparison of two checkouts makes of the figures that their benchmarks print."""

import json

import pytest

from benchmarks.compare import WHOLE, Figure, Round, compared, figures_of, paired


def test_the_ratio_is_the_median_of_rounds_so_a_machine_that_slows_down_changes_nothing():
    one = compared([Round(10, 11, 10), Round(20, 22, 20), Round(40, 44, 40)])
    assert one.ratio == pytest.approx(1.1)
    assert (one.lowest, one.highest) == (pytest.approx(1.1), pytest.approx(1.1))
    assert (one.old, one.new) == (20, 22)
    assert one.tells


def test_within_a_round_the_new_run_is_held_against_the_mean_of_both_old_ones():
    assert compared([Round(10, 12, 14)]).ratio == pytest.approx(1.0)


def test_one_outlier_moves_neither_the_ratio_nor_the_medians():
    one = compared([Round(10, 9, 10), Round(10, 90, 10), Round(10, 9, 10)])
    assert (one.ratio, one.old, one.new) == (pytest.approx(0.9), 10, 9)
    assert one.highest == pytest.approx(9.0)


def test_a_ratio_within_what_the_old_code_differs_from_itself_says_nothing():
    noisy = compared([Round(10, 11, 10), Round(10, 12, 12.5)])
    assert (noisy.old_lowest, noisy.old_highest) == (pytest.approx(0.8), pytest.approx(1.25))
    assert not noisy.tells
    assert compared([Round(10, 14, 10), Round(10, 14, 10)]).tells


def test_figures_of_zero_are_alike_and_anything_is_infinitely_more_than_zero():
    assert not compared([Round(0, 0, 0)]).tells
    assert compared([Round(0, 1, 0)]).ratio == float("inf")


def test_what_costs_is_read_from_the_lines_of_a_benchmark():
    lines = [
        {"name": "polling", "value": 9_000, "unit": "polls/s", "cpu_us": 80.5},
        {"name": "a poll", "value": 5.5, "unit": "µs"},
        {"name": "a pause", "value": 40, "unit": "ms"},
        {"name": "both", "value": 1.1, "unit": "ratio"},
    ]
    printed = "".join(f"{json.dumps(line)}\n" for line in lines)
    costs = [Figure("polling, processor time", 80.5, "µs"), Figure("a poll", 5.5, "µs"), Figure(WHOLE, 2.5, "s")]
    assert figures_of(printed, 2.5) == costs
    more = figures_of(printed, 2.5, everything=True)
    assert [one.name for one in more] == ["polling, processor time", "polling", "a poll", "a pause", WHOLE]


def test_figures_are_paired_in_their_order_under_the_new_name():
    old, new = [Figure("a look", 4.0, "µs")], [Figure("a poll", 5.0, "µs")]
    assert paired(old, new, [Figure("a look", 6.0, "µs")]) == [(new[0], Round(4.0, 5.0, 6.0))]


def test_benchmarks_that_print_other_figures_are_not_compared():
    with pytest.raises(SystemExit, match="expected the same figures"):
        paired([Figure("a", 1, "µs")], [Figure("a", 1, "bytes")], [Figure("a", 1, "µs")])
