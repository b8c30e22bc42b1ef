"""``batchrun explain``: the taxonomy and the warnings of records, for people and for programs."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator

from batchrun.cli import EXIT_OK, EXIT_USAGE
from batchrun.core.taxonomy.explain import Explanation, explain, nearest, whole_table
from batchrun.core.taxonomy.rules import (
    GROUP_MEANING,
    STATE_MEANING,
    TAXONOMY,
    TAXONOMY_VERSION,
    WORDS,
    Rule,
    WordField,
)
from batchrun.core.taxonomy.warning_words import WARNINGS
from batchrun.core.text.readable import visible
from batchrun.edge.terminal import WIDEST, for_person, text_width


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "word",
        nargs="?",
        help="error code or type, state, status word, reason, HTTP status, exception name or warning",
    )
    parser.add_argument("--all", action="store_true", help="print the whole taxonomy")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")


def run(options: argparse.Namespace) -> int:
    if (options.word is None) is not options.all:
        print("batchrun explain: expected one WORD, or --all; try batchrun explain server_error", file=sys.stderr)
        return EXIT_USAGE
    if options.all:
        print(json.dumps({**whole_table(), "warnings": WARNINGS}, indent=2) if options.json else _whole())
        return EXIT_OK
    found = explain(options.word)
    if not found:
        near = nearest(options.word)
        word = visible(options.word, 80)
        text = f"batchrun explain: unknown word {word!r}; did you mean {near}? batchrun explain {near}"
        print(for_person(text, sys.stderr), file=sys.stderr)
        return EXIT_USAGE
    if options.json:
        table = {"version": TAXONOMY_VERSION, "meanings": [one.to_dict() for one in found]}
        print(json.dumps(table, indent=2))
    else:
        print("\n\n".join(_paragraphs(found)))
    return EXIT_OK


def _width() -> int:
    return text_width(sys.stdout)


def _paragraphs(found: list[Explanation]) -> Iterator[str]:
    """A paragraph for each meaning; fields in which the word means the same share one."""
    same: dict[tuple[str, ...], list[Explanation]] = {}
    for one in found:
        same.setdefault((one.word, *one.facts.values()), []).append(one)
    for group in same.values():
        lines = [f"{group[0].word} ({', '.join(one.title for one in group)})"]
        for name, text in group[0].facts.items():
            head = f"  {name:<13}"
            lines.append(
                textwrap.fill(
                    text,
                    _width(),
                    initial_indent=head,
                    subsequent_indent=" " * (len(head) if _width() >= 60 else 4),
                    break_on_hyphens=False,
                )
            )
        yield "\n".join(lines)


def _whole() -> str:
    """Every word once, in columns that fit a terminal; ``explain WORD`` has the advice."""
    parts = [f"batchrun taxonomy, version {TAXONOMY_VERSION}"]
    for field in WordField:
        rules = [rule for rule in TAXONOMY if rule.field is field]
        parts.append(_columns(field.value.upper(), rules))
    parts.append("STATES OF A RECORD\n" + _definitions({s.value: meaning for s, meaning in STATE_MEANING.items()}))
    groups = {
        group.value: f"{', '.join(word for word, of in WORDS.items() if of is group)}. {meaning.capitalize()}."
        for group, meaning in GROUP_MEANING.items()
    }
    parts.append("STATUS WORDS BY GROUP\n" + _definitions(groups))
    parts.append("WARNINGS OF A RECORD\n" + _definitions(WARNINGS))
    return "\n\n".join(parts)


def _columns(title: str, rules: list[Rule]) -> str:
    rows = [(title, "EXCEPTION", "RETRY", "STATE")]
    rows += [
        (rule.word, rule.kind, f"{rule.retry}; halts" if rule.halts else rule.retry.value, rule.state.value)
        for rule in rules
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    widths[0] = min(widths[0], max(len(title), WIDEST - sum(width + 2 for width in widths[1:])))
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    """A row of a table; a word that is longer than its column has a line of its own."""
    word, *rest = row
    head = f"{word}\n{'':<{widths[0]}}" if len(word) > widths[0] else f"{word:<{widths[0]}}"
    return "  ".join((head, *(f"{cell:<{width}}" for cell, width in zip(rest, widths[1:], strict=True)))).rstrip()


def _definitions(meanings: dict[str, str]) -> str:
    width = max(map(len, meanings))
    return "\n".join(
        textwrap.fill(text, _width(), initial_indent=f"{name:<{width}}  ", subsequent_indent=" " * (width + 2))
        for name, text in meanings.items()
    )
