"""The two files of a batch, followed while they grow, by whoever only wants its status.

Of the output, counters alone are kept, however many records there are. Of the journal, the rows without a record: a row
whose record is known is forgotten, so that memory depends on what is in flight and not on what is done.

`done` entries are trusted for that, because comparing a million keys would be too slow. They are wrong where somebody
shortened the output: `trusts_too_much` detects it, and a follower that is started again as `sceptical` forgets a row
only when its record was read.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import orjson

from batchrun.core.journal.fold import Folding, JournalState
from batchrun.core.taxonomy.states import State, interned_state
from batchrun.core.text.dates import seconds_of_utc, utc

_TOKENS = ("input_tokens", "output_tokens", "total_tokens")
_STATES = frozenset(state.value for state in State)
_EVER = ""


class CountsPerSecond:
    """How often something happened in each second, as far back as is still asked for."""

    def __init__(self) -> None:
        self._seconds: Counter[int] = Counter()

    def add(self, at: float) -> None:
        self._seconds[int(at)] += 1

    def between(self, since: float, until: float) -> int:
        """The count between the two times. What was earlier is forgotten."""
        for second in [second for second in self._seconds if second < int(since)]:
            del self._seconds[second]
        return sum(count for second, count in self._seconds.items() if second <= until)


class RecordCounts:
    """Counts of records. The times of those that ended before `since` (ISO 8601, as in records) are not kept."""

    def __init__(self) -> None:
        self.records = 0
        self.states: Counter[str] = Counter()
        self.codes: Counter[tuple[str, str]] = Counter()  # (state, error code) of those that did not succeed
        self.with_warnings = 0  # succeeded, with something odd about the result
        self.tokens: dict[str, int | None] = dict.fromkeys(_TOKENS)  # None until a record has a number
        self.recent = CountsPerSecond()
        self.since = _EVER
        self._last = ""

    @property
    def last_at(self) -> float | None:
        """When the last record was written."""
        return seconds_of_utc(self._last)

    def keep_times_since(self, since: float) -> None:
        """From now on keep the times of records that ended after `since`."""
        self.since = utc(since)

    def take(self, line: bytes) -> str | None:
        """Count the record on `line`; return its row's key, or None if the line is not a record."""
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
        self.states[interned_state(state)] += 1
        if state != State.SUCCEEDED:
            self._count_error(interned_state(state), record.get("error"))
        elif record.get("warnings"):
            self.with_warnings += 1
        self._count_tokens(record.get("usage"))
        finished = record.get("finished_at")
        if isinstance(finished, str):
            self._last = max(self._last, finished)
            if finished >= self.since and (at := seconds_of_utc(finished)) is not None:
                self.recent.add(at)
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


class JournalFollower:
    """Takes the lines of a journal. The times of what happened before `since` are not kept."""

    def __init__(self, *, sceptical: bool = False) -> None:
        self.submits, self.refused, self.lost = CountsPerSecond(), CountsPerSecond(), CountsPerSecond()
        self._folding = Folding(
            told={
                "started": self._moment,
                "intent": partial(self._count, self.submits),
                "submitted": self._moment,
                "ended": self._moment,
                "cleared": partial(self._count, self.refused),
                "unconfirmed": partial(self._count, self.lost),
                "cancelling": self._moment,
                "done": self._done,
            }
        )
        self.take = self._folding.take
        self.last_at = 0.0
        self.since = 0.0
        self._ends: dict[int, int] = {}  # of a generation: where its last record ends
        self._seen: set[str] | None = set() if sceptical else None

    @property
    def fold(self) -> JournalState:
        return self._folding.fold

    @property
    def records_end(self) -> int:
        """The output was on the disk at least up to here."""
        return self._ends.get(self.fold.gen, 0)

    def trusts_too_much(self, output_size: int) -> bool:
        """Whether records that it took for written are missing from an output of this size."""
        if self._seen is not None or self.fold.rewrite is not None:  # between two generations nothing fits
            return False
        return self.records_end > output_size or any(gen != self.fold.gen for gen in self._ends)

    def recorded(self, key: str) -> None:
        """The row's record was read in the output."""
        self.fold.trails.pop(key, None)
        if self._seen is not None:
            self._seen.add(key)

    def _moment(self, values: dict[str, Any]) -> None:
        self.last_at = max(self.last_at, values["at"])

    def _count(self, counts: CountsPerSecond, values: dict[str, Any]) -> None:
        at = values["at"]
        self.last_at = max(self.last_at, at)
        if at >= self.since:
            counts.add(at)

    def _done(self, values: dict[str, Any]) -> None:
        gen, end = values["gen"], values["offset"] + values["length"]
        self._ends[gen] = max(self._ends.get(gen, 0), end)
        if self._seen is None or values["key"] in self._seen:
            self.fold.trails.pop(values["key"], None)
