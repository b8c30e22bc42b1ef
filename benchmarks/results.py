"""One JSON line per result, printed and appended to results.jsonl next to this file."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def record(name: str, value: float, unit: str, ratio_to: str | None = None, **facts: object) -> None:
    """Print and keep one result. `ratio_to` names the result of the same run that it is to be compared with."""
    line = json.dumps(
        {
            "name": name,
            "value": float(f"{value:.4g}"),
            "unit": unit,
            "ratio_to": ratio_to,
            "commit": _commit(),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            **facts,
        },
        ensure_ascii=False,
    )
    print(line, flush=True)
    with (HERE / "results.jsonl").open("a", encoding="utf-8") as kept:
        kept.write(line + "\n")


def latest() -> dict[str, dict[str, Any]]:
    """The last result of each name."""
    try:
        lines = (HERE / "results.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    return {found["name"]: found for found in map(json.loads, lines)}


@cache
def _commit() -> str | None:
    """The commit that was measured, marked where anything but the results themselves was changed since."""
    commit = _git("rev-parse", "--short=10", "HEAD")
    changed = _git(
        "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)benchmarks/results.jsonl"
    )
    return f"{commit}-dirty" if commit and changed else commit or None


def _git(*command: str) -> str:
    return subprocess.run(["git", *command], cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()
