"""Pacing against the rules that people write, and against the best that is possible: polls per job at equal lag.

    python benchmarks/pacing.py [--quick | --only steady,changes,queue,costs]

The runner's own pacing on virtual time (pacing_simulation.py) with 500 jobs in flight, asked for mean lags of 2, 5, 10
and 20% of the mean duration; it learns as it polls, and starts knowing nothing. What it then took is compared with what
other rules take for that lag (pacing_rules.py), on the same jobs: the best fixed gap, chosen in hindsight; our backoff,
its first gap chosen in hindsight; the rule that pacing follows, with the same jitter but knowing the distribution; and
the least that is possible. Jobs count that were submitted after 500 completions (bimodal: 4,000), and the first 500 by
themselves. `intervals`: an end is known to lie between two polls; `told`: the service tells created_at and completed_at
as well, in whole seconds.

Then: a service whose jobs suddenly take twice or half as long; services that hold their jobs in a queue first
(pacing_queue.py); and what learning and looking up a gap cost. The goals are printed at the end. Takes about five
minutes of one core, `--quick` 10 to 15 seconds, with too few jobs and lags for some of the goals.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from batchrun.core.jobs.job import Job  # noqa: E402 - runs from a checkout as well
from batchrun.core.pacing.pacing import Pacing  # noqa: E402
from batchrun.core.settings.settings import Lag  # noqa: E402
from benchmarks import pacing_queue, pacing_rules  # noqa: E402
from benchmarks.pacing_rules import Seen  # noqa: E402
from benchmarks.pacing_simulation import PLACES, simulate  # noqa: E402
from benchmarks.pacing_workloads import Workload, bimodal, exponential, log_normal, workloads  # noqa: E402
from benchmarks.results import record  # noqa: E402

SHARES = (0.02, 0.05, 0.1, 0.2)
MEASURED = 3500
CHANGED_AFTER, SETTLED = 2000, 1000
FIXED = (2.0, 5.0)
TOLD = {False: "intervals", True: "told"}
PARTS = ("steady", "changes", "queue", "costs")
LEARNED_FIRST = ("log-normal", "exponential")
"""Of these workloads the first 500 jobs have a goal."""


@dataclass(frozen=True, slots=True)
class Point:
    """One workload at one lag, and what other rules need for the lag that pacing reached."""

    workload: str
    told: bool
    asked: float  # seconds
    share: float | None  # as which it was asked for
    seen: Seen
    first: Seen  # of the first 500 jobs
    polls: dict[str, float]  # of the other rules, at the same lag
    first_backoff: float

    def ratio(self, rule: str) -> float:
        return self.seen.polls / self.polls[rule]


class Goals:
    """What was to be reached, and what was measured."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, float, str, float]] = []

    def at_most(self, goal: str, limit: float, measured: Iterable[tuple[float, str]]) -> None:
        """The largest of `measured`, each with what it was measured of; values that are NaN are not comparable."""
        worst, of = max(((value, of) for value, of in measured if not isnan(value)), default=(float("nan"), ""))
        if not isnan(worst):
            self._lines.append((goal, limit, of, worst))
            record(f"pacing: goal: {goal}", worst, "at most", goal=limit, of=of)

    def show(self) -> None:
        wide = max(len(goal) for goal, *_ in self._lines)
        for goal, limit, of, worst in self._lines:
            met = "met" if worst <= limit else "MISSED"
            print(f"{goal:<{wide}}  {limit:>5g}  {worst:>6.3g}  {met:<6}  {of}", file=sys.stderr)


def pacing_of(workload: Workload, lag: Lag) -> Pacing:
    pacing = Pacing(lag, workload.poll_min, workload.poll_max)
    pacing.learned_before(workload.prior)
    return pacing


# --- polls per job, and lag ---


def points(
    workload: Workload, shares: Sequence[float], told: Sequence[bool], *, learned: int, measured: int
) -> list[Point]:
    """Poll one workload, also by the other rules; jobs count that were submitted after so many completions."""
    begin = learned + PLACES
    durations = workload.durations(begin + measured + PLACES)
    first, later, mean = durations[:500], durations[begin : begin + measured], workload.mean
    lags = (0.6 * min(shares) * mean, 1.5 * max(shares) * mean)
    known = pacing_rules.Known(workload.survival, mean, workload.poll_max)
    others = {
        "least": known.optimum(later, lags),
        "known": known.equal_lag(later, lags),
        "fixed": pacing_rules.best_fixed(later, lags, workload.poll_max),
        "backoff": pacing_rules.our_backoff(later, lags),
    }
    first_backoff = pacing_rules.our_backoff(first, lags)
    found = []
    asked = [Lag(share, is_share=True) for share in shares] + [Lag(workload.lag)] * (workload.lag is not None)
    for lag in asked:
        for tells in told:
            jobs = simulate(durations, pacing_of(workload, lag), told=tells, mean=mean)
            seen, at_first = pacing_rules.mean(jobs[begin : begin + measured]), pacing_rules.mean(jobs[:500])
            found.append(
                Point(
                    workload.name,
                    tells,
                    lag.value * mean if lag.is_share else lag.value,
                    lag.value if lag.is_share else None,
                    seen,
                    at_first,
                    {rule: one.polls(seen.lag) for rule, one in others.items()},
                    first_backoff.polls(at_first.lag),
                )
            )
    _record(workload, found, later)
    return found


def _record(workload: Workload, found: list[Point], later: Sequence[float]) -> None:
    for told in dict.fromkeys(one.told for one in found):
        ours = [one for one in found if one.told is told and one.share is not None]
        middle = min(ours, key=lambda one: abs((one.share or 0.0) - 0.1))
        record(
            f"pacing: {workload.name}, {TOLD[told]}",
            middle.seen.polls,
            "polls/job",
            mean_duration=_round(workload.mean),
            lags=[_round(one.seen.lag) for one in ours],
            polls=[_round(one.seen.polls) for one in ours],
            **{rule: [_round(one.polls[rule]) for one in ours] for rule in ours[0].polls},
            first_lags=[_round(one.first.lag) for one in ours],
            first_polls=[_round(one.first.polls) for one in ours],
            first_backoff=[_round(one.first_backoff) for one in ours],
        )
    for one in found:
        if one.share is None:
            record(
                f"pacing: {workload.name}, {TOLD[one.told]}, a lag of {one.asked:g} s",
                one.seen.polls,
                "polls/job",
                lag=_round(one.seen.lag),
                first=_round(one.first.polls),
                first_lag=_round(one.first.lag),
                **{rule: _round(polls) for rule, polls in one.polls.items()},
            )
    blind = {f"every {gap:g} s": pacing_rules.every(gap, later) for gap in FIXED}
    for name, seen in {**blind, "as Google": pacing_rules.googles(later)}.items():
        record(f"pacing: {workload.name}, {name}", seen.polls, "polls/job", lag=_round(seen.lag))


def _round(value: float) -> float | None:
    return None if isnan(value) else float(f"{value:.4g}")


def check(goals: Goals, found: Sequence[Point]) -> None:
    """The goals of steady services."""

    def of(one: Point) -> str:
        asked = f"{one.asked:g} s" if one.share is None else f"{one.share:.0%}"
        return f"{one.workload}, {asked}, {TOLD[one.told]}"

    def ratios(rule: str, points: Iterable[Point]) -> list[tuple[float, str]]:
        return [(one.ratio(rule), of(one)) for one in points]

    at_share = [one for one in found if one.share is not None]
    goals.at_most("polls ÷ rule that knows, told", 1.10, ratios("known", (one for one in found if one.told)))
    goals.at_most("polls ÷ rule that knows, intervals", 1.12, ratios("known", (one for one in found if not one.told)))
    narrow = [one for one in found if one.workload == log_normal(0.3).name]
    goals.at_most("polls ÷ best fixed gap, narrow", 0.58, ratios("fixed", narrow))
    two_modes = [one for one in found if one.workload == bimodal().name]
    goals.at_most("polls ÷ best fixed gap, bimodal", 0.72, ratios("fixed", two_modes))
    goals.at_most("polls ÷ best fixed gap, anywhere", 1.05, ratios("fixed", found))
    goals.at_most(
        "polls ÷ backoff, from 10% on", 0.60, ratios("backoff", (p for p in at_share if (p.share or 0) >= 0.1))
    )
    firsts = [p for p in at_share if p.workload.startswith(LEARNED_FIRST) and (p.share or 0) >= 0.05]
    goals.at_most("first 500: polls ÷ backoff", 1.05, [(p.first.polls / p.first_backoff, of(p)) for p in firsts])
    for name, limit in (("uniform", 20.0), ("last quarter", 30.0)):
        windows = [one for one in found if one.share is None and one.workload.endswith(name)]
        polls = [(one.seen.polls, of(one)) for one in windows]
        firsts_of_it = [(one.first.polls, f"first 500, {of(one)}") for one in windows]
        goals.at_most(f"polls per job, 2-hour window, {name}", limit, polls + firsts_of_it)
        lags = [(max(one.seen.lag, one.first.lag) / one.asked, of(one)) for one in windows]
        goals.at_most(f"lag ÷ asked, 2-hour window, {name}", 1.1, lags)


# --- a service that becomes slower or faster ---


def changes(goals: Goals, shares: Sequence[float], told: Sequence[bool]) -> None:
    """From one job on, all take twice or half as long."""
    polls, lags = [], []
    for workload in (log_normal(0.3), log_normal(0.7), log_normal(1.0), exponential(), bimodal()):
        for by, named in ((2.0, "doubled"), (0.5, "halved")):
            drawn = workload.durations(CHANGED_AFTER + 4000)
            durations = drawn[:CHANGED_AFTER] + [duration * by for duration in drawn[CHANGED_AFTER:]]
            begin, end = CHANGED_AFTER + SETTLED, len(durations) - PLACES
            mean = workload.mean * by
            known = pacing_rules.Known(workload.scaled(by), mean, workload.poll_max)
            rule = known.equal_lag(durations[begin:end], (0.5 * min(shares) * mean, 2 * max(shares) * mean))
            for share in shares:
                for tells in told:
                    lag = Lag(share, is_share=True)
                    jobs = simulate(durations, pacing_of(workload, lag), told=tells, mean=mean)
                    seen = pacing_rules.mean(jobs[begin:end])
                    before, meanwhile = (
                        pacing_rules.mean(jobs[from_job : from_job + SETTLED])
                        for from_job in (CHANGED_AFTER - SETTLED, CHANGED_AFTER)
                    )
                    of = f"{workload.name} {named}, {share:.0%}, {TOLD[tells]}"
                    polls.append((seen.polls / rule.polls(seen.lag), of))
                    lags.append((abs(seen.lag / (share * mean) - 1), of))
                    record(
                        f"pacing: {of}",
                        polls[-1][0],
                        "ratio",
                        lag=_round(seen.lag / mean),
                        polls=_round(seen.polls),
                        before=[_round(before.lag / workload.mean), _round(before.polls)],
                        next_1000=[_round(meanwhile.lag / mean), _round(meanwhile.polls)],
                    )
    goals.at_most("doubled or halved: polls ÷ rule that knows", 1.2, polls)
    goals.at_most("doubled or halved: lag off by", 0.25, lags)


# --- what it costs ---


def costs(goals: Goals, *, rounds: int) -> None:
    """Time of learning and of looking up a gap, at three polls per job; memory of a job in flight."""
    workload = log_normal(0.7)
    pacing = pacing_of(workload, Lag(0.1, is_share=True))
    pace = pacing.of("a model")
    chances = random.Random(1)
    jobs = [(chances.uniform(1, 5), chances.uniform(6, 9), chances.uniform(10, 20)) for _ in range(20_000)]
    simulate(workload.durations(3000), pacing, told=True, mean=workload.mean)
    polled, empty, refreshed = [], [], []
    for _ in range(rounds):
        begun = time.process_time()
        for first, second, third in jobs:
            pace.first(0.5, 0.5)
            pace.running(0.0, first, 0.5)
            pace.running(first, second, 0.5)
            pace.ended(second, third, None)
        between = time.process_time()
        for first, second, third in jobs:
            (first, second, third)  # noqa: B018 - the loop alone
        ended = time.process_time()
        pacing.refresh()
        refreshed.append(time.process_time() - ended)
        polled.append(between - begun)
        empty.append(ended - between)
    cost = (statistics.median(polled) - statistics.median(empty)) / (3 * len(jobs)) * 1e6
    least = (min(polled) - min(empty)) / (3 * len(jobs)) * 1e6
    record("pacing: learning and gap, 3 polls per job", cost, "µs/poll", least=_round(least), rounds=rounds)
    record("pacing: a refresh, at most once a second", statistics.median(refreshed) * 1e3, "ms")
    goals.at_most("µs per poll, at 3 polls per job", 0.8, [(cost, f"median of {rounds}, fastest {least:.2f}")])
    without = type("Without", (), {"__slots__": [slot for slot in Job.__slots__ if slot not in {"pace", "seen_age"}]})
    weight = Job.__basicsize__ - without.__basicsize__ + sys.getsizeof(1.5)
    record("pacing: memory of a job", weight, "bytes")
    goals.at_most("bytes per job in flight", 40, [(weight, "two slots, and one number of its own")])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a lag of 10% only, fewer jobs, no drift")
    parser.add_argument("--only", metavar="PARTS", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    options = parser.parse_args(arguments)
    quick, parts = options.quick, options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only: expected parts of {', '.join(PARTS)}, found {', '.join(sorted(unknown))}")
    shares, told = ((0.1,), (False,)) if quick else (SHARES, (False, True))
    goals = Goals()
    found = []
    for workload in workloads() if "steady" in parts else ():
        learned, measured = (500, 600) if quick else (workload.learned, MEASURED)
        found += points(workload, shares, told, learned=learned, measured=measured)
    if found:
        check(goals, found)
    if not quick and "changes" in parts:
        changes(goals, (0.05, 0.1), told)
    if not quick and "queue" in parts:
        ratios = pacing_queue.compare()
        goals.at_most("queued jobs: polls ÷ polls by age", 1.03, ratios)
        goals.at_most("queued jobs, memoryless queue of 60 s, 10%: polls ÷ polls by age", 0.8, ratios[1:2])
    if "costs" in parts:
        costs(goals, rounds=3 if quick else 9)
    goals.show()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
