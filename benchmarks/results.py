"""One measured figure: printed as a JSON line and appended to results.jsonl."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path

RESULTS = Path(__file__).with_name("results.jsonl")


def record(name: str, value: float, unit: str, ratio_to: str | None = None, **facts: object) -> None:
    """Keep `value`; `ratio_to` names the figure of the same run that it is compared with."""
    line = {
        "name": name,
        "value": float(f"{value:.4g}"),
        "unit": unit,
        "ratio_to": ratio_to,
        **facts,
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
    text = json.dumps(line)
    print(text, flush=True)
    with RESULTS.open("a") as file:
        file.write(text + "\n")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()
