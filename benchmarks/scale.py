"""Jobs in flight, from a thousand to a million, in one process: what they weigh, what a poll costs, how late it is.

    python benchmarks/scale.py [--sizes 1k,10k,100k,1m] [--rate POLLS_A_SECOND] [--seconds S] [--quick]

For each size a batch is put in flight and left, taken up by another process that polls its jobs `--rate` times
a second (each again and again, none ever ends), measured, killed with SIGKILL, and taken up once more. The rate is
8,000, or half of what this machine gives now at full speed, if that is less: a loop that is always behind says
nothing of lateness. Up to
100,000 jobs are sent by `--detach`; beyond that the journal is written directly, as such a run would have left
it, for a million submits take minutes and say nothing new. The service is a process of its own that keeps nothing of
a job (``stub.py``). Memory is resident and in total: input index, journal's fold, jobs, agenda, connections.

Lateness is from the moment at which a poll is due to the moment at which its request is made, of one job in
sixteen. What a poll costs at the largest size against the smallest is measured in turn, three rounds. Pauses are those of Python's garbage collector, as the command keeps it away, and as it is by default.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from batchrun.core.journal.entries import Intent, Started, Submitted, mark  # noqa: E402
from batchrun.core.rows.parse import BodyFlags  # noqa: E402 - runs from a checkout as well
from batchrun.edge.source import check  # noqa: E402
from benchmarks import services, whole  # noqa: E402
from benchmarks.results import record  # noqa: E402
from benchmarks.stub import id_of  # noqa: E402

SENT_AT_MOST = 100_000
GROUP = 100  # rows whose entries share a sync
FIRST_NUMBER = 10**12  # of the jobs that are only written down; the service does not count so far
LONGEST_GAP = 300.0
ROUNDS = 3
MOST_LOOKS = 8_000.0


def sustainable(url: str, folder: str) -> float:
    """Polls per second that leave half of the processor free."""
    batch = Batch(folder, url, 2_000)
    batch.put_in_flight()
    settings = {"concurrency": 2_000, "poll_rate": 1e9, "poll_min": 0.001, "poll_max": 0.001, "connections": 100}
    found = batch.run(settings, jobs=2_000, seconds=2.0, collector=True)
    return float(min(MOST_LOOKS, found["polls_per_s"] / 2))


class Batch:
    """The files of a batch of `jobs` rows in `folder`."""

    def __init__(self, folder: str, url: str, jobs: int) -> None:
        self.jobs = jobs
        self.input, self.output = f"{folder}/{jobs}.jsonl", f"{folder}/{jobs}.out"
        self._url = url
        with Path(self.input).open("w") as file:
            file.writelines(
                f'{{"custom_id":"row-{number:07}","body":{{"model":"gpt-5","input":"x"}}}}\n' for number in range(jobs)
            )

    def run(self, settings: dict[str, Any], **options: Any) -> dict[str, Any]:
        """One process over it."""
        settings = {"submits": 256, **settings}
        return whole.measured(url=self._url, input=self.input, output=self.output, settings=settings, **options)

    def put_in_flight(self) -> dict[str, Any]:
        """Send all rows, or write down that they were sent."""
        if self.jobs <= SENT_AT_MOST:
            return self.run({"detach": True})
        result = self.run({"detach": True, "limit": 1})
        with (
            check(self.input, BodyFlags.read(None, ())) as source,
            Path(f"{self.output}.journal").open("ab") as journal,
        ):
            place, at = journal.tell(), time.time()
            for lines in _groups(source, self.jobs, at):
                place += journal.write(mark(place) + b"".join(lines))
        return {"outcome": result["outcome"]}

    def watch(self, rate: float, seconds: float, **options: Any) -> dict[str, Any]:
        """Take it up, and look at its jobs `rate` times per second."""
        gap = min(max(self.jobs / rate, 0.05), LONGEST_GAP)
        settings = {"concurrency": self.jobs, "poll_rate": 1e9, "poll_min": gap, "poll_max": gap}
        return self.run(settings, jobs=self.jobs, seconds=seconds, **options)


def _groups(source: Any, jobs: int, at: float) -> Iterator[list[bytes]]:
    yield [Started(7, at, jobs).to_line()]
    for first in range(1, jobs, GROUP):  # row 0 was sent
        rows = [source.row(number) for number in range(first, min(first + GROUP, jobs))]
        intents = [Intent(row.key, 1, row.row_sha256, at).to_line() for row in rows]
        ids = [id_of(FIRST_NUMBER + number, None) for number in range(first, first + len(rows))]
        yield intents + [Submitted(row.key, 1, job_id, at).to_line() for row, job_id in zip(rows, ids, strict=True)]


def scale(jobs: int, url: str, server: int, rate: float, seconds: float, folder: str) -> Batch:
    """Measure one size; returns its batch, for the sizes to be compared in turn."""
    batch, what = Batch(folder, url, jobs), f"{jobs:,} jobs in flight"
    facts = {"load": round(os.getloadavg()[0], 1)}
    before = services.resident(server)
    sent = batch.put_in_flight()
    if jobs <= SENT_AT_MOST:
        record(
            f"scale: submits, to {what}",
            jobs / sent["took"],
            "submits/s",
            cpu_us=round(sent["cpu"] / jobs * 1e6, 1),
            **facts,
        )
    found = batch.watch(rate, seconds, lateness=True, collector=True, hold=True)
    weight = (found["resident"] - found["resident_before"]) / jobs
    record(f"scale: memory of a job, {what}", weight, "bytes", resident=found["resident"], **facts)
    cpu = found["cpu_per_poll"] * 1e6
    polls = round(found["polls_per_s"])
    record(
        f"scale: processor time of a look, {what}",
        cpu,
        "µs",
        polls_per_s=polls,
        share=round(found["cpu_share"], 3),
        **facts,
    )
    for at in (50, 99):
        record(
            f"scale: lateness of a look, p{at}, {what}", found[f"late_p{at}"] * 1e3, "ms", polls_per_s=polls, **facts
        )
    record(f"scale: longest stall of the loop, {what}", found["stall"] * 1e3, "ms", **facts)
    plain = batch.watch(rate, seconds, collector=False)
    record(f"scale: resumed after kill -9, {what}", plain["all_in_flight_after"], "s", **facts)
    record(f"scale: longest pause of the collector, {what}", found["pause"] * 1e3, "ms", **facts)
    record(
        f"scale: the same with Python's own thresholds, {what}",
        plain["pause"] * 1e3,
        "ms",
        stall=round(plain["stall"] * 1e3, 1),
        **facts,
    )
    record(f"scale: memory of the service, {what}", services.resident(server) - before, "bytes", **facts)
    return batch


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1k,10k,100k,1m")
    parser.add_argument("--rate", type=float, help="looks a second, all jobs together")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--quick", action="store_true", help="1k and 10k, a second each")
    options = parser.parse_args(arguments)
    sizes = [_count(word) for word in ("1k,10k" if options.quick else options.sizes).split(",")]
    seconds = 1.0 if options.quick else options.seconds
    least, most = min(sizes), max(sizes)
    batches: dict[int, Batch] = {}
    with services.stub() as (url, server), tempfile.TemporaryDirectory() as folder:
        rate = options.rate or sustainable(url, folder)
        for jobs in sizes:
            batches[jobs] = scale(jobs, url, server, rate, seconds, folder)
        if least < most:
            ratios = [
                batches[most].watch(rate, seconds, collector=True)["cpu_per_poll"]
                / batches[least].watch(rate, seconds, collector=True)["cpu_per_poll"]
                for _ in range(1 if options.quick else ROUNDS)
            ]
            record(
                f"scale: a look at {most:,} jobs in flight against one at {least:,}",
                statistics.median(ratios),
                "ratio",
                ratio_to=f"scale: processor time of a look, {least:,} jobs in flight",
                rounds=[round(ratio, 2) for ratio in ratios],
            )
    return 0


def _count(text: str) -> int:
    factor = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower(), 1)
    return int(text[:-1] if factor > 1 else text) * factor


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
