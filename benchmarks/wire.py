"""Polls per second, and processor time a poll: our transport by both its doors, next to other clients, in turn in one run.

    python benchmarks/wire.py [--quick] [--seconds 2]

The server is nginx on loopback, in a process of its own; wrk, where it is installed, shows what that can give.
Each measurement is a process of its own (`wire_peers.py`). Clients that are not installed are skipped, and said
so: `pip install 'batchrun-jobs[bench]'`. nginx: Debian's package nginx-light. On a machine that has other work only the
ratios count. The whole takes a quarter of an hour; at its end the chart is redrawn, and
`pytest -n 0 tests/test_docs.py --write-docs` puts the table into `batchrun help performance`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import wire_chart
from benchmarks.results import HERE, record
from benchmarks.wire_peers import NOT_HERE, PEERS
from benchmarks.wire_server import Serving, serving

YARDSTICK = "aiohttp"


class Setting(NamedTuple):
    """What all clients are measured at."""

    job: str  # small, large, slow
    secure: bool
    connections: int
    loop: str

    @property
    def name(self) -> str:
        kind = {"small": "720 bytes", "large": "16 KB", "slow": "after 200 ms"}[self.job]
        return f"{'TLS' if self.secure else 'plain'}, {self.connections} connections, {self.loop}, {kind}"


def settings(*, quick: bool) -> Iterator[Setting]:
    loops = ("asyncio", "uvloop")
    if quick:
        yield from (Setting("small", secure=False, connections=100, loop=loop) for loop in loops)
        return
    for secure in (False, True):
        for connections in (1, 100, 1_000):
            yield from (Setting("small", secure, connections, loop) for loop in loops)
        for connections in (100, 1_000):
            yield from (Setting("slow", secure, connections, loop) for loop in loops)
        yield from (Setting("large", secure, 100, loop) for loop in loops)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="plain, 100 connections, the small answer, one second")
    parser.add_argument("--seconds", type=float, help="of each measurement")
    options = parser.parse_args()
    seconds = options.seconds or (1.0 if options.quick else 2.0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    missing: set[str] = set()
    try:
        with serving() as server:
            for setting in settings(quick=options.quick):
                measure_all(setting, server, seconds, missing)
    except FileNotFoundError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return 0
    if not options.quick:
        wire_chart.draw(HERE / "results.jsonl", HERE / "charts" / "wire.svg")
    return 0


def measure_all(setting: Setting, server: Serving, seconds: float, missing: set[str]) -> None:
    url = f"{server.tls if setting.secure else server.plain}/v1/responses/{setting.job}"
    if setting.job != "slow":
        ceiling(setting, url, seconds, missing)
    for peer in PEERS:
        if peer in missing:
            continue
        result = measure(peer, url, setting, seconds, server.authority if setting.secure else None)
        if result is None:
            missing.add(peer)
            print(f"skipped: {peer} is not installed", file=sys.stderr)
            continue
        name = f"wire: {setting.name}: "
        facts = {"cpu_us": round(result["cpu"] / max(1, result["polls"]) * 1e6, 1)}
        if result["failed"]:
            facts["failed"] = result["failed"]
        if setting.connections == 1_000:
            facts |= {
                "open": result["open"],
                "kb_a_connection": round(result["memory"] / max(1, result["open"]) / 1024, 1),
            }
        against = None if peer == YARDSTICK else name + YARDSTICK
        record(name + peer, result["polls"] / result["seconds"], "polls/s", against, **facts)


def measure(peer: str, url: str, setting: Setting, seconds: float, authority: str | None) -> dict[str, float] | None:
    command = [sys.executable, str(HERE / "wire_peers.py"), peer, url, str(setting.connections), str(seconds)]
    command += [setting.loop, *([authority] if authority else [])]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode == NOT_HERE:
        return None
    if done.returncode:
        raise SystemExit(f"{peer}, {setting.name}: {done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def ceiling(setting: Setting, url: str, seconds: float, missing: set[str]) -> None:
    """What wrk, in C and with a thread, gets of the same server."""
    if shutil.which("wrk") is None:
        if "wrk" not in missing:
            print("skipped: wrk is not installed (Debian: apt-get install wrk)", file=sys.stderr)
        missing.add("wrk")
        return
    command = ["wrk", "-t1", f"-c{setting.connections}", f"-d{max(1, round(seconds))}s", url]
    shown = subprocess.check_output(command, text=True)
    found = re.search(r"Requests/sec:\s+([0-9.]+)", shown)
    if found is None or "Non-2xx" in shown:
        raise SystemExit(f"expected 2xx answers only, got:\n{shown}")
    record(f"wire: {setting.name}: wrk", float(found[1]), "polls/s", f"wire: {setting.name}: {YARDSTICK}")


if __name__ == "__main__":
    raise SystemExit(main())
