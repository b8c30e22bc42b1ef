"""What people read and write: text from outside, times, sizes, counts, dates, and messages with options in them.

Text from outside is made safe to show: one line, nothing hidden, nothing that a terminal obeys; or safe in a path.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TypeAlias

# Besides control characters (Cc): format characters, among them the bidi overrides (Cf), line and
# paragraph separators (Zl, Zp), lone surrogates (Cs), unassigned and private ones (Cn, Co).
_HIDDEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Cn", "Co"})


def visible(text: str, limit: int = 500) -> str:
    """`text` on one line of at most `limit` characters, with every character that hides shown as an escape.

    >>> visible("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    cut = text if len(text) <= limit else text[: limit - 1]
    shown = cut if cut.isascii() and cut.isprintable() else "".join(map(_escaped, cut))
    return shown if len(text) <= limit else shown + "…"


# API keys of OpenAI and of those who follow it, and JSON web tokens, wherever they are in a text.
_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-[A-Za-z0-9_-]{12,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?)"
)
_KEY_ALONE = re.compile(
    r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_-]{24,}"
)  # any other: a value that is nothing else
_NOT_SHOWN = "[not shown: it may be an API key]"


def without_keys(text: str) -> str:
    """`text` without what looks like an API key: a value that was set where none belongs.

    >>> without_keys("expected a number, got 'sk-proj-0123456789ab'")
    "expected a number, got '[not shown: it may be an API key]'"
    """
    return _KEY.sub(_NOT_SHOWN, text)


def _escaped(char: str) -> str:
    if unicodedata.category(char) not in _HIDDEN:
        return char
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def cut_to(text: str, columns: int) -> str:
    """`text` as `visible` shows it, cut to so many columns of a terminal."""
    shown = visible(text, columns)
    if sum(map(_columns, shown)) <= columns:
        return shown
    kept, used = "", 1  # the column of the ellipsis
    for char in shown:
        used += _columns(char)
        if used > columns:
            break
        kept += char
    return kept + "…"


def _columns(char: str) -> int:
    if char.isascii():
        return 1
    return 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1


# --- Times, sizes and numbers as people write them, and back ---
#
# ``read_…`` read what a person typed or raise ValueError with what was expected; ``spelled_…`` write a value so
# that reading it gives the same value again; ``duration`` and ``size`` are for reading only, and round.


_TIME_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s?(ms|s|m|min|h|d)?", re.IGNORECASE)
_TIMES = re.compile(rf"(?:{_TIME.pattern}\s?)+", re.IGNORECASE)
_LONGEST = 1e10  # seconds, some three hundred years: what a clock can still add

_SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s?([kmgt]?)(?:i?b)?", re.IGNORECASE)
_LARGEST = 1 << 60

_NUMBER = re.compile(r"[0-9][0-9_]*(?:\.[0-9]+)?")
_COUNT = re.compile(r"[0-9][0-9_]*")


def read_seconds(text: str) -> float:
    """``90``, ``1.5s``, ``250ms``, ``5m``, ``1h30m`` or ``2d`` in seconds. A bare number is seconds."""
    whole = text.strip()
    if _TIMES.fullmatch(whole):
        parts = [(found[1], (found[2] or "").lower()) for found in _TIME.finditer(whole)]
        if len(parts) == 1 or all(unit for _, unit in parts):
            seconds = math.fsum(float(number) * _TIME_UNITS[unit or "s"] for number, unit in parts)
            if seconds <= _LONGEST:
                return seconds
    raise ValueError(f"expected a time such as 90s, 5m or 24h, got {value_shown(text)}")


def read_bytes(text: str) -> int:
    """``1000``, ``500k`` or ``64MiB`` in bytes. All units are powers of 1024, as of memory: 64M is 64MB is 64MiB."""
    found = _SIZE.fullmatch(text.strip())
    if found is not None:
        size = float(found[1]) * _SIZE_UNITS[found[2].lower()]
        if size <= _LARGEST and size == int(size):
            return int(size)
    raise ValueError(f"expected a size such as 500k or 64MiB, got {value_shown(text)}")


def read_count(text: str) -> int:
    """A whole number, 0 or more; ``20_000`` too."""
    if _COUNT.fullmatch(text.strip()) and len(text) < 20:
        return int(text.strip().replace("_", ""))
    raise ValueError(f"expected a whole number such as 500, got {value_shown(text)}")


def read_number(text: str) -> float:
    """A number, 0 or more; ``2_000_000`` too."""
    if _NUMBER.fullmatch(text.strip()) and len(text) < 20:
        return float(text.strip().replace("_", ""))
    raise ValueError(f"expected a number such as 600 or 0.5, got {value_shown(text)}")


def spelled_seconds(seconds: float) -> str:
    """A time as it can be typed: ``24h``, ``5m``, ``30s``, ``0.25s``."""
    for unit in ("h", "m"):
        if seconds >= _TIME_UNITS[unit] and seconds % _TIME_UNITS[unit] == 0:
            return f"{seconds / _TIME_UNITS[unit]:.0f}{unit}"
    return f"{seconds!r}s".replace(".0s", "s")


def spelled_bytes(count: int) -> str:
    """A size as it can be typed: ``64MiB``, ``1000``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        scale = _SIZE_UNITS[unit[0].lower()]
        if count >= scale and count % scale == 0:
            return f"{count // scale}{unit}"
    return str(count)


def duration(seconds: float) -> str:
    """A time to read, in its two largest units: ``0.4 s``, ``48 s``, ``12 min 5 s``, ``1 h 2 min``, ``3 d 4 h``."""
    if seconds < 9.95 and round(seconds, 1) != round(seconds):
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole, 60, "min", 1, "s")
    if whole < 48 * 3600:
        return _two(whole, 3600, "h", 60, "min")
    return _two(whole, 86_400, "d", 3600, "h")


def time_range(low: float, high: float) -> str:
    """A time that is known only about, to read: ``12 to 15 min``, ``up to 5 s``; ``3 min`` where both round to the same."""
    if low == high:
        return duration(low)
    unit, name, tenths = next(one[1:] for one in _RANGE_UNITS if high < one[0])
    first, last = (_rounded(seconds / unit, tenths=tenths) for seconds in (low, high))
    if last == "0":
        return f"1 {name}"
    if first == last:
        return f"{first} {name}"
    return f"up to {last} {name}" if first == "0" else f"{first} to {last} {name}"


_RANGE_UNITS = (
    (90.0, 1.0, "s", False), (7200.0, 60.0, "min", False), (48 * 3600.0, 3600.0, "h", True), (math.inf, 86_400.0, "d", True),
)  # fmt: skip


def _rounded(count: float, *, tenths: bool) -> str:
    if tenths and count < 9.95:
        return f"{count:.1f}".removesuffix(".0")
    return f"{5 * round(count / 5) if count >= 30 else round(count):,}"


def _two(whole: int, large: int, large_name: str, small: int, small_name: str) -> str:
    count, rest = divmod(whole, large)
    return f"{count:,} {large_name}" + (f" {rest // small} {small_name}" if rest // small else "")


def size(count: int) -> str:
    """A size to read: ``512 B``, ``1.5 KiB``, ``64 MiB``."""
    if count < 1024:
        return f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1023.95:
            return f"{amount:.1f} {unit}".replace(".0 ", " ")
    return f"{amount / 1024:,.1f} TiB".replace(".0 ", " ")


def many(count: int, noun: str, nouns: str | None = None) -> str:
    """``1 row``, ``1,204 rows``."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def value_shown(text: str) -> str:
    """A value that cannot be used, in quotes; not shown where it may be an API key."""
    return _NOT_SHOWN if _KEY_ALONE.fullmatch(text.strip()) else without_keys(repr(visible(text, 60)))


# --- Civil time from seconds since 1970 and back, by arithmetic alone ---
#
# The standard library's ``datetime`` was declined: it brings a clock (``now``) into core, which must not
# have one, and it refuses years that occur in hostile headers. The calendar formulas are Howard Hinnant's
# ``days_from_civil`` and ``civil_from_days`` (public domain), for the proleptic Gregorian calendar.


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


# --- Messages with options in them, which the command and Python spell differently ---
#
# A `Text` is a string, or a tuple of strings with options and actions between: `("raise ", Option("max_row"))`. `str`
# of a part is the command's spelling, which the journal and the records have too; Python's is in `api.wording`.


PREFIX = "BATCHRUN_"


@dataclass(frozen=True, slots=True)
class Option:
    """A setting, or another option of a run, by its name in Python; `value` as it would be typed in a shell."""

    name: str
    value: str | None = None

    def __str__(self) -> str:
        return flag(self.name) if self.value is None else f"{flag(self.name)} {self.value}"


class Action(Enum):
    """What to do, where it is no option."""

    RUN_AGAIN = "run the same command again"
    CANCEL_ALL = "`batchrun cancel --all`"

    def __str__(self) -> str:
        return self.value


Part: TypeAlias = str | Option | Action
Text: TypeAlias = Part | tuple[Part, ...]


def flag(name: str) -> str:
    """``poll_max`` as the command spells it: ``--poll-max``."""
    return "-o" if name == "out" else "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """``poll_max`` as the environment spells it: ``BATCHRUN_POLL_MAX``."""
    return PREFIX + name.upper()


def worded(text: Text, spelled: Callable[[Part], str] = str) -> str:
    """`text` as one string, each part as `spelled`."""
    return "".join(map(spelled, parts(text)))


def parts(text: Text) -> tuple[Part, ...]:
    return text if isinstance(text, tuple) else (text,)


def as_given(text: Text, variables: Collection[str]) -> tuple[Part, ...]:
    """`text` with the options in `variables` named as the variables of the environment that gave them."""

    def given(part: Part) -> Part:
        if not isinstance(part, Option) or part.name not in variables:
            return part
        return variable(part.name) + ("" if part.value is None else f"={part.value}")

    return tuple(map(given, parts(text)))
