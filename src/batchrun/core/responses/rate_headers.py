"""What `x-ratelimit-*` headers say of a service's limits, where it can be meant.

Services send them as they like: resets as Go durations (``6m0s``, ``12ms``) or bare seconds (Azure), -1 or 0 where there
is no limit or none is known, the limit of a day or of another model. What is read here is plausible and no more: whoever
uses a limit checks it against what the service accepts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_NAMES = frozenset(f"x-ratelimit-{which}-{kind}" for which in ("limit", "remaining") for kind in ("requests", "tokens"))
_LONGEST = 86_400.0 * 31
_MOST = 1e9
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?", re.ASCII)
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
    if value is None or _NUMBER.fullmatch(value.strip()) is None:
        return None
    count = float(value)
    return count if count <= _MOST else None
