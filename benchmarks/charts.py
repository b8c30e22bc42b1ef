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
REFUSED = "#dc2626"
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


LIMIT_OVER_TIME = ((0, 180, 50.0), (180, 300, 25.0), (300, 540, 100.0))
"""From when to when the simulated service of benchmarks/limits.py takes how many per second."""


def learned_rate(found: dict[str, dict[str, Any]]) -> str | None:
    """Submits accepted and refused per second over time, and the limit of the service."""
    accepted, refused = found.get("limits: accepted over time"), found.get("limits: refused over time")
    if accepted is None or refused is None:
        return None
    step, left, right, top, bottom = accepted["step"], 60, 20, 62, 300
    seconds, most = step * len(accepted["series"]), 110.0
    title = "Submits per second that a service takes, learned without a flag"

    def x(at: float) -> float:
        return left + (WIDTH - left - right) * at / seconds

    def y(rate: float) -> float:
        return bottom - (bottom - top) * rate / most

    def line(points: Iterable[tuple[float, float]], colour: str, width: float) -> str:
        path = " ".join(f"{x(at):.1f},{y(rate):.1f}" for at, rate in points)
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'

    limit = [(at, rate) for begin, end, rate in LIMIT_OVER_TIME for at in (begin, end)]
    drawn = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 50}" width="{WIDTH}" '
            f'height="{bottom + 50}" font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="{title}">'
        ),
        f'<rect width="{WIDTH}" height="{bottom + 50}" rx="6" fill="#ffffff" stroke="{PALE}"/>',
        f'<text x="14" y="24" font-size="15" font-weight="600" fill="#0f172a">{title}</text>',
        (
            f'<text x="14" y="42" font-size="11" fill="{INK}">{accepted["date"]}, virtual time; limits of 3,000, 1,500 and '
            "6,000 a minute over 1 s; means of 5 s; no Retry-After, no rate headers</text>"
        ),
    ]
    for rate in (0, 25, 50, 75, 100):
        drawn += [
            f'<line x1="{left}" x2="{WIDTH - right}" y1="{y(rate):.1f}" y2="{y(rate):.1f}" stroke="{PALE}"/>',
            f'<text x="{left - 8}" y="{y(rate) + 4:.1f}" text-anchor="end" fill="{INK}">{rate}/s</text>',
        ]
    drawn += [
        f'<text x="{x(60 * minute) - 12:.1f}" y="{bottom + 18}" fill="{INK}">{minute} min</text>' for minute in range(9)
    ]
    for name, series, colour, width in (
        ("limit of the service", limit, OTHERS, 3.0),
        ("accepted", [(step * i + step / 2, rate) for i, rate in enumerate(accepted["series"])], OURS, 1.5),
        ("refused", [(step * i + step / 2, rate) for i, rate in enumerate(refused["series"])], REFUSED, 1.5),
    ):
        drawn.append(line(series, colour, width))
        at = {"limit of the service": 80, "accepted": 260, "refused": 380}[name]
        drawn += [
            f'<rect x="{at}" y="{bottom + 30}" width="18" height="4" fill="{colour}"/>',
            f'<text x="{at + 24}" y="{bottom + 37}" fill="{INK}">{name}</text>',
        ]
    return "\n".join([*drawn, "</svg>", ""])


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
        "limits": learned_rate(found),
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
