"""One line of JSON a result, printed and kept in ``results.jsonl`` beside this file."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path

RESULTS = Path(__file__).with_name("results.jsonl")


def record(name: str, value: float, unit: str, ratio_to: str | None = None, **facts: object) -> None:
    """Print the result and append it. `ratio_to` names the result of the same run that it is a ratio to."""
    line = {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "ratio_to": ratio_to,
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        **facts,
    }
    text = json.dumps(line)
    print(text, flush=True)
    with RESULTS.open("a", encoding="utf-8") as results:
        results.write(text + "\n")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
