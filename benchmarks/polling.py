"""Polls per second: the whole runner against the loops that people write, on this machine, in one run.

    python benchmarks/polling.py [--quick] [--rounds N] [--seconds S]

The runner has everything on: agenda, limits, verdicts, journal, progress. Every other client is at its best:
one task a connection that asks for one job over and over, parses the answer and does nothing else. All are
asked for the same 720 bytes by nginx on another core, in turn, several rounds; figures are medians of rounds,
ratios medians of the ratios within a round. `wrk` (C, no work with the answer) is the ceiling. Then the same
behind a delay of 200 ms, one round, where what counts is whether a client can keep its connections busy, and the processor
time that it takes. `cpu_us` is processor time of the client for one poll: on a machine that others use as well it
is the figure to trust.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from benchmarks import services, whole  # noqa: E402 - runs from a checkout as well
from benchmarks.results import record  # noqa: E402

Found = dict[str, float]  # polls per second, and µs of processor time for one

JOBS = 2_000
OURS = (("whole runner", "uvloop"), ("whole runner", "asyncio"))
OTHERS = (
    ("our wire alone", "uvloop", "seam", "batchrun"),
    ("our wire alone", "asyncio", "seam", "batchrun"),
    ("aiohttp", "uvloop", "aiohttp", "aiohttp"),
    ("aiohttp", "asyncio", "aiohttp", "aiohttp"),
    ("httpx on aiohttp", "asyncio", "httpx_aiohttp", "httpx-aiohttp"),
    ("httpx2", "asyncio", "httpx2", "httpx2"),
    ("openai SDK", "asyncio", "openai", "openai"),
    ("httpx", "asyncio", "httpx", "httpx"),
    ("lm-deluge", "asyncio", None, "lm-deluge"),
)
RATIOS = (
    ("uvloop", "aiohttp", "uvloop"),
    ("asyncio", "aiohttp", "asyncio"),
    ("uvloop", "httpx", "asyncio"),
    ("uvloop", "openai SDK", "asyncio"),
    ("uvloop", "httpx2", "asyncio"),
    ("uvloop", "lm-deluge", "asyncio"),
    ("uvloop", "wrk", "C"),
)


def our_polls(url: str, connections: int, seconds: float, loop: str) -> Found:
    """The whole runner on jobs that never end, more of them than connections, each always due again."""
    jobs = max(JOBS, 4 * connections)
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder, "in.jsonl")
        with rows.open("w") as file:
            for number in range(jobs):
                file.write(f'{{"custom_id":"row-{number}","body":{{"model":"gpt-5","input":"x"}}}}\n')
        settings = {
            "concurrency": jobs, "poll_min": 0.001, "poll_max": 0.001, "poll_rate": 1e9, "connections": connections,
            "submits": 64 if connections < 1_000 else 256,
        }  # fmt: skip
        facts = whole.measured(
            url=url, input=str(rows), output=f"{folder}/out.jsonl", jobs=jobs, seconds=seconds, loop=loop, settings=settings
        )  # fmt: skip
    return {"polls": facts["polls_per_s"], "cpu_us": facts["cpu_per_poll"] * 1e6}


def their_polls(client: str | None, url: str, connections: int, seconds: float, loop: str) -> Found | None:
    """A client in a process of its own; None where it is not installed."""
    script = "deluge.py" if client is None else "wire_peers.py"
    asked = [url] if client is None else [client, f"{url}/responses/resp_ffffffffffff{1:036x}"]
    command = [*services.pinned(services.CLIENT_CORE), sys.executable, str(ROOT / "benchmarks" / script)]
    command += [*asked, str(connections), str(seconds), loop]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode == 3:
        return None
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    polls = max(result["polls"], 1)
    return {"polls": result["polls"] / result["seconds"], "cpu_us": result["cpu"] / polls * 1e6}


def ceiling(url: str, connections: int, seconds: float) -> Found | None:
    """wrk, with one thread."""
    if shutil.which("wrk") is None:
        return None
    command = [*services.pinned(services.CLIENT_CORE), "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    before = os.times()
    shown = subprocess.check_output([*command, f"{url}/responses/resp_ffffffffffff{1:036x}"], text=True)
    after = os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    asked = re.search(r"(\d+) requests in", shown)
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", shown)
    assert asked is not None
    assert rate is not None
    return {"polls": float(rate[1]), "cpu_us": cpu / int(asked[1]) * 1e6}


def compare(url: str, connections: int, what: str, rounds: int, seconds: float, *, best: bool) -> None:
    """Ask with all clients in turn, and record medians and ratios. With `best`, wrk as well."""
    found: dict[tuple[str, str], list[Found | None]] = {}
    for turn in range(rounds):
        for name, loop in OURS:
            found.setdefault((name, loop), []).append(our_polls(url, connections, seconds, loop))
        for name, loop, client, _ in OTHERS:
            if turn == 0 or found[name, loop][0] is not None:
                found.setdefault((name, loop), []).append(their_polls(client, url, connections, seconds, loop))
        if best:
            found.setdefault(("wrk", "C"), []).append(ceiling(url, connections, seconds))
    versions = {name: _version(package) for name, _, _, package in OTHERS}
    for (name, loop), runs in found.items():
        if runs[0] is None:
            print(f"skipped: {name} is not installed", file=sys.stderr)
            continue
        rate, cpu = (statistics.median(run[which] for run in runs if run) for which in ("polls", "cpu_us"))
        facts = {"cpu_us": round(cpu, 1), "rounds": rounds, "load": round(os.getloadavg()[0], 1)}
        record(f"polling: {name}, {loop}, {what}", rate, "polls/s", version=versions.get(name), **facts)
    for loop, name, their_loop in RATIOS:
        theirs = found.get((name, their_loop), [None])
        runs = zip(found.get(("whole runner", loop), []), theirs, strict=False)
        pairs = [(ours, other) for ours, other in runs if ours and other]
        if not pairs:
            continue
        ratio = statistics.median(ours["polls"] / max(other["polls"], 1e-9) for ours, other in pairs)
        by_cpu = statistics.median(other["cpu_us"] / ours["cpu_us"] for ours, other in pairs)
        record(
            f"polling: whole runner on {loop} against {name}, {what}",
            ratio,
            "ratio",
            ratio_to=f"polling: {name}, {their_loop}, {what}",
            by_cpu=round(by_cpu, 2),
        )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of a second, at 100 connections only")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args(arguments)
    rounds, seconds = (1, 1.0) if options.quick else (options.rounds, options.seconds)
    counts = (100,) if options.quick else (100, 1_000)
    with services.nginx() as served:
        if served is None:
            print("nginx is not installed: the lean service answers in its place, and wrk is left out", file=sys.stderr)
        for connections in counts if served else ():
            compare(served[0], connections, f"{connections:,} connections", rounds, seconds, best=True)
    for delay in (0.0,) * (served is None) + (0.2,) * (not options.quick):
        with services.stub(delay) as (url, _):
            for connections in counts:
                what = f"{connections:,} connections" + (f", answers after {delay * 1e3:.0f} ms" if delay else "")
                compare(url, connections, what, 1 if delay else rounds, seconds, best=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
