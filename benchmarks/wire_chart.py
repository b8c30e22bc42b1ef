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
    "transport": "httpx on batchrun's wire",
    "aiohttp": "aiohttp",
    "httpx_aiohttp": "httpx on aiohttp",
    "httpx2": "httpx2",
    "openai": "openai SDK",
    "httpx": "httpx",
}
COLUMNS = {
    "plain, 100": "plain, 100 connections, {loop}, 720 bytes",
    "plain, 1,000": "plain, 1000 connections, {loop}, 720 bytes",
    "TLS, 100": "TLS, 100 connections, {loop}, 720 bytes",
    "after 200 ms, 1,000": "plain, 1000 connections, {loop}, after 200 ms",
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


def table(results: Path = HERE / "results.jsonl") -> str:
    """Polls per second, and microseconds of processor time each."""
    found = latest(results)
    lines = ["| client | loop | " + " | ".join(COLUMNS) + " |", "| --- " * (len(COLUMNS) + 2) + "|"]
    for peer, label in LABELS.items():
        for loop in LOOPS:
            cells = []
            for pattern in COLUMNS.values():
                one = found.get(f"{pattern.format(loop=loop)}: {peer}")
                cpu = "" if one is None or "cpu_us" not in one else f" ({one['cpu_us']:,.0f} µs)"
                cells.append("" if one is None else f"{one['value']:,.0f}{cpu}")
            if any(cells) and (peer != "wrk" or loop == LOOPS[0]):
                lines.append(f"| {label} | {'' if peer == 'wrk' else loop} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(results: Path, chart: Path) -> None:
    """Bars of polls per second at 100 and at 1,000 connections on uvloop."""
    found = latest(results)
    wide, high, left, top = 720, 22, 190, 34
    groups = [("100 connections", COLUMNS["plain, 100"]), ("1,000 connections", COLUMNS["plain, 1,000"])]
    bars = [
        (title, [(LABELS[peer], one["value"]) for peer in LABELS if (one := found.get(f"{pattern.format(loop='uvloop')}: {peer}"))])
        for title, pattern in groups
    ]  # fmt: skip
    most = max((value for _, group in bars for _, value in group), default=1.0)
    parts, y = [], top
    for title, group in bars:
        parts.append(f'<text x="10" y="{y}" class="title">Polls a second, {title}, uvloop</text>')
        y += 12
        for label, value in group:
            length = max(1.0, value / most * (wide - left - 90))
            kind = "ours" if "batchrun" in label else "other"
            parts.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{label}</text>')
            parts.append(f'<rect x="{left}" y="{y + 3}" width="{length:.1f}" height="{high - 6}" class="{kind}"/>')
            parts.append(f'<text x="{left + length + 6:.1f}" y="{y + 15}">{value:,.0f}</text>')
            y += high
        y += top
    style = "text{font:12px sans-serif;fill:#57606a}.title{font-weight:bold}.ours{fill:#2f81f7}.other{fill:#b7bdc5}"
    size = f'width="{wide}" height="{y - 10}" viewBox="0 0 {wide} {y - 10}"'
    chart.parent.mkdir(exist_ok=True)
    chart.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{style}</style>\n' + "\n".join(parts) + "\n</svg>\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    draw(HERE / "results.jsonl", HERE / "charts" / "wire.svg")
    print(table())
