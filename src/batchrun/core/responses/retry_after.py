"""How long to wait: as the service asks, within limits, or with backoff and jitter."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from batchrun.core.text.readable import seconds_of_http_date

MAX_RETRY_AFTER = 3600.0

_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?", re.ASCII)
_DELAY_IN_TEXT = re.compile(
    r"(?:try again|retry) (?:in|after) ([0-9]{1,6}(?:\.[0-9]{1,6})?) ?(ms|milli|s|sec|m\b|min)",
    re.IGNORECASE | re.ASCII,
)
_UNIT = {"ms": 0.001, "milli": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0}  # fmt: skip


def retry_after(headers: Mapping[str, str], wall: float, message: str = "") -> float | None:
    """Seconds that the service asks us to wait; None without a plausible request.

    `retry-after-ms` outranks `retry-after` (seconds or an HTTP date), which outranks a delay named in the
    error's `message`. Negative, infinite and past values, and all beyond an hour, are ignored.
    `headers` has lower-case names; `wall` is the time of day, for a response without a date of its own.
    """
    asked = milliseconds(headers.get("retry-after-ms"))
    if asked is None and (value := headers.get("retry-after")) is not None:
        asked = _seconds(value)
        if asked is None and (moment := seconds_of_http_date(value)) is not None:
            theirs = seconds_of_http_date(headers.get("date", ""))
            asked = moment - (wall if theirs is None else theirs)
    if asked is None and (named := _DELAY_IN_TEXT.search(message)):
        asked = float(named[1]) * _UNIT[named[2].lower()]
    return asked if asked is not None and 0 < asked <= MAX_RETRY_AFTER else None


def milliseconds(value: str | None) -> float | None:
    """A header in milliseconds, in seconds; None for what is not a plain number."""
    seconds = _seconds(value)
    return None if seconds is None else seconds / 1000


def _seconds(value: str | None) -> float | None:
    number = None if value is None else _NUMBER.fullmatch(value.strip())
    if number is None:
        return None
    seconds = float(number[0])
    return seconds if math.isfinite(seconds) else None


def full_jitter(failures: int, chance: float, *, first: float = 1.0, cap: float = 60.0) -> float:
    """The delay after the `failures`-th successive failure: chance × min(cap, first × 2^(failures - 1)) seconds."""
    return chance * min(cap, first * 2.0 ** min(failures - 1, 30))


def floor_with_jitter(asked: float, chance: float) -> float:
    """`asked` seconds and up to a quarter (at most 15 s) more, so that not all rows are sent again at once."""
    return asked + chance * min(asked * 0.25, 15.0)
