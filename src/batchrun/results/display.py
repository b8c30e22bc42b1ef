"""Records shown at a prompt: how many ended how, tokens, what to do, what to type next."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from batchrun.core.responses.outcome import Usage
from batchrun.core.taxonomy.explain import WORTH_ANOTHER, advice_of, worst_first
from batchrun.core.taxonomy.rules import State
from batchrun.core.text.readable import many, visible
from batchrun.results.record import Record

_SHOWN = 10
"""Records that are shown one by one in a notebook."""
_TEXT = 160
_OPTION = re.compile(r"--([a-z]+(?:-[a-z]+)*)(?:(?<=--retry-failed) ([a-z_]+))?")
_STYLE = "text-align:left;vertical-align:top;white-space:pre-wrap"


def lines(
    records: Sequence[Record], usage: Usage, codes: Counter[tuple[str, str]], running_jobs: int, path: Path | None
) -> Iterator[str]:
    """As text, a few lines."""
    states = Counter(one.state for one in records)
    yield headline(records, states)
    if usage.total_tokens is not None:
        parts = [
            f"{count:,} {name}" for name, count in (("in", usage.input_tokens), ("out", usage.output_tokens)) if count
        ]
        yield f"{usage.total_tokens:,} tokens" + (f": {', '.join(parts)}" if parts else "")
    for state, code, rows in worst_first(codes):
        yield f"{rows:,} × {visible(code, 60)} ({state}): {_in_python(advice_of(state, code))}"
    if len(codes) > 3:
        yield f"… and {len(codes) - 3:,} more codes: .codes"
    yield from _next(records, states)
    if running_jobs:
        verb = "is" if running_jobs == 1 else "are"
        yield f"{many(running_jobs, 'job')} {verb} still running on the service and will be billed"
        yield "next: the same call without detach=True collects the records"
    if path is not None and (states or running_jobs):
        yield f"kept in {visible(str(path), 2_000)}"


def headline(records: Sequence[Record], states: Counter[State] | None = None) -> str:
    """How many there are and how they ended, in one line."""
    if states is None:
        states = Counter(one.state for one in records)
    summary = ", ".join(f"{states[state]:,} {state.value}" for state in State if states[state])
    odd = sum(one.ok and bool(one.warnings) for one in records)
    if odd:
        summary += f" ({odd:,} succeeded with warnings)"
    return f"{many(len(records), 'record')}: {summary}" if states else "0 records"


def _in_python(advice: str) -> str:
    """Advice with the command's options as arguments: ``--retry-failed expired`` as ``retry_failed="expired"``."""
    return _OPTION.sub(lambda found: found[1].replace("-", "_") + (f'="{found[2]}"' if found[2] else ""), advice)


def _next(records: Sequence[Record], states: Counter[State]) -> Iterator[str]:
    again = [state.value for state in WORTH_ANOTHER if states[state]]
    if again:
        rows = many(sum(states[State(state)] for state in again), "row")
        yield f"next: the same call with retry_failed={again!r} retries {rows}"
    if states[State.UNCONFIRMED]:
        yield "next: the same call with resubmit_unconfirmed=True sends the unconfirmed rows again; may pay twice"
    if len(records) > states[State.SUCCEEDED] and not again:
        yield "next: see .failed[0].error, or raise it with .failed[0].raise_for_state()"


def text(found: list[str]) -> str:
    """These lines for a terminal, none of them wider than 80 columns but for paths."""
    return "\n".join(
        textwrap.fill(line, 80, subsequent_indent="    ", break_on_hyphens=False, break_long_words=False)
        for line in found
    )


def page(records: Sequence[Record], text: list[str]) -> str:
    """As HTML for a notebook: these lines of text and the first records; every text from outside is escaped."""
    if not len(records):
        return f"<pre>{escape(chr(10).join(text))}</pre>"
    head, *rest = text
    cells = "".join(_row(one) for one in records[:_SHOWN])
    more = len(records) - _SHOWN
    below = f"<div>… and {more:,} more</div>" if more > 0 else ""
    summary = "".join(f"<div>{escape(line)}</div>" for line in rest)
    heads = "".join(f'<th style="{_STYLE}">{name}</th>' for name in ("row", "state", "text or error"))
    return (
        f'<div><b>{escape(head)}</b><div style="margin:0.4em 0">{summary}</div>'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{cells}</tbody></table>{below}</div>"
    )


def _row(record: Record) -> str:
    error = record.error
    result = f"{error.code or error.kind}: {error.message}" if error is not None else record.text or ""
    if error is None and record.warnings:
        result = f"[{', '.join(record.warnings)}] {result}"
    texts = (visible(record.key, 60), record.state.value, visible(result, _TEXT))
    return "<tr>" + "".join(f'<td style="{_STYLE}">{escape(text)}</td>' for text in texts) + "</tr>"
