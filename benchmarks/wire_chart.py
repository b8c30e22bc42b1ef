"""The chart and the table of the benchmark `wire.py`, from results.jsonl; SVG by hand, no library needed.

python benchmarks/wire_chart.py
"""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent
LABELS = {
    "wrk": "wrk, in C",
    "seam": "batchrun",
    "transport": "httpx on batchrun",
    "aiohttp": "aiohttp",
    "httpx_aiohttp": "httpx on aiohttp",
    "httpx2": "httpx2",
    "openai": "openai SDK",
    "httpx": "httpx",
}
COLUMNS = {
    "100": "plain, 100 connections, {loop}, 720 bytes",
    "1,000": "plain, 1000 connections, {loop}, 720 bytes",
    "100, TLS": "TLS, 100 connections, {loop}, 720 bytes",
    "1,000, 200 ms": "plain, 1000 connections, {loop}, after 200 ms",
}
LOOPS = ("uvloop", "asyncio")


def latest(results: Path) -> dict[str, dict[str, float]]:
    """The last result of each name."""
    found = {}
    for line in results.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        if one["name"].startswith("wire: "):
            found[one["name"].removeprefix("wire: ")] = one
    return found


def table(results: Path = HERE / "results.jsonl") -> list[str]:
    """Lines: polls per second, then microseconds of CPU time per poll."""
    found = latest(results)
    return [
        *_columns(found, "polls per second", "value"),
        "",
        *_columns(found, "µs of CPU time per poll", "cpu_us"),
    ]


def _columns(found: dict[str, dict[str, float]], title: str, field: str) -> list[str]:
    rows = [(title, "loop", *COLUMNS)]
    for peer, label in LABELS.items():
        for loop in LOOPS:
            results = [found.get(f"{pattern.format(loop=loop)}: {peer}", {}) for pattern in COLUMNS.values()]
            cells = [f"{one[field]:,.0f}" if field in one else "" for one in results]
            if any(cells) and (peer != "wrk" or loop == LOOPS[0]):
                rows.append((label, "" if peer == "wrk" else loop, *cells))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [f"{cell:<{width}}" for cell, width in zip(row[:2], widths[:2], strict=True)]
            + [f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True)]
        ).rstrip()
        for row in rows
    ]


def draw(results: Path, chart: Path) -> None:
    """Bars of polls per second at 100 and at 1,000 connections on uvloop."""
    found = latest(results)
    wide, high, left, top = 760, 24, 240, 34
    groups = [("100 connections", COLUMNS["100"]), ("1,000 connections", COLUMNS["1,000"])]
    bars = [
        (title, [(LABELS[peer], one["value"]) for peer in LABELS if (one := found.get(f"{pattern.format(loop='uvloop')}: {peer}"))])
        for title, pattern in groups
    ]  # fmt: skip
    most = max((value for _, group in bars for _, value in group), default=1.0)
    parts, y = [], top
    for title, group in bars:
        parts.append(f'<text x="10" y="{y}" class="title">Polls per second, {title}, uvloop</text>')
        y += 12
        for label, value in group:
            length = max(1.0, value / most * (wide - left - 90))
            kind = "ours" if "batchrun" in label else "other"
            parts.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{label}</text>')
            parts.append(f'<rect x="{left}" y="{y + 3}" width="{length:.1f}" height="{high - 6}" class="{kind}"/>')
            parts.append(f'<text x="{left + length + 6:.1f}" y="{y + 15}">{value:,.0f}</text>')
            y += high
        y += top
    style = "text{font:13px sans-serif;fill:#334155}.title{font-weight:bold}.ours{fill:#2563eb}.other{fill:#94a3b8}"
    size = f'width="{wide}" height="{y - 10}" viewBox="0 0 {wide} {y - 10}"'
    chart.parent.mkdir(exist_ok=True)
    chart.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{style}</style>\n'
        f'<rect width="{wide}" height="{y - 10}" rx="6" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    draw(HERE / "results.jsonl", HERE / "charts" / "wire.svg")
    print("\n".join(table()))
