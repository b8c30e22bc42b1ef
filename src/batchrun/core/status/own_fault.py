"""Whether a service fails its jobs by its own fault, as the files of a batch show it: what its run then does about it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from batchrun.core.limits.breaker import NOT_COUNTED, OPENS, OWN_FAULT, WINDOW
from batchrun.core.text.readable import seconds_of_utc


@dataclass(frozen=True, slots=True)
class FailingJobs:
    """Of the last `jobs` that ended, `failed` did so by the service's own fault, the first of them `since`."""

    failed: int
    jobs: int
    since: float  # seconds since 1970
    code: str


class _End(NamedTuple):
    at: float | str  # in records ISO 8601
    code: str | None  # None where it did not fail so


class EndedJobs:
    """The last jobs that ended, of one file: of a row that failed so the first attempt alone."""

    def __init__(self) -> None:
        self._ends: deque[_End] = deque(maxlen=WINDOW)

    def add(self, at: float | str, state: str, code: str | None, attempt: int) -> None:
        if state in NOT_COUNTED:
            return
        if state not in OWN_FAULT:
            self._ends.append(_End(at, None))
        elif attempt == 1:
            self._ends.append(_End(at, code or state))

    def take(self, record: dict[str, Any], finished: str, state: str) -> None:
        """Add the job of a record."""
        error, retries = record.get("error"), record.get("retry_count")
        code = error.get("code") if isinstance(error, dict) else None
        attempt = retries + 1 if type(retries) is int else 1
        self.add(finished, state, code if isinstance(code, str) else None, attempt)

    def since(self, begun: float) -> Iterable[tuple[float, str | None]]:
        """Times and codes of those that ended since then."""
        for at, code in self._ends:
            seconds = seconds_of_utc(at) if isinstance(at, str) else at
            if seconds is not None and seconds >= begun:
                yield seconds, code


def failing_jobs(files: Iterable[EndedJobs], begun: float) -> FailingJobs | None:
    """What there is to tell of the jobs that ended since `begun`; None where fewer than half of the last failed so."""
    ends = sorted((end for one in files for end in one.since(begun)), key=lambda end: end[0])[-WINDOW:]
    failed = [(at, code) for at, code in ends if code is not None]
    if len(failed) < OPENS:
        return None
    at, code = failed[0]
    return FailingJobs(len(failed), len(ends), at, code)
