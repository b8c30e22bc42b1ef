"""A batch from its first submit to its last record: rows per second, makespan, polls and lag.

    python benchmarks/end_to_end.py [--rows N] [--rounds N] [--quick]

* rows per second where every job has ended by its first poll: submit, journal, poll, record, output, sync; with
  ``--rate fixed``, since a rate that is learned doubles once a second at first
* makespan of N jobs of log-normal durations (median 4 s, sigma 0.6) with N / 5 in flight, against the ideal: the
  same rows in the same order on as many places, without any overhead. Under the ideal there is nothing to gain
* polls per job, and lag: from the moment at which a job ends on the service to that at which its record is written;
  with learned gaps, with the backoff (1 s, growing by half to 30 s) and with fixed gaps of 2 s and 5 s

The service is a process of its own (``stub.py``). The gaps of the backoff have a jitter of 0.5 to 1.5, and the
fixed ones too.
"""

from __future__ import annotations

import argparse
import heapq
import math
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from batchrun.core.settings.settings import BACKOFF_MAX, BACKOFF_MIN  # noqa: E402 - runs from a checkout as well
from benchmarks import services, whole  # noqa: E402
from benchmarks.results import record  # noqa: E402

MEDIAN, SIGMA = 4.0, 0.6
PLACES = 5  # rows for each place in flight
BACKOFFS = {
    "learned gaps": {},
    "learned gaps, a longer lag": {"lag": "19%"},
    "the backoff as it stands": {"pacing": "backoff", "poll_min": 1.0, "poll_max": 30.0},
    "looks every 2 s": {"pacing": "backoff", "poll_min": 2.0, "poll_max": 2.0},
    "looks every 5 s": {"pacing": "backoff", "poll_min": 5.0, "poll_max": 5.0},
}


def write(path: Path, durations: list[float]) -> str:
    with path.open("w") as file:
        for number, seconds in enumerate(durations):
            body = f'{{"model":"gpt-5","input":"seconds={seconds:.3f}"}}'
            file.write(f'{{"custom_id":"row-{number:07}","body":{body}}}\n')
    return str(path)


def ideal(durations: list[float], places: int) -> float:
    """The makespan of jobs that start in their order, each as soon as one of `places` is free, at no cost."""
    ends = [0.0] * places
    for seconds in durations:
        heapq.heapreplace(ends, ends[0] + seconds)
    return max(ends)


def run(folder: str, url: str, durations: list[float], settings: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=folder) as here:
        rows = write(Path(here, "in.jsonl"), durations)
        output = f"{here}/out.jsonl"
        base = {"submits": 256, "poll_rate": 20_000.0}
        result = whole.measured(url=url, input=rows, output=output, settings=base | settings, lags=True, collector=True)
    if result["done"] != len(durations):
        raise RuntimeError(f"expected {len(durations)} records: {result}")
    return result


def instant(folder: str, url: str, rows: int) -> None:
    settings = {"concurrency": 4_000, "poll_min": 0.05, "poll_max": 0.05, "rate": "fixed"}
    result = run(folder, url, [0.0] * rows, settings)
    cpu = round(result["cpu"] / rows * 1e6)
    rate = rows / result["took"]
    record("end to end: rows a second, every job ends at once", rate, "rows/s", rows=rows, cpu_us=cpu, load=_load())


def log_normal(folder: str, url: str, rows: int, median: float, rounds: int = 1) -> None:
    """The schedules in turn, so often; recorded are medians over all rounds."""
    chance = random.Random(7)
    durations = [round(median * math.exp(SIGMA * chance.gauss(0, 1)), 3) for _ in range(rows)]
    places = max(1, rows // PLACES)
    best = ideal(durations, places)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in BACKOFFS}
    for _ in range(rounds):
        for name, settings in BACKOFFS.items():
            results[name].append(run(folder, url, durations, {"concurrency": places, **settings}))
    for name, found in results.items():
        facts = {"rows": rows, "rounds": rounds, "load": _load()}

        def middle(key: str, found: list[dict[str, Any]] = found) -> float:
            return statistics.median(one[key] for one in found)

        took = middle("took")
        record(
            f"end to end: makespan, {name}", took, "s", "end to end: ideal makespan",
            ratio=round(took / best, 3), all=sorted(round(one["took"], 2) for one in found), **facts,
        )  # fmt: skip
        record(f"end to end: looks a job, {name}", middle("polls") / rows, "looks", **facts)
        record(f"end to end: lag of a record, {name}", middle("lag"), "s", **facts)
        if not BACKOFFS[name]:
            record("end to end: processor time of a row", middle("cpu") / rows * 1e6, "µs", **facts)
    mean = median * math.exp(SIGMA**2 / 2)
    record("end to end: ideal makespan", best, "s", rows=rows, places=places, mean_duration=round(mean, 2))


def _load() -> float:
    return round(os.getloadavg()[0], 1)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="500 rows, of half a second in the median")
    parser.add_argument("--rounds", type=int, default=1, help="of the makespans, in turn: the medians are recorded")
    options = parser.parse_args(arguments)
    rows, median = (500, 0.5) if options.quick else (options.rows, MEDIAN)
    assert (BACKOFF_MIN, BACKOFF_MAX) == (1.0, 30.0), "what is said above of the backoff"
    with services.stub() as (url, _), tempfile.TemporaryDirectory() as folder:
        instant(folder, url, 5_000 if options.quick else 2 * rows)
        log_normal(folder, url, rows, median, options.rounds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
