"""Headers of rate limits: what can be meant is read, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.limits.rate import limit_refused
from batchrun.core.responses.retry_after import LimitShown, RateHeaders, go_seconds, rate_headers


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("6m0s", 360.0), ("1s", 1.0), ("12ms", 0.012), ("1.5s", 1.5), ("1h2m3s", 3723.0), ("20m", 1200.0), ("7.66s", 7.66),
        ("60", 60.0), ("0", 0.0), ("0.25", 0.25), (" 1s ", 1.0), ("2m59.56s", 179.56),
        ("-1", None), ("", None), ("soon", None), ("1e9", None), ("nan", None), ("inf", None), ("9999999999s", None),
        ("99999999", None), ("1s2m", None), ("٣s", None),
    ],
)  # fmt: skip
def test_a_reset_is_a_go_duration_or_a_number_of_seconds(value, seconds):
    assert go_seconds(value) == (None if seconds is None else pytest.approx(seconds))


def shown(**headers):
    return rate_headers({name.replace("_", "-"): value for name, value in headers.items()})


def test_what_a_service_shows_of_its_limits():
    found = shown(
        x_ratelimit_limit_requests="3000", x_ratelimit_remaining_requests="2999", x_ratelimit_reset_requests="20ms",
        x_ratelimit_limit_tokens="40000", x_ratelimit_remaining_tokens="0", x_ratelimit_reset_tokens="6m0s",
    )  # fmt: skip
    assert found == RateHeaders(LimitShown(3000, 2999, 0.02), LimitShown(40_000, 0, 360.0))


@pytest.mark.parametrize("value", ["-1", "0", "1e9", "99999999999", "many", "", "nan", "3,000"])
def test_a_limit_that_cannot_be_meant_is_none(value):
    assert shown(x_ratelimit_limit_requests=value).requests.limit is None


def test_what_stands_around_a_number_is_no_part_of_it():
    assert shown(x_ratelimit_limit_requests=" 30\x1f").requests.limit == 30


def test_more_left_than_the_limit_is_none_left_to_say():
    found = shown(x_ratelimit_limit_requests="10", x_ratelimit_remaining_requests="11")
    assert found.requests == LimitShown(10, None, None)


def test_without_such_headers_there_is_nothing():
    assert rate_headers({"content-type": "application/json"}) is None


@given(st.text(), st.text(), st.text())
def test_no_header_makes_it_raise(limit, remaining, reset):
    shown(x_ratelimit_limit_tokens=limit, x_ratelimit_remaining_tokens=remaining, x_ratelimit_reset_tokens=reset)


NONE_LEFT, SOME_LEFT = LimitShown(10, 0, 1.0), LimitShown(10, 5, 1.0)


@pytest.mark.parametrize(
    ("type_", "message", "headers", "kind"),
    [
        ("tokens", "Rate limit reached", None, "tokens"),
        ("requests", "Rate limit reached", None, "requests"),
        (None, "Rate limit reached for gpt-5 on tokens per min (TPM): Limit 30000, Used 30000", None, "tokens"),
        (None, "Rate limit reached for gpt-5 on requests per min (RPM): Limit 500", None, "requests"),
        (None, "Rate limit reached", RateHeaders(NONE_LEFT, SOME_LEFT), "requests"),
        (None, "Rate limit reached", RateHeaders(SOME_LEFT, NONE_LEFT), "tokens"),
        (None, "lower --rpm or --tpm", RateHeaders(NONE_LEFT, NONE_LEFT), None),
        (None, "Rate limit reached", None, None),
    ],
)
def test_which_limit_refused_it(type_, message, headers, kind):
    assert limit_refused(type_, message, headers) == kind
