"""What the benchmark of pacing polls: workloads, each with its true distribution of durations.

`azure_llm_2023_code.csv.xz` has the two token columns of the Azure LLM inference trace 2023 (coding service), in their
order: Azure Public Dataset (https://github.com/Azure/AzurePublicDataset, AzureLLMInferenceTrace_code.csv), CC-BY;
Patel et al., "Splitwise: Efficient generative LLM inference using phase splitting", ISCA 2024. It has sizes, not
durations: a job is taken to run for 0.5 s + 0.25 ms × context tokens + 30 ms × generated tokens. It was made by

    python benchmarks/pacing_workloads.py AzureLLMInferenceTrace_code.csv
"""

from __future__ import annotations

import csv
import lzma
import random
import sys
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import erfc, exp, log, sqrt
from pathlib import Path

TRACE = Path(__file__).parent / "azure_llm_2023_code.csv.xz"
CREDIT = "# Azure LLM inference trace 2023 (code), Azure Public Dataset, CC-BY; Patel et al., Splitwise, ISCA 2024"
WINDOW = 7200.0


@dataclass(frozen=True, slots=True)
class Workload:
    """Jobs in the order of their submits. `survival(age)` is the share of them that runs for longer."""

    name: str
    durations: Callable[[int], list[float]]
    survival: Callable[[float], float]
    mean: float
    learned: int = 500  # completions after which the curve is to be right
    poll_min: float = 0.25
    poll_max: float = 300.0
    prior: tuple[float, ...] = ()
    lag: float | None = None  # seconds: asked for next to the shares

    def scaled(self, by: float) -> Callable[[float], float]:
        """The survival of jobs that take `by` times as long."""
        return lambda age: self.survival(age / by)


def _drawn(draw: Callable[[random.Random], float]) -> Callable[[int], list[float]]:
    def durations(jobs: int) -> list[float]:
        chances = random.Random(5)
        return [draw(chances) for _ in range(jobs)]

    return durations


def log_normal(sigma: float, mean: float = 10.0, name: str = "") -> Workload:
    mu = log(mean) - sigma * sigma / 2
    return Workload(
        name or f"log-normal, σ {sigma:g}",
        _drawn(lambda chances: exp(mu + sigma * chances.gauss(0, 1))),
        lambda age: _above(age, mu, sigma),
        mean,
    )


def exponential() -> Workload:
    return Workload(
        "exponential", _drawn(lambda chances: chances.expovariate(0.1)), lambda age: exp(-max(0.0, age) / 10), 10.0
    )


def bimodal() -> Workload:
    """70% of about 10 s, 30% of about 150 s."""
    modes = ((0.7, log(10.0) - 0.005), (0.3, log(150.0) - 0.005))
    return Workload(
        "bimodal, 10 s and 150 s",
        _drawn(lambda chances: exp(modes[chances.random() >= 0.7][1] + 0.1 * chances.gauss(0, 1))),
        lambda age: sum(share * _above(age, mu, 0.1) for share, mu in modes),
        52.0,
        learned=4000,
    )


def azure() -> Workload:
    taken = azure_durations()
    ordered = sorted(taken)
    return Workload(
        "Azure code trace",
        lambda jobs: list(taken[:jobs]),
        lambda age: 1 - bisect_right(ordered, age) / len(ordered),
        sum(taken) / len(taken),
        poll_min=0.01,  # else no lag below 7% of jobs of 1.8 s were possible
    )


def window(begin: float, name: str) -> Workload:
    """Jobs of a window of two hours that end, at any time alike, after `begin` seconds of it."""
    return Workload(
        name,
        _drawn(lambda chances: chances.uniform(begin, WINDOW)),
        lambda age: min(1.0, max(0.0, WINDOW - age) / (WINDOW - begin)),
        (begin + WINDOW) / 2,
        poll_max=1800.0,
        prior=tuple((place + 0.5) * WINDOW / 30 for place in range(30)),
        lag=120.0,
    )


def workloads() -> list[Workload]:
    ten_minutes = log_normal(0.5, 600.0, "ten-minute jobs")
    return [
        log_normal(0.3),
        log_normal(0.7),
        log_normal(1.0),
        exponential(),
        bimodal(),
        azure(),
        Workload(ten_minutes.name, ten_minutes.durations, ten_minutes.survival, ten_minutes.mean, poll_max=1800.0),
        window(0.0, "2-hour window, uniform"),
        window(0.75 * WINDOW, "2-hour window, last quarter"),
    ]


def _above(age: float, mu: float, sigma: float) -> float:
    return 1.0 if age <= 0 else 0.5 * erfc((log(age) - mu) / (sigma * sqrt(2)))


@cache
def azure_durations() -> tuple[float, ...]:
    with lzma.open(TRACE, "rt", encoding="utf-8") as file:
        rows = (line.split(",") for line in file if not line.startswith("#"))
        return tuple(0.5 + 0.00025 * int(context) + 0.03 * int(generated) for context, generated in rows)


def keep_trace(source: Path) -> None:
    """Write the token columns of the trace as Azure publishes it to TRACE."""
    with source.open(encoding="utf-8", newline="") as file:
        rows = [f"{row['ContextTokens']},{row['GeneratedTokens']}\n" for row in csv.DictReader(file)]
    text = "".join([f"{CREDIT}\n", *rows]).encode()
    TRACE.write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    keep_trace(Path(sys.argv[1]))
