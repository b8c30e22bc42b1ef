from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.text.readable import seconds_of_http_date, utc

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.integers(-62_000_000_000_000, 253_402_300_799_999))
def test_utc_agrees_with_datetime(millis):
    moment = EPOCH + timedelta(milliseconds=millis)
    assert utc(millis / 1000) == moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").rjust(24, "0")


@given(st.datetimes(min_value=datetime(1000, 1, 1), max_value=datetime(9999, 12, 31)))
def test_http_dates_agree_with_datetime(moment):
    moment = moment.replace(tzinfo=UTC, microsecond=0)
    assert seconds_of_http_date(format_datetime(moment, usegmt=True)) == (moment - EPOCH).total_seconds()


@given(st.text())
def test_no_text_is_refused_with_an_exception(text):
    assert seconds_of_http_date(text) is None or "gmt" in text.lower()
