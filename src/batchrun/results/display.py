"""What records say of themselves at a prompt: how many ended how, what it took, what to do, what to type next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from batchrun.core.taxonomy.explain import WORTH_ANOTHER, advice_of, worst_first
from batchrun.core.taxonomy.states import State
from batchrun.core.text.printable import visible
from batchrun.core.text.units import many

if TYPE_CHECKING:
    from batchrun.results.record import Record
    from batchrun.results.records import Records

_SHOWN = 10
"""Records that are shown one by one in a notebook."""
_TEXT = 160
_STYLE = "text-align:left;vertical-align:top;white-space:pre-wrap"


def story(records: Records) -> str:
    """As text, a few lines."""
    return "\n".join(_lines(records))


def page(records: Records) -> str:
    """As HTML for a notebook; every text from outside is escaped."""
    if not len(records):
        return f"<pre>{escape(story(records))}</pre>"
    head, *rest = _lines(records)
    cells = "".join(_row(one) for one in records[:_SHOWN])
    more = len(records) - _SHOWN
    below = f"<div>… and {more:,} more</div>" if more > 0 else ""
    told = "".join(f"<div>{escape(line)}</div>" for line in rest)
    heads = "".join(f'<th style="{_STYLE}">{name}</th>' for name in ("row", "state", "text or error"))
    return (
        f'<div><b>{escape(head)}</b><div style="margin:0.4em 0">{told}</div>'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{cells}</tbody></table>{below}</div>"
    )


def _row(record: Record) -> str:
    error = record.error
    told = f"{error.code or error.kind}: {error.message}" if error is not None else record.text or ""
    if error is None and record.warnings:
        told = f"[{', '.join(record.warnings)}] {told}"
    texts = (visible(record.key, 60), record.state.value, visible(told, _TEXT))
    return "<tr>" + "".join(f'<td style="{_STYLE}">{escape(text)}</td>' for text in texts) + "</tr>"


def _lines(records: Records) -> Iterator[str]:
    states = Counter(one.state for one in records)
    told = ", ".join(f"{states[state]:,} {state.value}" for state in State if states[state])
    odd = sum(one.ok and bool(one.warnings) for one in records)
    if odd:
        told += f" ({odd:,} succeeded with warnings)"
    yield f"{many(len(records), 'record')}: {told}" if states else "0 records"
    usage = records.usage
    if usage.total_tokens is not None:
        parts = [
            f"{count:,} {name}" for name, count in (("in", usage.input_tokens), ("out", usage.output_tokens)) if count
        ]
        yield f"{usage.total_tokens:,} tokens" + (f": {', '.join(parts)}" if parts else "")
    codes = records.codes
    for state, code, rows in worst_first(codes):
        yield f"{rows:,} × {visible(code, 60)} ({state}): {advice_of(state, code)}"
    if len(codes) > 3:
        yield f"… and {len(codes) - 3:,} more codes: .codes"
    yield from _next(records, states)
    if records.going_on:
        going_on = many(records.going_on, "job")
        yield f"{going_on} left to run on over there, billed; next: the same call without detach=True collects the records"
    if records.path is not None and (states or records.going_on):
        yield f"kept in {visible(str(records.path), 2_000)}"


def _next(records: Records, states: Counter[State]) -> Iterator[str]:
    again = [state.value for state in WORTH_ANOTHER if states[state]]
    if again:
        rows = many(sum(states[State(state)] for state in again), "row")
        yield f"next: the same call with retry_failed={again!r} tries {rows} again"
    if states[State.UNCONFIRMED]:
        yield "next: the same call with resubmit_unconfirmed=True sends the unconfirmed again; may pay twice"
    if len(records) > states[State.SUCCEEDED] and not again:
        yield "next: .failed[0].error says more, .failed[0].raise_for_state() raises it"
