"""The list of figures in the help topic `performance`, from results.jsonl."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.charts import POLLING, sizes
from benchmarks.results import latest

Found = dict[str, dict[str, Any]]
Line = tuple[str, str, str]  # what was measured, the figure, its goal

GOALS = (
    ("batchrun against a bare aiohttp loop, both on asyncio", "asyncio against aiohttp", "100", "1.5×"),
    ("batchrun against a bare aiohttp loop, both on uvloop", "uvloop against aiohttp", "100", "1.5×"),
    ("the same at 1,000 connections, both on asyncio", "asyncio against aiohttp", "1,000", "1.5×"),
    ("against a bare httpx loop", "uvloop against httpx", "100", "30×"),
    ("against a bare httpx loop at 1,000 connections", "uvloop against httpx", "1,000", "100×"),
    ("against a loop on the openai SDK", "uvloop against openai SDK", "100", "12×"),
    ("against a bare httpx2 loop", "uvloop against httpx2", "100", ""),
    ("against lm-deluge, its waits of 5 s removed", "uvloop against lm-deluge", "100", ""),
    ("against wrk, which is written in C and parses no body", "uvloop against wrk", "100", "0.25×"),
)


def lines() -> Iterator[str]:
    """What was measured last: date and machine, then one figure per line; an empty line between parts."""
    found = latest()
    parts = [list(part) for part in (_polling(found), _end_to_end(found), _scale(found))]
    if not any(parts):
        yield "Nothing was measured yet: python -m benchmarks"
        return
    yield _when(found)
    for part in parts:
        yield ""
        for what, figure, goal in part:
            yield f"{what}: {figure}" + (f" (goal {goal})" if goal else "")


def _when(found: Found) -> str:
    ours = [one for name, one in found.items() if name.startswith(("polling: ", "end to end: ", "scale: "))]
    dates = sorted({one["date"] for one in ours})
    peers = {name.split(": ")[1].split(",")[0]: one["version"] for name, one in found.items() if one.get("version")}
    named = ", ".join(f"{name} {which}" for name, which in sorted(peers.items()) if not name.startswith("our "))
    load = max(one.get("load", 0.0) for one in ours)
    return (
        f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}, {ours[0]['machine']} shared with other work (load up to {load:g}), "
        f"Python {ours[0]['python']}; {named}. × is polls per second of batchrun (journal, limits and progress included) "
        "divided by those of the other, measured in turn in one run, median of rounds; by CPU is the same ratio per "
        "second of CPU time."
    )


def _polling(found: Found) -> Iterator[Line]:
    for what, pair, connections, goal in GOALS:
        one = found.get(f"polling: whole runner on {pair}, {connections} connections")
        if one is not None:
            yield what, f"{one['value']:.3g}×, by CPU {one['by_cpu']:.3g}×", goal
    for loop in ("asyncio", "uvloop"):
        one = found.get(f"polling: whole runner, {loop}, 100 connections")
        if one is not None:
            yield f"CPU time of one poll, everything included, {loop}", f"{one['cpu_us']:.0f} µs", ""


def _end_to_end(found: Found) -> Iterator[Line]:
    one = found.get("end to end: rows a second, every job ends at once")
    if one is not None:
        yield "rows per second through submit, poll, record and both files", f"{one['value']:,.0f}", "4,000"
    ideal = found.get("end to end: ideal makespan")
    for name, shown in POLLING.items() if ideal is not None else ():
        makespan = found[f"end to end: makespan, {name}"]
        polls, lag = (found[f"end to end: {what}, {name}"]["value"] for what in ("looks a job", "lag of a record"))
        figure = f"{makespan['value']:.1f} s (ideal {ideal['value']:.1f} s), {polls:.1f} polls per job, lag {lag:.2f} s"
        yield f"makespan of {makespan['rows']:,} jobs of {ideal['mean_duration']:.1f} s, {shown}", figure, ""


def _scale(found: Found) -> Iterator[Line]:
    for jobs, spelled in sizes(found):
        what = f"{spelled} jobs in flight"
        memory, poll, p50, p99, stall, resumed, pause, untuned = (
            found[f"scale: {name}, {what}"]
            for name in (
                "memory of a job", "processor time of a look", "lateness of a look, p50", "lateness of a look, p99",
                "longest stall of the loop", "resumed after kill -9", "longest pause of the collector",
                "the same with Python's own thresholds",
            )
        )  # fmt: skip
        figure = (
            f"{poll['value']:.0f} µs per poll at {poll['polls_per_s']:,}/s; polls {p50['value']:.3g} ms late, p99 {p99['value']:.3g} ms; "
            f"longest stall {stall['value']:.0f} ms; garbage collector {pause['value']:.0f} ms (untuned {untuned['value']:.0f} ms); "
            f"resumed after kill -9 in {resumed['value']:.3g} s"
        )
        if jobs >= 100_000:
            figure = f"{memory['value']:.0f} bytes per job; {figure}"
        yield what, figure, "1,000 bytes, p99 200 ms" if jobs == 100_000 else ""
    for name, one in found.items():
        if name.startswith("scale: a look at ") and one["ratio_to"]:
            yield name.removeprefix("scale: ").replace("a look", "a poll"), f"{one['value']:.2f}×", "1.3×"
