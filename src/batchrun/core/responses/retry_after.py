"""How long to wait: as the service asks, within limits, or with backoff and jitter."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

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


# --- What `x-ratelimit-*` headers say of a service's limits, where it can be meant ---
#
# Services send them as they like: resets as Go durations (``6m0s``, ``12ms``) or bare seconds (Azure), -1 or 0 where there
# is no limit or none is known, the limit of a day or of another model. What is read here is plausible and no more: whoever
# uses a limit checks it against what the service accepts.


_NAMES = frozenset(f"x-ratelimit-{which}-{kind}" for which in ("limit", "remaining") for kind in ("requests", "tokens"))
_LONGEST = 86_400.0 * 31
_MOST = 1e9
_GO_DURATION = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)s)?", re.ASCII)
_MILLISECONDS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)ms", re.ASCII)


class LimitShown(NamedTuple):
    """One limit: units per minute, how many are left, and seconds until all are back. None: not said, or absurd."""

    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None


class RateHeaders(NamedTuple):
    """The limits that a response shows."""

    requests: LimitShown = LimitShown()
    tokens: LimitShown = LimitShown()


def rate_headers(headers: Mapping[str, str]) -> RateHeaders | None:
    """The limits in `headers`, whose names are in lower case; None where there are none."""
    if _NAMES.isdisjoint(headers):
        return None
    return RateHeaders(_shown(headers, "requests"), _shown(headers, "tokens"))


def limits_shown(headers: Mapping[str, str]) -> RateHeaders | None:
    """The limits alone, which are the same in most responses: one value for equal ones, at little cost."""
    requests, tokens = headers.get("x-ratelimit-limit-requests"), headers.get("x-ratelimit-limit-tokens")
    return None if requests is None and tokens is None else _limits(requests, tokens)


@lru_cache(maxsize=1_000)
def _limits(requests: str | None, tokens: str | None) -> RateHeaders:
    return RateHeaders(LimitShown(_count(requests) or None), LimitShown(_count(tokens) or None))


def go_seconds(value: str) -> float | None:
    """``6m0s``, ``1.2s``, ``12ms`` or a number of seconds; None for anything else, and beyond a month."""
    value = value.strip()
    if _NUMBER.fullmatch(value) is not None:
        seconds = float(value)
    elif (millis := _MILLISECONDS.fullmatch(value)) is not None:
        seconds = float(millis[1]) / 1000
    elif value and (spelled := _GO_DURATION.fullmatch(value)) is not None:
        seconds = sum(float(part or 0) * unit for part, unit in zip(spelled.groups(), (3600, 60, 1), strict=True))
    else:
        return None
    return seconds if seconds <= _LONGEST else None


def _shown(headers: Mapping[str, str], kind: str) -> LimitShown:
    limit = _count(headers.get(f"x-ratelimit-limit-{kind}"))
    remaining = _count(headers.get(f"x-ratelimit-remaining-{kind}"))
    reset = headers.get(f"x-ratelimit-reset-{kind}")
    if limit == 0:
        limit = None
    if limit is not None and remaining is not None and remaining > limit:
        remaining = None
    return LimitShown(limit, remaining, None if reset is None else go_seconds(reset))


def _count(value: str | None) -> float | None:
    number = None if value is None else _NUMBER.fullmatch(value.strip())
    if number is None:
        return None
    count = float(number[0])
    return count if count <= _MOST else None
