"""What the records of an output amount to: counters alone, however many they are.

Records are only ever added, so that what was counted once is not read again.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson

from batchrun.core.taxonomy.states import State, one_of
from batchrun.core.text.dates import seconds_of_utc, utc

_TOKENS = ("input_tokens", "output_tokens", "total_tokens")
_STATES = frozenset(state.value for state in State)
_EVER = ""


class RecentRecords:
    """How often something happened in each second, as far back as somebody wants to know."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: Counter[int] = Counter()

    def add(self, at: float) -> None:
        self._seconds[int(at)] += 1

    def between(self, since: float, until: float) -> int:
        """How often since then. What was earlier is forgotten; what is later counts once its time has come."""
        for second in [second for second in self._seconds if second < int(since)]:
            del self._seconds[second]
        return sum(count for second, count in self._seconds.items() if second <= until)


class RecordCounts:
    """Counts records. Of those that ended before `since` (ISO 8601, as in records) no time is kept."""

    def __init__(self) -> None:
        self.records = 0
        self.states: Counter[str] = Counter()
        self.codes: Counter[tuple[str, str]] = Counter()  # (state, error code) of those that did not succeed
        self.with_warnings = 0  # succeeded, with something odd about the result
        self.tokens: dict[str, int | None] = dict.fromkeys(_TOKENS)  # None while no record says a number
        self.lately = RecentRecords()
        self.since = _EVER
        self._last = ""

    @property
    def last_at(self) -> float | None:
        """When the last record was written."""
        return seconds_of_utc(self._last)

    def looks_back_to(self, since: float) -> None:
        """From here on keep the times of records that ended after `since`."""
        self.since = utc(since)

    def take(self, line: bytes) -> str | None:
        """Count the record on `line`; its row's key, or None for a line that is no record."""
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(record, dict):
            return None
        key, state = record.get("custom_id"), record.get("state")
        if not (isinstance(key, str) and isinstance(state, str)):
            return None
        self.records += 1
        self.states[one_of(state)] += 1
        if state != State.SUCCEEDED:
            self._count_error(one_of(state), record.get("error"))
        elif record.get("warnings"):
            self.with_warnings += 1
        self._count_tokens(record.get("usage"))
        finished = record.get("finished_at")
        if isinstance(finished, str):
            self._last = max(self._last, finished)
            if finished >= self.since and (at := seconds_of_utc(finished)) is not None:
                self.lately.add(at)
        return key

    def _count_error(self, state: str, error: Any) -> None:
        code = (error.get("code") or error.get("kind")) if isinstance(error, dict) else None
        if isinstance(code, str) and state in _STATES:
            self.codes[state, code] += 1

    def _count_tokens(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        tokens = self.tokens
        for name in _TOKENS:
            count = usage.get(name)
            if type(count) is int:
                tokens[name] = (tokens[name] or 0) + count
