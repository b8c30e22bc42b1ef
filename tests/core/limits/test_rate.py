"""The rate that is learned, by exact times."""

import pytest

from batchrun.core.limits import rate as limits
from batchrun.core.limits.lane import ClassCounts, Places
from batchrun.core.limits.rate import COOLDOWN, CUT, FIRST, GROWTH, AdaptiveRate
from batchrun.core.responses.retry_after import LimitShown, RateHeaders


def half():
    return 0.5


def go(rate, since, until, tokens=0, *, answer=True, shown=None):
    """Send as fast as the rate lets go, each answered at once; returns how many went."""
    now, sent = since, 0
    while True:
        now = max(now, rate.ready_at())
        if now >= until:
            return sent
        rate.took(now, tokens)
        sent += 1
        if answer:
            rate.accepted(now, now, tokens, shown)


def refused(rate, now, sent_at=None, asked=None, kind="requests"):
    return rate.refused_for_rate(now, now if sent_at is None else sent_at, asked, kind, half)


def learned(rate=50.0):
    """One that has found about this rate, at time 0, and may grow from COOLDOWN on."""
    found = AdaptiveRate(-1.0, first=rate / CUT)
    go(found, -1.0, -0.01)
    found.requests._least_first = rate / CUT
    assert refused(found, 0.0)
    assert found.requests.per_second == pytest.approx(rate, rel=0.05)
    return found


def test_it_doubles_each_second_until_the_first_cut_and_only_while_it_is_used():
    rate = AdaptiveRate(0.0)
    sent = [go(rate, second, second + 1.0) for second in range(4)]
    assert sent == pytest.approx([2 * FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST], rel=0.1), "the first second has credit"
    idle = AdaptiveRate(0.0)
    for second in range(10):
        idle.took(float(second), 0)
        idle.accepted(second, second, 0, None)
    assert idle.requests.per_second == FIRST


def test_a_refusal_cuts_once_and_what_was_sent_before_says_nothing_new():
    rate = learned(50.0)
    before = rate.requests.per_second
    go(rate, 1.0, 3.0)
    assert refused(rate, 3.0)
    once = rate.requests.per_second
    assert once == pytest.approx(CUT * before, rel=0.02)
    paused = rate.paused_until
    assert not refused(rate, 3.1, sent_at=2.9)
    assert (rate.requests.per_second, rate.paused_until) == (once, paused)
    rate.accepted(3.1, 2.9, 0, None)
    assert not refused(rate, 4.0), "nothing that was sent since was accepted"
    assert rate.requests.per_second == once
    assert rate.paused_until > paused
    rate.accepted(5.0, 4.5, 0, None)
    assert refused(rate, 6.0)
    assert rate.requests.per_second < once


def test_without_an_acceptance_the_delay_doubles_to_thirty_seconds_and_the_rate_stays():
    rate = learned(50.0)
    before, now, delays = rate.requests.per_second, 10.0, []
    for _ in range(9):
        refused(rate, now)
        delays.append(rate.paused_until - now)
        now = rate.paused_until
    assert rate.requests.per_second == before
    assert delays[1:5] == pytest.approx([2 * delays[0], 4 * delays[0], 8 * delays[0], 16 * delays[0]])
    assert delays[-1] == limits.LONGEST_DELAY * 0.75


def test_a_first_refusal_before_anything_was_accepted_cuts_nothing():
    rate = AdaptiveRate(0.0)
    rate.took(0.0, 0)
    assert not refused(rate, 0.1, sent_at=0.0)
    assert rate.requests.per_second == FIRST
    assert rate.paused_until > 0.1


def test_it_grows_after_the_cooldown_while_four_fifths_of_it_are_used():
    rate = learned(50.0)
    before = rate.requests.per_second
    go(rate, 1.0, COOLDOWN)
    assert rate.requests.per_second == before
    go(rate, COOLDOWN, COOLDOWN + 11.0)
    assert before * GROWTH <= rate.requests.per_second <= before * GROWTH**3
    idle = learned(50.0)
    for second in range(60):
        idle.took(float(second), 0)
    assert idle.requests.per_second == pytest.approx(before)


def test_retry_after_is_a_floor():
    rate = learned(50.0)
    refused(rate, 10.0, asked=7.0)
    assert 17.0 <= rate.paused_until <= 17.0 * 1.25
    rate = learned(50.0)
    refused(rate, 10.0, asked=0.001)
    assert rate.paused_until >= 10.0 + limits.FIRST_DELAY / 2


def test_an_overload_cuts_only_where_more_than_a_fifth_of_the_last_fifty_were_refused():
    rate = learned(50.0)
    before = rate.requests.per_second
    for i in range(200):
        now = 1.0 + i
        if i % 5 == 4:
            assert not rate.refused_for_overload(now, now, 9.0, half)
        else:
            rate.accepted(now, now, 0, None)
    assert (rate.requests.per_second, rate.paused_until) == (before, pytest.approx(0.375))
    assert any(rate.refused_for_overload(300.0, 300.0, 9.0, half) for _ in range(8))
    assert rate.requests.per_second < before
    assert rate.paused_until >= 309.0


def test_the_limit_that_was_named_is_cut_and_else_the_fuller_one():
    rate = AdaptiveRate(0.0)
    go(rate, 0.0, 2.0, tokens=1_000)
    assert refused(rate, 2.0, kind="tokens")
    assert rate.tokens.is_found
    assert not rate.requests.is_found
    go(rate, 3.0, 30.0, tokens=1_000)
    before = rate.tokens.per_second
    assert refused(rate, 30.0, kind=None)
    assert rate.tokens.per_second < before, "of these more of what was allowed is used"
    assert not rate.requests.is_found
    unnamed = AdaptiveRate(0.0)
    go(unnamed, 0.0, 2.0, tokens=1_000)
    refused(unnamed, 2.0, kind=None)
    assert unnamed.tokens.is_found
    assert unnamed.requests.is_found


def test_a_cut_for_a_row_that_is_at_fault_itself_is_taken_back():
    rate = AdaptiveRate(0.0)
    go(rate, 0.0, 1.0)
    before = rate.requests.per_second
    refused(rate, 1.0)
    rate.take_back(2.0, rate.last_cut)
    assert rate.requests.per_second == before
    assert not rate.requests.is_found, "it doubles again"


LIMITED = RateHeaders(LimitShown(600, 599, 0.1))


def test_a_limit_in_a_header_is_a_ceiling():
    rate = AdaptiveRate(0.0)
    rate.took(0.0, 0)
    rate.accepted(0.1, 0.0, 0, LIMITED)
    assert go(rate, 1.0, 31.0, shown=LIMITED) == pytest.approx(300, rel=0.05)


def test_a_header_is_tried_once_and_believed_after_a_refusal():
    rate = AdaptiveRate(0.0)
    go(rate, 0.0, 120.0, shown=LIMITED)
    assert rate.requests.effective > 10.0
    refused(rate, 120.0)
    go(rate, 121.0, 600.0, shown=LIMITED)
    assert rate.requests.effective == pytest.approx(10.0)


def test_a_header_that_claims_too_little_is_found_out():
    rate = AdaptiveRate(0.0)
    found_out = next(now for now in range(600) if go(rate, now, now + 1.0, shown=LIMITED) and not rate.requests.ceiling)
    assert 60 <= found_out <= 300
    go(rate, found_out + 1.0, found_out + 4.0)
    assert rate.requests.per_second >= 100.0


def test_with_a_fixed_rate_there_are_pauses_alone():
    rate = AdaptiveRate(0.0, learns=False)
    rate.took(0.0, 100)
    rate.accepted(0.1, 0.0, 100, LIMITED)
    refused(rate, 1.0)
    assert rate.paused_until > 1.0
    assert (rate.requests.effective, rate.tokens.effective) == (None, None)


# --- places ---


def test_places_are_learned_where_incidents_agree_in_jobs_and_not_in_rate():
    places = Places()
    for rate in (80.0, 64.0, 51.0):
        places.incident(100, rate)
        for _ in range(50):
            places.accepted()
    assert places.limit == float("inf")
    places.incident(97, 41.0)
    assert places.limit == 97
    for _ in range(97):
        places.accepted()
    assert places.limit == pytest.approx(97.5, abs=0.01)
    assert places.concerns(90)
    places.refused(96)
    assert places.limit == 96


@pytest.mark.parametrize(
    "incidents",
    [
        [(100, 50.0), (101, 52.0), (99, 51.0), (100, 50.0)],  # a rate
        [(100, 80.0), (50, 64.0), (200, 51.0), (100, 41.0)],  # neither
    ],
)
def test_other_incidents_teach_no_places(incidents):
    places = Places()
    for jobs, rate in incidents:
        places.incident(jobs, rate)
        for _ in range(50):
            places.accepted()
    assert places.limit == float("inf")


def test_a_first_burst_teaches_no_places():
    """Jobs are accepted between its incidents and none has ended."""
    places = Places()
    for i, rate in enumerate((80.0, 64.0, 51.0, 41.0)):
        places.incident(1_000 + 40 * i, rate)
        for _ in range(40):
            places.accepted()
    assert places.limit == float("inf")


def test_places_that_were_no_limit_grow_faster_and_faster():
    places = Places()
    for rate in (80.0, 64.0, 51.0, 41.0):
        places.incident(100, rate)
        for _ in range(50):
            places.accepted()
    for _ in range(3_000):
        places.accepted()
    assert places.limit > 200


# --- rows that are refused again and again ---


def refused_times(counts, times, row=None):
    for _ in range(times):
        row = counts.refused(row)
    return row


def test_s31_a_row_is_at_fault_only_after_eight_refusals_while_twenty_others_as_large_were_accepted():
    counts = ClassCounts()
    row = refused_times(counts, 1)
    for _ in range(19):
        counts.accepted(100)
    row = refused_times(counts, 7, row)
    assert not counts.is_at_fault(row, 50), "nineteen others"
    counts.accepted(100)
    assert counts.is_at_fault(row, 100)
    assert not counts.is_at_fault(row, 101), "none as large was accepted"
    assert [row.delay, refused_times(counts, 1).delay] == [16.0, 1.0]


def test_seven_refusals_are_too_few_and_acceptances_before_the_first_do_not_count():
    counts = ClassCounts()
    for _ in range(100):
        counts.accepted(100)
    row = refused_times(counts, 8)
    assert not counts.is_at_fault(row, 0)
    for _ in range(100):
        counts.accepted(100)
    assert counts.is_at_fault(row, 0)
    assert not counts.is_at_fault(refused_times(counts, 7), 0)


def test_where_a_fifth_of_the_others_is_refused_no_row_is_at_fault():
    counts = ClassCounts()
    row = refused_times(counts, 1)
    for i in range(100):
        counts.accepted(100)
        if i % 4 == 0:
            refused_times(counts, 1)
    assert not counts.is_at_fault(refused_times(counts, 7, row), 0)


def test_refusals_of_other_rows_at_fault_do_not_count():
    counts = ClassCounts()
    bad = [refused_times(counts, 1) for _ in range(10)]
    for _ in range(190):
        counts.accepted(100)
    for _ in range(7):
        bad = [counts.refused(row) for row in bad]
    assert all(counts.is_alone(row) and counts.is_at_fault(row, 100) for row in bad)
