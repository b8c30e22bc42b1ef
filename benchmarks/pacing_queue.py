"""Whether it helps to tell queued jobs from running ones: a queue of 60 s (exponential) before runs of 5 s (log-normal).

Pacing goes by a job's age alone. Here it is compared, at equal lag, with

* the least that is possible by age;
* `by_state`: the same pacing where ages count from the last poll that showed the job queued. Its curve then has two
  parts: how soon a queued job ends, and after the gap that follows from it how soon one does that is known to run;
* the least that is possible where each poll shows whether the job is queued: the gap in the queue is one number, as the
  queue has no memory, and the polls of a running job are chosen by how long it may have been running.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from math import erfc, exp, log, sqrt

from batchrun.core.pacing.pacing import Pacing
from batchrun.core.settings.settings import Lag
from benchmarks.pacing_rules import Known, Seen, TradeOff, at_ages, mean
from benchmarks.pacing_simulation import PLACES, simulate
from benchmarks.results import record

QUEUE, RUN, SIGMA = 60.0, 5.0, 0.5
JOBS = 2500
_MU = log(RUN) - SIGMA * SIGMA / 2
Job = tuple[float, float]  # how long it is queued, and how long it runs


def drawn(jobs: int, seed: int) -> list[Job]:
    chances = random.Random(seed)
    return [(chances.expovariate(1 / QUEUE), exp(_MU + SIGMA * chances.gauss(0, 1))) for _ in range(jobs)]


def _runs_longer(age: float) -> float:
    return 1.0 if age <= 0 else 0.5 * erfc((log(age) - _MU) / (SIGMA * sqrt(2)))


def _left(gap: float) -> Known:
    """How long a job still runs that a poll shows running for the first time, `gap` seconds after the one before."""
    begun = [gap * (place + 0.5) / 24 for place in range(24)]  # so long ago
    weights = [exp(ago / QUEUE) for ago in begun]
    whole = sum(weight * _runs_longer(ago) for weight, ago in zip(weights, begun, strict=True))

    def survival(age: float) -> float:
        left = sum(weight * _runs_longer(ago + age) for weight, ago in zip(weights, begun, strict=True))
        return left / whole

    return Known(survival, RUN, 300.0)


def polled_by_state(jobs: Sequence[Job], gap: float, ages: list[float]) -> Seen:
    """Polls at each `gap` while a job is queued, then at `ages` since it was first seen to run."""
    found = []
    for queued, runs in jobs:
        polls = int(queued / gap) + 1
        last = polls * gap
        if last >= queued + runs:
            found.append((polls, last - queued - runs))
        else:
            more, lag = at_ages(ages, queued + runs - last)
            found.append((polls + more, lag))
    return mean(found)


def compare() -> None:
    begin = PLACES + 500
    jobs = drawn(begin + JOBS + PLACES, 7)
    later, average = jobs[begin : begin + JOBS], QUEUE + RUN
    durations = [queued + runs for queued, runs in jobs]
    many = sorted(queued + runs for queued, runs in drawn(20_000, 8))
    lags = (0.01 * average, 0.4 * average)
    known = Known(lambda age: 1 - bisect_right(many, age) / len(many), average, 300.0)
    by_age = known.optimum([queued + runs for queued, runs in later], lags)
    by_state = TradeOff(_known_by_state(later, lags[1]))
    learned_by_state = TradeOff(
        mean(
            simulate(
                durations,
                Pacing(Lag(lag), 0.25, 300.0),
                told=False,
                mean=average,
                queued=[queued for queued, _ in jobs],
            )[begin : begin + JOBS]
        )
        for lag in (0.4, 0.8, 1.6, 3.0, 6.0, 12.0)  # seconds since it was last seen queued, so less than asked for
    )
    for share in (0.02, 0.05, 0.1, 0.2):
        polled = simulate(durations, Pacing(Lag(share, is_share=True), 0.25, 300.0), told=False, mean=average)
        seen = mean(polled[begin : begin + JOBS])
        record(
            f"pacing: a queue of 60 s, then 5 s, {share:.0%}",
            seen.polls,
            "polls/job",
            lag=float(f"{seen.lag:.4g}"),
            least_by_age=round(by_age.polls(seen.lag), 3),
            by_state=round(learned_by_state.polls(seen.lag), 3),
            least_by_state=round(by_state.polls(seen.lag), 3),
        )


def _known_by_state(jobs: Sequence[Job], longest: float) -> Iterator[Seen]:
    """The best polls of running jobs at several prices, after several gaps in the queue."""
    gap = 0.7
    while gap < 3 * longest:
        known = _left(gap)
        for price in (0.1, 0.3, 0.8, 2.0, 5.0):
            yield polled_by_state(jobs, gap, known.best_ages(price))
        gap *= 1.25
