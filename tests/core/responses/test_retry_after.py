import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.responses.retry_after import MAX_RETRY_AFTER, retry_after
from batchrun.core.text.readable import seconds_of_http_date

WALL = seconds_of_http_date("Fri, 20 Nov 2026 08:00:00 GMT")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0.25 "}, 0.25),
        ({"retry-after": "7\x1c"}, 7.0),  # float alone takes no separators around an ASCII number
        ({"retry-after-ms": "\x1f1500"}, 1.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "20", "retry-after": "7"}, 0.02),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Fri, 20 Nov 2026 08:00:30 GMT"}, 30.0),
        ({"retry-after": "Fri, 20 Nov 2026 09:00:30 GMT", "date": "Fri, 20 Nov 2026 09:00:00 GMT"}, 30.0),
        ({"retry-after": "3600"}, MAX_RETRY_AFTER),
    ],
)
def test_what_is_believed(headers, seconds):
    assert retry_after(headers, WALL) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    ["-1", "0", "nan", "inf", "Infinity", "1e21", "1e5", "99999999999999999999", "3601", "", "٣٠", "１２", "0x10", "1_0",
     "Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 20 Nov 2020 08:00:00 GMT", "Fri, 99 Foo 2026 08:00:00 GMT", "tomorrow"],
)  # fmt: skip
def test_s21_what_is_not_believed(value):
    assert retry_after({"retry-after": value}, WALL) is None
    assert retry_after({"retry-after-ms": value if value != "3601" else "3600001"}, WALL) in (None, 0.0)


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Rate limit reached. Please try again in 1.2s. Visit …", 1.2),
        ("try again in 20ms", 0.02),
        ("Please retry after 6 seconds.", 6.0),
        ("try again in 2 minutes", 120.0),
        ("try again in 999999s", None),
        ("try again later", None),
    ],
)
def test_a_delay_may_be_in_the_message(message, seconds):
    assert retry_after({}, WALL, message) == (None if seconds is None else pytest.approx(seconds))
    assert retry_after({"retry-after": "5"}, WALL, message) == 5.0


@given(
    st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "date"]), st.text()),
    st.floats(0, 1e12),
    st.text(),
)
def test_never_negative_never_beyond_an_hour(headers, wall, message):
    asked = retry_after(headers, wall, message)
    assert asked is None or 0 < asked <= MAX_RETRY_AFTER
