"""The check of an input: rows per second and peak memory for 1k and 100k rows, and 5 million with --full.

    python benchmarks/source.py [--full]

Goals: over 200,000 rows per second, under 40 bytes of memory a row. Every run has a process of its own, its
peak is what its resident memory grew by over that of the same check of a single row. Rows are as
`json.dumps` writes them, 250 bytes; `bare` rows have no custom_id, so that their keys are hashes. Each
speed stands next to orjson alone, which reads the same lines in the same process and does nothing else;
`by_cpu` counts CPU seconds, for a machine that has other work.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "src")]

import orjson  # noqa: E402 - after the path
from results import record  # noqa: E402

from batchrun.edge.source import check  # noqa: E402

PROMPT = "Summarise the following text in one sentence: the quick brown fox jumps over the lazy dog {}"


def write(path: Path, rows: int, *, bare: bool) -> None:
    with path.open("w") as file:
        for number in range(rows):
            body = {"model": "gpt-5-mini", "input": PROMPT.format(number * 7919), "max_output_tokens": 200}
            batch = {"custom_id": f"request-{number}", "method": "POST", "url": "/v1/responses", "body": body}
            file.write(json.dumps(body if bare else batch) + "\n")


def measure(path: str) -> None:
    """In a process of its own: seconds of the check, CPU seconds of it, peak memory in KiB, seconds of orjson alone."""
    began, began_cpu = time.perf_counter(), time.process_time()
    with check(path) as source:
        took, cpu = time.perf_counter() - began, time.process_time() - began_cpu
        assert source.report.problems.total == 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    with Path(path).open("rb") as file:
        for line in file:
            orjson.loads(line)
    print(json.dumps([took, cpu, peak, time.perf_counter() - began]))


def run(path: Path) -> list[float]:
    command = [sys.executable, __file__, "--measure", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="5 million rows as well (1.3 GB in a temporary folder)")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write(path, 1, bare=False)
        floor = run(path)[2]
        for bare in (False, True):
            for rows in (1_000, 100_000, 5_000_000) if options.full else (1_000, 100_000):
                write(path, rows, bare=bare)
                runs = [run(path) for _ in range(1 if rows > 1_000_000 else 3)]
                name = f"source.check.{'bare' if bare else 'batch'}.{rows}"
                took, cpu, _, alone = map(min, zip(*runs, strict=True))
                grown = (max(one[2] for one in runs) - floor) * 1024
                record(f"{name}.orjson_alone", rows / alone, "rows/s")
                record(f"{name}.speed", rows / took, "rows/s", f"{name}.orjson_alone", by_cpu=round(rows / cpu))
                record(f"{name}.peak_memory", grown, "bytes", bytes_a_row=round(grown / rows, 1))


if __name__ == "__main__":
    main()
