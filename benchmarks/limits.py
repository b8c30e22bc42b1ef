"""How much of a service's limit is used and how much is refused, without a flag, on virtual time.

    python benchmarks/limits.py [--quick]

The real engine against simulated services (`limited.py`): rates over buckets of 1, 10 and 60 s and over fixed minutes,
of requests and of tokens, halved and doubled during the run, with honest and false headers; a cap of jobs in flight; two
batches of one process; refusals at random; rows that are always refused. Nothing here depends on the machine. `used` is
what was accepted as a share of what the service allowed, from the second minute to the last; a bucket that is wider than
that may give more than it is filled with.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from batchrun.core.jobs.job import About, Row  # noqa: E402 - runs from a checkout as well
from batchrun.simulator.limits import Allowance  # noqa: E402 - as above
from benchmarks.limited import FixedMinutes, Limit, Service, World, claiming, honest  # noqa: E402 - as above
from benchmarks.results import record  # noqa: E402 - as above

RPM = 3_000
WINDOWS = (1, 10, 60)


def rows(count: int, prefix: str = "row", tokens: Callable[[int], int] = lambda _: 0) -> list[Row]:
    """Rows of one model at one endpoint."""
    return [Row(f"{prefix}-{i}", About("gpt-5", tokens=tokens(i), path="/responses")) for i in range(count)]


def sized(count: int) -> list[Row]:
    """Rows of 100 to 20,000 tokens, as many small as large ones on a logarithmic scale."""
    chance = random.Random(3)
    sizes = [int(100 * 200 ** chance.random()) for _ in range(count)]
    return rows(count, tokens=sizes.__getitem__)


def requests(window: float, rpm: float = RPM, now: float = 0.0) -> dict[str, Limit]:
    return {"requests": Allowance(rpm, window, now)}


def tokens(window: float, tpm: float) -> dict[str, Limit]:
    return {"tokens": Allowance(tpm, window, 0.0)}


Scenario = tuple[str, World, float, float, float]
"""Its name, the world, when to stop, and what is counted: from then on, units a minute that the service allows."""


def scenarios(count: int) -> Iterator[Scenario]:
    """All of them, with so many rows."""
    for window in WINDOWS:
        yield f"bucket of {window} s", World(Service(requests(window)), rows(count)), 900, 60, RPM
    for asked in ("honest", "none"):
        fixed = Service({"requests": FixedMinutes(RPM, -20.0)}, retry_after=asked)
        yield f"fixed minutes, Retry-After: {asked}", World(fixed, rows(count)), 900, 60, RPM
    for window in WINDOWS:
        half = Service(requests(window), [(180.0, requests(window, RPM / 2, 180.0))])
        yield f"bucket of {window} s, halved", World(half, rows(count)), 300, 180, RPM / 2
        twice = Service(requests(window), [(180.0, requests(window, RPM * 2, 180.0))])
        yield f"bucket of {window} s, doubled", World(twice, rows(2 * count)), 300, 180, RPM * 2
    yield "honest headers", World(Service(requests(1), headers=honest), rows(count)), 900, 60, RPM
    yield (
        "headers that claim 1%",
        World(Service(requests(10), headers=claiming(requests=30)), rows(count)),
        900,
        60,
        RPM,
    )
    lying = claiming(requests=300_000)
    yield "headers that claim a hundred times", World(Service(requests(10), headers=lying), rows(count)), 900, 60, RPM
    for window in WINDOWS:
        two = World(Service(requests(window)), rows(count // 2, "a"), rows(count // 2, "b"))
        yield f"bucket of {window} s, two batches", two, 900, 60, RPM
    yield "5% of 503 at random", World(Service(requests(10), fails=0.05), rows(count)), 900, 60, RPM
    for rpm in (300, 60, 10, 3):
        yield f"{rpm} a minute", World(Service(requests(1, rpm)), rows(1_000)), 1_500, 60, rpm
    yield "at most 100 jobs of 60 s", World(Service(most_jobs=100, duration=60.0), rows(count // 4)), 9_000, 0, 100


def token_scenarios(count: int) -> Iterator[Scenario]:
    """Limits of tokens, named in the refusal or not."""
    for tpm in (15e6, 4e6):
        for window in WINDOWS:
            for named in (True, False):
                name = f"{tpm / 1e6:.0f} million tokens, bucket of {window} s{'' if named else ', not named'}"
                yield name, World(Service(tokens(window, tpm), named=named), sized(count)), 400, 60, tpm


def measure(scenario: Scenario, unit: str) -> None:
    """Run one, and record how much was used and refused."""
    name, world, until, since, limit = scenario
    world.run(until)
    last = min(until, world.last_second)
    counts = world.tokens if unit == "tokens" else world.accepted
    used = sum(counts[second] for second in range(int(since), int(last))) / (limit / 60 * (last - since))
    record(
        f"limits: used of {name}", 100 * used, "%",
        refused_first_minute=round(100 * world.share_refused(0, 60), 2),
        refused=round(100 * world.share_refused(since, last), 2), seconds=round(world.now),
    )  # fmt: skip


def bad_rows() -> None:
    """One row of 100 and ten of 400 that are always refused with 429: when the others are done, and when these end."""
    for count, bad in ((100, range(50, 51)), (400, range(0, 400, 40))):
        keys = frozenset(f"row-{i}" for i in bad)
        for duration in (0.0, 20.0):
            worlds = [
                World(Service(bad=keys, duration=duration), rows(count)),
                World(Service(duration=duration), rows(count)),
            ]
            last = [max(at for key, (at, _) in world.run(7_200).ended.items() if key not in keys) for world in worlds]
            ends = [at for key, (at, state) in worlds[0].ended.items() if key in keys and state == "rate_limited"]
            record(
                f"limits: {len(keys)} of {count} rows always refused, jobs of {duration:.0f} s: the others are done after",
                last[0], "s", without_them=round(last[1], 1), ended=len(ends), last_ends_after=round(max(ends), 1),
            )  # fmt: skip


def over_time() -> None:
    """A limit of 3,000 a minute that is halved after 3 minutes and doubled fourfold after 5: what the chart shows."""
    changes = [(180.0, requests(1, RPM / 2, 180.0)), (300.0, requests(1, RPM * 2, 300.0))]
    world = World(Service(requests(1), changes), rows(40_000)).run(540)
    step = 5
    for name, counts in (("accepted", world.accepted), ("refused", world.refused)):
        series = [sum(counts[at + i] for i in range(step)) / step for at in range(0, 540, step)]
        record(f"limits: {name} over time", max(series), "per s", step=step, series=[round(one, 1) for one in series])


def main(arguments: list[str]) -> int:
    quick = "--quick" in arguments
    for scenario in scenarios(9_000 if quick else 20_000):
        measure(scenario, "requests")
    for scenario in token_scenarios(6_000 if quick else 12_000):
        measure(scenario, "tokens")
    bad_rows()
    over_time()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
