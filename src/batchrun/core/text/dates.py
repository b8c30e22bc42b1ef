"""Civil time from seconds since 1970 and back, by arithmetic alone.

The standard library's ``datetime`` was declined: it brings a clock (``now``) into core, which must not
have one, and it refuses years that occur in hostile headers. The calendar formulas are Howard Hinnant's
``days_from_civil`` and ``civil_from_days`` (public domain), for the proleptic Gregorian calendar.
"""

from __future__ import annotations

import re
from functools import lru_cache

_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_UTC = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{3})Z")
_HTTP_DATE = re.compile(
    r"(?:[a-z]+,\s*)?([0-9]{1,2})[ -]([a-z]{3})[ -]([0-9]{4})\s+([0-9]{2}):([0-9]{2}):([0-9]{2})\s+gmt",
    re.IGNORECASE,
)


def utc(seconds: float) -> str:
    """The moment as ISO 8601 in UTC with milliseconds: ``2026-11-20T08:34:18.120Z``."""
    minutes, millis = divmod(round(seconds * 1000), 60_000)
    return f"{_minute(minutes)}:{millis // 1000:02}.{millis % 1000:03}Z"


@lru_cache(maxsize=256)  # moments that are written together are near each other
def _minute(minutes: int) -> str:
    """Date, hour and minute, so many minutes after 1970-01-01."""
    days, rest = divmod(minutes, 1440)
    return f"{_date(days)}T{rest // 60:02}:{rest % 60:02}"


def _date(days: int) -> str:
    """The date so many days after 1970-01-01."""
    day_of_era_base = days + 719_468
    era, day_of_era = divmod(day_of_era_base, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year = year_of_era + era * 400 + (month <= 2)
    return f"{year:04}-{month:02}-{day:02}"


def seconds_of_utc(text: str) -> float | None:
    """The moment that `utc` wrote as `text`, in seconds since 1970; None for a text in another form."""
    found = _UTC.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, milli = map(int, found.groups())
    return _days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second + milli / 1000


def seconds_of_http_date(text: str) -> float | None:
    """Seconds since 1970 of an HTTP date (``Fri, 20 Nov 2026 08:34:18 GMT``); None if it is not one."""
    found = _HTTP_DATE.fullmatch(text.strip())
    if found is None:
        return None
    day, name, year, hour, minute, second = found.groups()
    if name.lower() not in _MONTHS:
        return None
    days = _days_from_civil(int(year), _MONTHS.index(name.lower()) + 1, int(day))
    return days * 86_400.0 + int(hour) * 3600 + int(minute) * 60 + int(second)


def _days_from_civil(year: int, month: int, day: int) -> int:
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468
