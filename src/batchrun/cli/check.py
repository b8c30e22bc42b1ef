"""``batchrun check``: what a batch holds and what is wrong with it, before anything is sent or paid."""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from batchrun.cli import EXIT_FILES, EXIT_OK, EXIT_USAGE
from batchrun.core.rows.parse import BodyFlags, input_tokens, output_bytes, plain_path
from batchrun.core.settings.settings import Refusal
from batchrun.core.text.readable import many, visible, worded
from batchrun.edge.source import MAX_ROW, InputFindings, Report, SpoolFailed, check
from batchrun.edge.terminal import for_person, in_lines, text_width

_NEEDED = 3  # columns of the table that a narrow terminal has as well: endpoint, model, rows
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="INPUT", help="JSON lines, also .gz and .zst; - is standard input")
    parser.add_argument("--model", help="model of the rows that name none")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a field in the body of every row; VALUE is JSON, else a string",
    )
    parser.add_argument("--skip-bad", action="store_true", help="count bad rows, and do not fail the check for them")
    parser.add_argument("--max-row", type=_size, default=MAX_ROW, metavar="SIZE", help="longest line (default: 32M)")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")


def run(options: argparse.Namespace) -> int:
    try:
        flags = BodyFlags.read(options.model, options.set)
        with check(options.input, flags, max_row=options.max_row) as source:
            name, report = source.name, source.report
    except Refusal as error:
        print(for_person(f"batchrun check: {error}", sys.stderr), file=sys.stderr)
        return EXIT_FILES if isinstance(error, SpoolFailed) else EXIT_USAGE
    good = options.skip_bad or not report.problems.total
    if options.json:
        print(json.dumps(_facts(name, report, good=good), indent=2))
    else:
        print("\n".join(_page(name, report, skip_bad=options.skip_bad)))
    return EXIT_OK if good else EXIT_USAGE


def _page(name: str, report: Report, *, skip_bad: bool) -> Iterator[str]:
    bad, warned = report.problems.total, report.warnings.total
    yield f"{name}: {many(report.rows, 'row')}, {_bytes(report.size)}" + (f", {bad:,} bad" if bad else "")
    if report.shares:
        yield ""
        yield from _table(report)
        yield ""
        yield f"  largest row  {_bytes(report.largest)}, line {report.largest_line:,}"
        yield f"  input        about {_short(_input_tokens(report))} tokens"
        yield f"  output file  about {_bytes(_output_bytes(report))}, if responses have the usual size"
    if bad:
        yield from _findings("problems", report.problems)
    if warned:
        yield from _findings("warnings", report.warnings)
    yield ""
    if not bad:
        yield "ready to run" if report.rows else "nothing to do: the input is empty"
    elif skip_bad:
        left = report.rows - bad
        yield f"{many(left, 'row')} would be sent; {bad:,} would be written to the output as rejected"
    else:
        these, them = ("this line", "it") if bad == 1 else ("these lines", "them")
        yield f"nothing would be sent; fix {these}, or leave {them} out with --skip-bad"


def _table(report: Report) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("ENDPOINT", "MODEL", "ROWS", "SIZE", "INPUT TOKENS")]
    for (path, model), share in sorted(report.shares.items(), key=lambda item: -item[1].rows)[:20]:
        tokens = f"≈ {_short(input_tokens(share.size))}"
        rows.append((path, visible(model, 40), f"{share.rows:,}", _bytes(share.size), tokens))
    if (more := len(report.shares) - 20) > 0:
        rows.append(("…", f"{more:,} more", "", "", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while len(widths) > _NEEDED and sum(width + 2 for width in widths) > text_width(sys.stdout):
        widths.pop()
    rows = [row[: len(widths)] for row in rows]
    for path, model, *numbers in rows:
        right = "  ".join(f"{cell:>{width}}" for cell, width in zip(numbers, widths[2:], strict=True))
        yield f"  {path:<{widths[0]}}  {model:<{widths[1]}}  {right}".rstrip()


def _findings(title: str, findings: InputFindings) -> Iterator[str]:
    yield ""
    yield f"{title}:"
    code_width = max(len(one.code) for one in findings.first)
    line_width = max(len(f"{one.line:,}") for one in findings.first)
    width = text_width(sys.stdout)
    for one in findings.first:
        head = f"  line {one.line:<{line_width},}  {one.code:<{code_width}}  "
        text = visible(worded(one.message), 300)
        indent = " " * (len(head) if len(head) < width // 2 else 4)
        yield textwrap.fill(text, width, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False)
    if findings.total > len(findings.first):
        counts = sorted(findings.by_code.items(), key=lambda item: -item[1])
        head = f"  … {findings.total:,} in all: "
        yield in_lines(head + ", ".join(f"{count:,} {code}" for code, count in counts), width, "    ")


def _facts(name: str, report: Report, *, good: bool) -> dict[str, Any]:
    return {
        "input": name,
        "ok": good,
        "rows": report.rows,
        "bad_rows": report.problems.total,
        "blank_lines": report.blank_lines,
        "bytes": report.size,
        "largest_row": {"bytes": report.largest, "line": report.largest_line} if report.rows else None,
        "shares": [
            {"endpoint": path, "model": model, "rows": share.rows, "bytes": share.size}
            for (path, model), share in report.shares.items()
        ],
        "estimated": {"input_tokens": _input_tokens(report), "output_bytes": _output_bytes(report)},
        "problems": _listed(report.problems),
        "warnings": _listed(report.warnings),
    }


def _listed(findings: InputFindings) -> dict[str, Any]:
    first = [{"line": one.line, "code": one.code, "message": worded(one.message)} for one in findings.first]
    return {"total": findings.total, "by_code": findings.by_code, "first": first}


def _input_tokens(report: Report) -> int:
    return sum(input_tokens(share.size) for share in report.shares.values())


def _output_bytes(report: Report) -> int:
    return sum(output_bytes(plain_path(path), share.rows, share.answers) for (path, _), share in report.shares.items())


def _bytes(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    size = count / 1000
    for unit in ("KB", "MB", "GB"):
        if size < 999.95:
            return f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def _short(count: int) -> str:
    """An estimate has two significant digits."""
    if count < 100:
        return str(count)
    rounded = float(f"{count:.1e}")
    for unit, size in (("billion", 1e9), ("million", 1e6)):
        if rounded >= size:
            return f"{rounded / size:,.1f} {unit}"
    return f"{rounded:,.0f}"


def _size(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,11})([kmg]?)(?:i?b)?", text.strip().lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"expected bytes, or 500k, 32M, 1G; got {visible(text, 40)!r}")
    return int(found[1]) * _UNITS[found[2]]
