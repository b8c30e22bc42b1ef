"""All benchmarks, one after the other: `python -m benchmarks`, half an hour or more; `--quick` takes a minute or two.

Every result is printed as a line of JSON and kept in results.jsonl; then the charts are drawn. Clients to be
compared with come with `pip install '.[bench]'`; those that are missing are skipped, and so is what needs nginx or wrk.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.charts import draw

HERE = Path(__file__).parent
ALL: tuple[tuple[str, list[str], list[str] | None], ...] = (  # script, its arguments, those of --quick (None: left out)
    ("polling.py", [], ["--quick"]),
    ("end_to_end.py", [], ["--quick"]),
    ("scale.py", [], ["--quick"]),
    ("pacing.py", [], ["--quick"]),
    ("wire.py", [], None),
    ("limits.py", [], ["--quick"]),
    ("core.py", [], None),
    ("journal.py", [], None),
    ("source.py", [], None),
    ("simulator.py", [], None),
    ("startup.py", [], []),
)


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--quick"]):
        print(f"expected nothing or --quick, got {' '.join(arguments)}\n\n{__doc__}", file=sys.stderr)
        return 2
    failed = []
    for script, given, quick in ALL:
        chosen = quick if arguments else given
        if chosen is None:
            continue
        begun = time.monotonic()
        done = subprocess.run([sys.executable, str(HERE / script), *chosen], check=False)
        print(f"{script}: {time.monotonic() - begun:.0f} s, exit code {done.returncode}", file=sys.stderr)
        failed += [script] * bool(done.returncode)
    for path in draw():
        print(f"drawn: {path}", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
