"""The chart of `pacing.py`: polls per job by mean lag, one panel a workload."""

from __future__ import annotations

from html import escape
from math import log
from typing import Any

from benchmarks.charts import INK, OTHERS, OURS, PALE, WIDTH

BLACK, AMBER = "#0f172a", "#b45309"
LINES = (  # the field in results.jsonl, what it is called, how it is drawn
    ("backoff", "backoff × 1.5, best first gap", f'stroke="{AMBER}" stroke-width="1.5"'),
    ("fixed", "best fixed gap", f'stroke="{OTHERS}" stroke-width="2"'),
    ("least", "least possible", f'stroke="{BLACK}" stroke-width="1.5" stroke-dasharray="4 3"'),
    ("polls", "batchrun", f'stroke="{OURS}" stroke-width="2.5"'),
)
MARKS = {"every 2 s": "2 s", "every 5 s": "5 s", "as Google": "G"}
COLUMNS, ACROSS, DOWN, TOP = 3, 290, 208, 88
LEFT, WIDE, HIGH = 46, 228, 140  # of the drawing within its panel
NARROWEST, WIDEST = 0.014, 0.3  # lags shown, as shares of the mean duration
TICKS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)

Found = dict[str, dict[str, Any]]


def chart(found: Found) -> str | None:
    """None where nothing was measured."""
    panels = [
        (name.removeprefix("pacing: ").removesuffix(", intervals"), one)
        for name, one in found.items()
        if name.startswith("pacing: ") and name.endswith(", intervals") and "first_backoff" in one
    ]
    if not panels:
        return None
    height = TOP + DOWN * ((len(panels) + COLUMNS - 1) // COLUMNS)
    one = panels[0][1]
    title = "Polls per job by mean lag from a job's end to its record"
    where = (
        f"{one['date']}, Python {one['python']}, virtual time, 500 jobs in flight, durations learned from polls alone; "
        "lag in % of the mean duration"
    )
    drawn = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="{escape(title)}">'
        ),
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff" stroke="{PALE}"/>',
        f'<text x="14" y="24" font-size="15" font-weight="600" fill="{BLACK}">{escape(title)}</text>',
        f'<text x="14" y="42" font-size="11" fill="{INK}">{escape(where)}</text>',
        *_legend(),
    ]
    for place, (name, one) in enumerate(panels):
        left, top = 14 + ACROSS * (place % COLUMNS), TOP + DOWN * (place // COLUMNS)
        drawn += _panel(left, top, name, one, found)
    return "\n".join([*drawn, "</svg>", ""])


def _legend() -> list[str]:
    drawn, x = [], 14
    for _, shown, style in reversed(LINES):
        drawn.append(f'<path d="M{x} 60h24" fill="none" {style}/>')
        drawn.append(f'<text x="{x + 30}" y="64" font-size="11" fill="{INK}">{escape(shown)}</text>')
        x += 50 + 6 * len(shown)
    drawn.append(f'<circle cx="{x}" cy="60" r="3" fill="{INK}"/>')
    shown = "every 2 or 5 s; G: 5 s × 1.5 to 45 s"
    return [*drawn, f'<text x="{x + 8}" y="64" font-size="11" fill="{INK}">{shown}</text>']


def _panel(left: int, top: int, name: str, one: dict[str, Any], found: Found) -> list[str]:
    mean = one["mean_duration"]
    lines = [
        (style, [(lag / mean, polls) for lag, polls in zip(one["lags"], one[field], strict=True) if polls is not None])
        for field, _, style in LINES
    ]
    marks = [
        (shown, mark["lag"] / mean, mark["value"])
        for rule, shown in MARKS.items()
        if (mark := found.get(f"pacing: {name}, {rule}")) and NARROWEST < mark["lag"] / mean < WIDEST
    ]
    polls = [polls for _, points in lines for _, polls in points] + [polls for *_, polls in marks]
    least, most = min(polls) / 1.1, max(polls) * 1.15

    def at(lag: float, polls: float) -> tuple[float, float]:
        x = left + LEFT + WIDE * log(lag / NARROWEST) / log(WIDEST / NARROWEST)
        return x, top + 20 + HIGH * log(most / polls) / log(most / least)

    shown = f"{name} (mean {mean:,.0f} s)" if mean >= 10 else f"{name} (mean {mean:.1f} s)"
    drawn = [f'<text x="{left}" y="{top + 8}" font-size="12" font-weight="600" fill="{BLACK}">{escape(shown)}</text>']
    last = float("inf")
    for tick in TICKS:
        y = at(0.1, tick)[1]
        if least < tick < most and last - y > 15:
            last = y
            drawn.append(f'<path d="M{left + LEFT} {y:.1f}h{WIDE}" stroke="{PALE}"/>')
            drawn.append(
                f'<text x="{left + LEFT - 6}" y="{y + 4:.1f}" font-size="11" text-anchor="end" fill="{INK}">{tick}</text>'
            )
    for lag in (0.02, 0.05, 0.1, 0.2):
        x = at(lag, 1.0)[0]
        drawn.append(f'<path d="M{x:.1f} {top + 20}v{HIGH}" stroke="{PALE}"/>')
        drawn.append(f'<text x="{x - 9:.1f}" y="{top + 34 + HIGH}" font-size="11" fill="{INK}">{lag:.0%}</text>')
    for style, points in lines:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (at(*point) for point in sorted(points)))
        if path:
            drawn.append(f'<path d="M{path}" fill="none" stroke-linejoin="round" {style}/>')
    drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{OURS}"/>' for x, y in (at(*p) for p in lines[-1][1])]
    for label, lag, value in marks:
        x, y = at(lag, value)
        drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{INK}"/>')
        drawn.append(f'<text x="{x + 5:.1f}" y="{y - 4:.1f}" font-size="10" fill="{INK}">{label}</text>')
    return drawn
