"""What importing costs a program, and its first verdict: fresh processes, against an interpreter that does nothing.

    python benchmarks/startup.py

Everything is measured in turn, 11 times; the figures are medians, in milliseconds of elapsed time.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from results import record

CODES = {
    "a bare interpreter": "pass",
    "import batchrun": "import batchrun",
    "import batchrun.taxonomy": "import batchrun.taxonomy",
    "the first verdict": "from batchrun import taxonomy; taxonomy.classify({'status': 'failed'})",
}
ROUNDS = 11


def elapsed(code: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - begun) * 1e3


def main() -> None:
    for code in CODES.values():
        elapsed(code)  # compiled, and in the memory of the system
    found: dict[str, list[float]] = {name: [] for name in CODES}
    for _ in range(ROUNDS):
        for name, code in CODES.items():
            found[name].append(elapsed(code))
    middle = {name: statistics.median(times) for name, times in found.items()}
    bare = "a bare interpreter"
    record(f"startup: {bare}", middle.pop(bare), "ms")
    for name, value in middle.items():
        over = value - statistics.median(found[bare])
        record(f"startup: {name}, over {bare}", over, "ms", ratio_to=f"startup: {bare}", rounds=ROUNDS)


if __name__ == "__main__":
    main()
