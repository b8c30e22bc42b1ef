"""What a client really did, counted by the service.

Answers what a test or a person wants to know of a batch: was a row sent twice, how many jobs were open
at once, how often was each polled. A POST counts when it arrives, whatever becomes of it, and even if
no client waits for its response.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections import Counter
from typing import Any

from batchrun.simulator.distributions import row_of, row_of_name

# Upper bounds, in seconds, of the gaps between two polls of one job.
GAP_BOUNDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, math.inf)
_MAX_ROWS_SHOWN = 1000


class MeasuredRate:
    """Events of the current second, and of the busiest."""

    def __init__(self) -> None:
        self._second = 0
        self._count = 0
        self.peak = 0

    def count(self, now: float) -> None:
        second = int(now)
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        self.peak = max(self.peak, self._count)


class RequestStatistics:
    """Counts of everything since the start; `to_dict()` has all but the rows."""

    def __init__(self) -> None:
        self.posts = 0
        self.jobs = 0
        self.polls = 0
        self.cancels = 0
        self.deletes = 0
        self.answers: Counter[int] = Counter()  # by HTTP status; 0: the connection was closed without one
        self.refusals: Counter[str] = Counter()  # submits refused, by code or status
        self.posts_in_flight = 0
        self.peak_posts_in_flight = 0
        self.peak_open_jobs = 0
        self.gaps = [0] * len(GAP_BOUNDS)
        self.least_gap = math.inf
        self.most_gap = 0.0
        self._submit_rate = MeasuredRate()
        self._poll_rate = MeasuredRate()
        self._turns: dict[int, int] = {}  # row → POSTs that were neither limited nor met an outage
        self._refused_early: dict[int, int] = {}  # row → the other POSTs
        self._without_job: dict[int, int] = {}  # row → POSTs in `_turns` that created nothing
        self._names: dict[int, str] = {}
        self._ends: list[float] = []  # heap: ends of open jobs
        self._cancelled_ends: Counter[float] = Counter()  # entries of `_ends` that no longer count
        self._open = 0

    # What is counted

    def post(self, now: float) -> None:
        self.posts += 1
        self._submit_rate.count(now)

    def refused_early(self, row: int, name: str | None) -> None:
        self._refused_early[row] = self._refused_early.get(row, 0) + 1
        self._name(row, name)

    def sent_again(self, row: int, name: str | None) -> None:
        """Count a POST of `row` that was answered with the job of an earlier one: it is no turn."""
        self.refused_early(row, name)

    def turn(self, row: int, name: str | None) -> int:
        """Count a POST of `row` that was not refused early; its number, from 1."""
        turn = self._turns[row] = self._turns.get(row, 0) + 1
        self._name(row, name)
        return turn

    def turns_of(self, row: int) -> int:
        return self._turns.get(row, 0)

    def without_job(self, row: int) -> None:
        self._without_job[row] = self._without_job.get(row, 0) + 1

    def opened(self, now: float, end: float) -> None:
        """Count a job that was created and ends at `end`."""
        self.jobs += 1
        self.adopted(now, end)

    def adopted(self, now: float, end: float) -> None:
        """Count a job of an earlier process as open."""
        self._settle(now)
        if end > now:
            self._open += 1
            heapq.heappush(self._ends, end)
            self.peak_open_jobs = max(self.peak_open_jobs, self._open)

    def moved(self, now: float, before: float, end: float) -> None:
        """Move the end of an open job from `before` to `end`: it was cancelled or deleted."""
        self._settle(now)
        if before <= now or before == end:
            return
        self._cancelled_ends[before] += 1
        if end > now:
            heapq.heappush(self._ends, end)
        else:
            self._open -= 1

    def poll(self, now: float, gap: float | None) -> None:
        self.polls += 1
        self._poll_rate.count(now)
        if gap is not None:
            self.gaps[bisect_left(GAP_BOUNDS, gap)] += 1
            self.least_gap = min(self.least_gap, gap)
            self.most_gap = max(self.most_gap, gap)

    def post_begins(self) -> None:
        self.posts_in_flight += 1
        self.peak_posts_in_flight = max(self.peak_posts_in_flight, self.posts_in_flight)

    def post_ends(self) -> None:
        self.posts_in_flight -= 1

    # What can be read

    def posts_of(self, row: str | dict[str, Any]) -> int:
        """POSTs of a row, by the custom_id in its body's metadata or by its body."""
        number = self._number(row)
        return self._turns.get(number, 0) + self._refused_early.get(number, 0)

    def jobs_of(self, row: str | dict[str, Any]) -> int:
        """Jobs created for a row, including those that ended at the submit."""
        number = self._number(row)
        return self._turns.get(number, 0) - self._without_job.get(number, 0)

    def open_jobs(self, now: float) -> int:
        self._settle(now)
        return self._open

    @property
    def rows(self) -> int:
        return len(self._turns.keys() | self._refused_early.keys())

    def posts_per_row(self) -> dict[str, int]:
        """POSTs of every row, by custom_id or ``body-`` + hash."""
        rows = self._turns.keys() | self._refused_early.keys()
        return {self._label(row): self._turns.get(row, 0) + self._refused_early.get(row, 0) for row in rows}

    def jobs_per_row(self) -> dict[str, int]:
        """Jobs created for every row, named as in `posts_per_row`; rows sent twice have more than one."""
        return {self._label(row): turns - self._without_job.get(row, 0) for row, turns in self._turns.items()}

    def to_dict(self, now: float) -> dict[str, Any]:
        """All counts as JSON; `rows_with_more_jobs` names the first thousand rows that got more than one job."""
        twice = {row: jobs for row, jobs in self.jobs_per_row().items() if jobs > 1}
        return {
            "posts": self.posts,
            "rows": self.rows,
            "jobs": self.jobs,
            "rows_with_more_jobs_count": len(twice),
            "rows_with_more_jobs": dict(list(twice.items())[:_MAX_ROWS_SHOWN]),
            "open_jobs": self.open_jobs(now),
            "peak_open_jobs": self.peak_open_jobs,
            "posts_in_flight": self.posts_in_flight,
            "peak_posts_in_flight": self.peak_posts_in_flight,
            "polls": self.polls,
            "cancels": self.cancels,
            "deletes": self.deletes,
            "peak_submits_per_second": self._submit_rate.peak,
            "peak_polls_per_second": self._poll_rate.peak,
            "refusals": dict(self.refusals),
            "answers": {str(status): count for status, count in sorted(self.answers.items())},
            "poll_gaps": {
                "least": None if math.isinf(self.least_gap) else round(self.least_gap, 6),
                "most": round(self.most_gap, 6) if sum(self.gaps) else None,
                "up_to": {f"{bound:g}": count for bound, count in zip(GAP_BOUNDS, self.gaps, strict=True)},
            },
        }

    def summary(self, now: float) -> str:
        """One line for a person."""
        twice = sum(turns - self._without_job.get(row, 0) > 1 for row, turns in self._turns.items())
        again = f" ({twice:,} of them more than one job)" if twice else ""
        return (
            f"{self.posts:,} submits of {self.rows:,} rows{again}, {self.jobs:,} jobs ({self.open_jobs(now):,} open, "
            f"at most {self.peak_open_jobs:,} at once), {self.polls:,} polls (at most {self._poll_rate.peak:,} per "
            f"second), {self.cancels:,} cancels"
        )

    def _settle(self, now: float) -> None:
        while self._ends and self._ends[0] <= now:
            end = heapq.heappop(self._ends)
            if self._cancelled_ends.get(end):
                self._cancelled_ends[end] -= 1
                if not self._cancelled_ends[end]:
                    del self._cancelled_ends[end]
            else:
                self._open -= 1

    def _name(self, row: int, name: str | None) -> None:
        if name is not None:
            self._names[row] = name

    def _label(self, row: int) -> str:
        return self._names.get(row) or f"body-{row:016x}"

    @staticmethod
    def _number(row: str | dict[str, Any]) -> int:
        return row_of_name(row) if isinstance(row, str) else row_of(row)[0]
