"""The runner's own pacing on virtual time: jobs are polled when it says so, and it learns from them meanwhile.

As in core/engine/poll_times.py, which it mirrors: the places are always full, each poll is answered at once, what was
learned is refreshed once a second, and waiting jobs are planned again where that says so. There is no limit of polls per
second, and no end of the batch: measure no job that was submitted when no other waited any more.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from heapq import heappop, heappush
from math import floor

from batchrun.core.pacing.pacing import Pacing

PLACES = 500
_AT_FIRST, _LATER, _SOON = 0.005, 0.05, 1000
"""Long jobs are refreshed less often to save time: each such share of the mean duration, before and after so many jobs."""


def simulate(
    durations: Sequence[float],
    pacing: Pacing,
    *,
    told: bool,
    mean: float,
    queued: Sequence[float] | None = None,
) -> list[tuple[int, float]]:
    """Polls and lag of each job, in the order of submits.

    `told`: the service tells created_at and completed_at. `queued`: polls show that jobs are queued for so long, and then
    in progress.
    """
    chance = random.Random(1).random
    pace = pacing.of("a model")
    jobs, next_refresh = len(durations), 0.0
    submitted, seen = [0.0] * jobs, [0.0] * jobs
    begun: list[float | None] = [0.0 if queued is None else None] * jobs
    polls, plans = [0] * jobs, [0] * jobs
    found = [(0, 0.0)] * jobs
    in_flight = dict.fromkeys(range(min(PLACES, jobs)))
    due = [(pace.first(chance(), chance(), queued=queued is not None), job, 0) for job in in_flight]
    due.sort()
    next_job = len(due)
    while due:
        now, job, plan = heappop(due)
        if plan != plans[job]:
            continue
        age, duration, before = now - submitted[job], durations[job], seen[job]
        polls[job] += 1
        if age < duration:
            if queued is not None and begun[job] is None and age >= queued[job]:
                begun[job] = age
            seen[job] = age
            gap = (
                pace.running(before, age, chance()) if queued is None else pace.seen(before, age, begun[job], chance())
            )
            heappush(due, (now + gap, job, plan))
        else:
            pace.ended(before, age, _told(submitted[job], duration) if told else None, begun[job])
            found[job] = polls[job], age - duration
            del in_flight[job]
            if next_job < jobs:
                submitted[next_job] = now
                in_flight[next_job] = None
                first = pace.first(chance(), chance(), queued=queued is not None)
                heappush(due, (now + first, next_job, 0))
                next_job += 1
        if now >= next_refresh:
            next_refresh = now + max(1.0, mean * (_AT_FIRST if next_job < _SOON else _LATER))
            if pacing.refresh()[1] is not None:
                for job in in_flight:
                    plans[job] += 1
                    at = submitted[job] + seen[job] + pace.gap(seen[job], chance(), begun[job])
                    heappush(due, (max(at, now), job, plans[job]))
    return found


def _told(submitted: float, duration: float) -> tuple[float, float]:
    """Between which two ages a job ended, of which the service tells two moments in whole seconds."""
    whole = floor(submitted + duration) - floor(submitted)
    return whole - 1.0, whole + 1.0
