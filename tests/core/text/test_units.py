import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.text.readable import (
    duration,
    many,
    read_bytes,
    read_count,
    read_number,
    read_seconds,
    size,
    spelled_bytes,
    spelled_seconds,
    time_range,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("1.5s", 1.5), ("250ms", 0.25), ("5m", 300), ("5 min", 300), ("24h", 86_400), ("2D", 172_800),
        ("1h30m", 5400), (" 1h 2min 5s ", 3725), ("0", 0),
    ],
)  # fmt: skip
def test_times_are_read(text, seconds):
    assert read_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1y", "1h30", "nan", "inf", "1e3", "٣s", "9" * 30, "1s\0", "1.s"])
def test_invalid_times_are_refused(text):
    with pytest.raises(ValueError, match=r"expected a time such as 90s, 5m or 24h, got '"):
        read_seconds(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [("1000", 1000), ("500k", 512_000), ("64MiB", 64 << 20), ("64 MB", 64 << 20), ("1.5g", 3 << 29), ("7B", 7)],
)
def test_sizes_are_read(text, count):
    assert read_bytes(text) == count


@pytest.mark.parametrize("text", ["", "64 apples", "-1", "1e6", "0.5", "9" * 40, "MiB", "5i"])
def test_invalid_sizes_are_refused(text):
    with pytest.raises(ValueError, match="expected a size such as 500k or 64MiB, got '"):
        read_bytes(text)


def test_numbers_are_read():
    assert (read_count("20_000"), read_count("0")) == (20_000, 0)
    assert (read_number("0.5"), read_number("2_000_000")) == (0.5, 2_000_000.0)


@pytest.mark.parametrize("read", [read_count, read_number])
@pytest.mark.parametrize("text", ["", "-1", "1e3", "nan", "inf", "two", "_1", "٣", "1" * 20])
def test_invalid_numbers_are_refused(read, text):
    with pytest.raises(ValueError, match="such as"):
        read(text)


def test_a_count_is_whole():
    with pytest.raises(ValueError, match=r"expected a whole number such as 500, got '1\.5'"):
        read_count("1.5")


@given(st.integers(0, 10**9).map(lambda n: n / 4))
def test_a_time_survives_its_spelling(seconds):
    assert math.isclose(read_seconds(spelled_seconds(seconds)), seconds)


@given(st.integers(0, 1 << 50))
def test_a_size_survives_its_spelling(count):
    assert read_bytes(spelled_bytes(count)) == count


@pytest.mark.parametrize(("seconds", "spelled"), [(86_400.0, "24h"), (30.0, "30s"), (0.25, "0.25s"), (300.0, "5m")])
def test_times_are_spelled_as_people_do(seconds, spelled):
    assert spelled_seconds(seconds) == spelled


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"), (0.4, "0.4 s"), (2.0, "2 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min"), (725, "12 min 5 s"),
        (3599.7, "1 h"), (3725, "1 h 2 min"), (86_400, "24 h"), (273_600, "3 d 4 h"), (172_800, "2 d"),
    ],
)  # fmt: skip
def test_times_are_shown_in_two_units(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (64 << 20, "64 MiB"),
        ((1 << 30) - 1, "1 GiB"),
        (3 << 40, "3 TiB"),
    ],
)
def test_sizes_are_shown(count, shown):
    assert size(count) == shown


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (712, 931, "12 to 16 min"),
        (170, 190, "3 min"),
        (7.4, 12, "7 to 12 s"),
        (0.2, 4.6, "up to 5 s"),
        (0.1, 0.3, "1 s"),
        (20, 200, "up to 3 min"),
        (44, 58, "45 to 60 s"),
        (2000, 2600, "35 to 45 min"),
        (8300, 10_500, "2.3 to 2.9 h"),
        (30 * 3600, 40 * 3600, "30 to 40 h"),
        (2 * 86_400, 3.5 * 86_400, "2 to 3.5 d"),
        (725, 725, "12 min 5 s"),
    ],
)
def test_a_range_of_time_is_shown(low, high, shown):
    assert time_range(low, high) == shown


def test_nouns_agree():
    assert (many(1, "row"), many(1204, "row"), many(0, "try", "tries")) == ("1 row", "1,204 rows", "0 tries")
