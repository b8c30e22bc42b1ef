"""The charts of the README and the help topics, drawn from results.jsonl: plain SVG, readable on light and on dark pages.

python benchmarks/charts.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from benchmarks.results import HERE, latest  # noqa: E402 - runs from a checkout as well

Bar = tuple[str, float, str, bool]  # label, value, what is written next to it, ours

WIDTH, LABELS, VALUES, ROW = 900, 300, 212, 26
OURS, OTHERS, INK, PALE = "#2563eb", "#94a3b8", "#475569", "#e2e8f0"
CLIENTS = (
    ("whole runner, uvloop", "batchrun, all included (uvloop)"),
    ("whole runner, asyncio", "batchrun, all included (asyncio)"),
    ("aiohttp, uvloop", "bare aiohttp loop (uvloop)"),
    ("aiohttp, asyncio", "bare aiohttp loop (asyncio)"),
    ("lm-deluge, asyncio", "lm-deluge, no waits (asyncio)"),
    ("httpx on aiohttp, asyncio", "bare httpx loop on aiohttp (asyncio)"),
    ("httpx2, asyncio", "bare httpx2 loop (asyncio)"),
    ("openai SDK, asyncio", "bare openai SDK loop (asyncio)"),
    ("httpx, asyncio", "bare httpx loop (asyncio)"),
)
POLLING = {
    "learned gaps": "learned",
    "learned gaps, a longer lag": "learned, --lag 19%",
    "the backoff as it stands": "backoff",
    "looks every 2 s": "polls every 2 s",
    "looks every 5 s": "polls every 5 s",
}
"""How jobs were polled: as results.jsonl names it, and as it is shown."""


def bars(title: str, result: str, rows: Iterable[Bar]) -> str:
    """A chart of horizontal bars, each with its value."""
    rows = list(rows)
    most = max(value for _, value, _, _ in rows)
    height = 62 + ROW * len(rows)
    room = WIDTH - LABELS - VALUES
    drawn = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="{escape(title)}">'
        ),
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff" stroke="{PALE}"/>',
        f'<text x="14" y="24" font-size="15" font-weight="600" fill="#0f172a">{escape(title)}</text>',
        f'<text x="14" y="42" font-size="11" fill="{INK}">{escape(result)}</text>',
    ]
    for place, (label, value, shown, ours) in enumerate(rows):
        y = 54 + ROW * place
        length = max(1.0, room * value / most)
        drawn += [
            f'<text x="{LABELS - 8}" y="{y + 14}" text-anchor="end" fill="{INK}">{escape(label)}</text>',
            f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{ROW - 7}" rx="2" fill="{OURS if ours else OTHERS}"/>',
            f'<text x="{LABELS + length + 6:.1f}" y="{y + 14}" fill="#0f172a">{escape(shown)}</text>',
        ]
    return "\n".join([*drawn, "</svg>", ""])


def polling(found: dict[str, dict[str, Any]], what: str) -> str | None:
    """Polls per second of all clients in one setting."""
    rows = [
        (shown, found[f"polling: {name}, {what}"]) for name, shown in CLIENTS if f"polling: {name}, {what}" in found
    ]
    if not rows:
        return None
    result = _where(rows[0][1], "median of alternating rounds; µs: CPU time per poll")
    return bars(
        f"Polls per second over {what}",
        result,
        (
            (shown, one["value"], f"{one['value']:,.0f}/s, {one['cpu_us']:,.0f} µs", shown.startswith("batchrun"))
            for shown, one in rows
        ),
    )


def sizes(found: dict[str, dict[str, Any]]) -> list[tuple[int, str]]:
    """The numbers of jobs in flight that were measured, as numbers and as they are spelled."""
    start, end = "scale: memory of a job, ", " jobs in flight"
    spelled = [name[len(start) : -len(end)] for name in found if name.startswith(start)]
    return sorted((int(one.replace(",", "")), one) for one in spelled)


def scaling(found: dict[str, dict[str, Any]]) -> str | None:
    """What a poll costs and a job weighs, by the number of jobs in flight."""
    rows: list[Bar] = []
    last: dict[str, Any] = {}
    for _, spelled in sizes(found):
        last = found[f"scale: processor time of a look, {spelled} jobs in flight"]
        memory = found[f"scale: memory of a job, {spelled} jobs in flight"]["value"]
        shown = f"{last['value']:.0f} µs" + (f", {memory:,.0f} bytes per job" if memory < 2_000 else "")
        rows.append((f"{spelled} jobs in flight", last["value"], shown, True))
    if not rows:
        return None
    return bars("CPU time per poll, by jobs in flight", _where(last, "one process; resident memory of all of it"), rows)


def lags(found: dict[str, dict[str, Any]]) -> str | None:
    """How long a finished job waits for its record, and how many polls that took."""
    rows: list[Bar] = []
    last: dict[str, Any] = {}
    for name, shown in POLLING.items():
        if (last := found.get(f"end to end: lag of a record, {name}", {})) == {}:
            return None
        polls = found[f"end to end: looks a job, {name}"]["value"]
        rows.append((shown, last["value"], f"{last['value']:.2f} s, {polls:.1f} polls per job", not rows))
    return bars(
        "Lag from a job's end to its record", _where(last, f"{last['rows']:,} jobs, log-normal durations"), rows
    )


def _where(one: dict[str, Any], more: str) -> str:
    return f"{one['date']}, {one['machine']} (shared), Python {one['python']}; {more}"


def draw(folder: Path = HERE / "charts") -> list[Path]:
    """Draw what there are results for; returns the files."""
    from benchmarks import pacing_chart  # it takes its colours from here

    found = latest()
    charts = {
        "polling-100": polling(found, "100 connections"),
        "polling-1000": polling(found, "1,000 connections"),
        "scale": scaling(found),
        "lag": lags(found),
        "pacing": pacing_chart.chart(found),
    }
    folder.mkdir(exist_ok=True)
    drawn = []
    for name, chart in charts.items():
        if chart is not None:
            path = folder / f"{name}.svg"
            path.write_text(chart, encoding="utf-8")
            drawn.append(path)
    return drawn


if __name__ == "__main__":
    for path in draw():
        print(path)
