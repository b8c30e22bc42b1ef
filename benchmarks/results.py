"""One JSON line a result, printed and appended to results.jsonl beside this file."""

import json
import os
import platform
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def record(name: str, value: float, unit: str, ratio_to: str | None = None, **facts: object) -> None:
    """Print and keep one result. `ratio_to` names the result of the same run that it is to be compared with."""
    line = json.dumps(
        {
            "name": name,
            "value": float(f"{value:.4g}"),
            "unit": unit,
            "ratio_to": ratio_to,
            **facts,
            "commit": _commit(),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        },
        ensure_ascii=False,
    )
    print(line, flush=True)
    with (HERE / "results.jsonl").open("a", encoding="utf-8") as kept:
        kept.write(line + "\n")


def _commit() -> str | None:
    """The commit that was measured, marked where the tree had changes of its own."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
