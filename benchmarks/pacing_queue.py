"""Whether it helps to tell queued jobs from running ones: services that hold their jobs in a queue first.

Polls show whether a job is queued or in progress. Pacing learns both stages, and uses them where that needs fewer polls
(core/pacing/stages.py); what it took is compared with what it needs, at equal lag, where nothing is shown and it goes by
age alone. Queues are short, as long as the runs, or long; some have no memory, in others all jobs wait for about as long
or a few very long, and one service says `queued` until a job is over. For a queue of 60 s (exponential) before runs of 5 s
also the least that is possible where each poll shows whether the job is queued: the gap in the queue is then one number,
and the polls of a running job are chosen by how long it may have been running.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
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
Draw = Callable[[random.Random], float]
LEAST_OF = "queue of 60 s, memoryless, runs of 5 s"
SHARES = (0.05, 0.1, 0.2)
_BY_AGE = (0.02, 0.04, 0.06, 0.1, 0.16, 0.25, 0.4)


def _memoryless(mean: float) -> Draw:
    return lambda chances: chances.expovariate(1 / mean)


def _at_once(_: random.Random) -> float:
    return 0.0


def _log_normal(mean: float, sigma: float) -> Draw:
    return lambda chances: mean * exp(sigma * chances.gauss(0, 1) - sigma * sigma / 2)


SERVICES: dict[str, tuple[Draw, Draw]] = {
    LEAST_OF: (_memoryless(QUEUE), _log_normal(RUN, SIGMA)),
    "queue of 5 s, memoryless, runs of 60 s": (_memoryless(5.0), _log_normal(60.0, 0.5)),
    "queue of 30 s, memoryless, runs of 30 s": (_memoryless(30.0), _log_normal(30.0, 0.5)),
    "queue of 60 s, uniform, runs of 5 s": (lambda chances: chances.uniform(0, 120.0), _log_normal(5.0, 0.5)),
    "queue of 60 s, gamma (4), runs of 5 s": (lambda chances: chances.gammavariate(4, 15.0), _log_normal(5.0, 0.5)),
    "queue of 60 s, log-normal (1), runs of 5 s": (_log_normal(60.0, 1.0), _log_normal(5.0, 0.5)),
    "no queue or (30%) one of 200 s, runs of 10 s": (
        lambda chances: 0.0 if chances.random() < 0.7 else chances.expovariate(1 / 200),
        _log_normal(10.0, 0.3),
    ),
    "queue of 60 s, in line (± 3 s), runs of 5 s": (lambda chances: chances.gauss(60.0, 3.0), _log_normal(5.0, 0.5)),
    "queue of 60 s, in line (± 3 s), runs of 30 s": (lambda chances: chances.gauss(60.0, 3.0), _memoryless(30.0)),
    "queued until over, 60 s, narrow": (_log_normal(60.0, 0.3), _at_once),
    "queued until over, 60 s, memoryless": (_memoryless(60.0), _at_once),
}


def drawn(jobs: int, seed: int, service: str = LEAST_OF) -> list[Job]:
    chances = random.Random(seed)
    waits, runs = SERVICES[service]
    return [(waits(chances), runs(chances)) for _ in range(jobs)]


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


def compare() -> list[tuple[float, str]]:
    """Poll all services; the polls by state, divided by those by age alone at the same lag, and of what."""
    found = []
    for service in SERVICES:
        begin = PLACES + 500
        jobs = drawn(begin + JOBS + PLACES, 7, service)
        average = sum(queued + runs for queued, runs in jobs) / len(jobs)

        def polled(share: float, *, shown: bool, jobs: list[Job] = jobs, average: float = average) -> Seen:
            durations, queued = [queued + runs for queued, runs in jobs], [queued for queued, _ in jobs]
            pacing = Pacing(Lag(share, is_share=True), 0.25, 300.0)
            seen = simulate(durations, pacing, told=False, mean=average, queued=queued if shown else None)
            return mean(seen[PLACES + 500 : PLACES + 500 + JOBS])

        by_age = TradeOff(polled(share, shown=False) for share in _BY_AGE)
        least = None
        if service == LEAST_OF:
            least = TradeOff(_known_by_state(jobs[begin : begin + JOBS], 0.4 * average))
        for share in SHARES:
            seen = polled(share, shown=True)
            record(
                f"pacing: {service}, {share:.0%}",
                seen.polls,
                "polls/job",
                lag=float(f"{seen.lag:.4g}"),
                lag_share=round(seen.lag / average, 4),
                by_age=round(by_age.polls(seen.lag), 3),
                **({} if least is None else {"least_by_state": round(least.polls(seen.lag), 3)}),
            )
            found.append((seen.polls / by_age.polls(seen.lag), f"{service}, {share:.0%}"))
    return found


def _known_by_state(jobs: Sequence[Job], longest: float) -> Iterator[Seen]:
    """The best polls of running jobs at several prices, after several gaps in the queue."""
    gap = 0.7
    while gap < 3 * longest:
        known = _left(gap)
        for price in (0.1, 0.3, 0.8, 2.0, 5.0):
            yield polled_by_state(jobs, gap, known.best_ages(price))
        gap *= 1.25
