"""``batchrun help [TOPIC]``: the documentation inside the package, as plain text of at most 80 columns.

The topics are the Markdown files in `batchrun/help`, written to be read as they are. What only a browser shows
(comments, pictures, diagrams) is left out. Fences are left out as well: code is indented, screens begin with `$`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from batchrun.cli import COMMANDS, EXIT_OK, EXIT_USAGE
from batchrun.core.text.readable import visible

FOLDER = Path(__file__).parent.parent / "help"

# topic → what it is about, in reading order
TOPICS = {
    "getting-started": "the demo, your API key, the first rows, the responses",
    "input": "the three forms of a row, the check before the first submit",
    "records": "one record per row: every key and its meaning",
    "states": "how a row can end, and the status words of services",
    "errors": "what an error code means and whether a retry is worth it",
    "taxonomy": "a response that you polled yourself; what a version promises",
    "resume": "interrupting and resuming, what is guaranteed, the files",
    "limits": "concurrency, rates, memory, retries, deadlines, halts",
    "polling": "when a job is polled, and what a poll decides",
    "cancel": "ending some rows or all of them",
    "detach": "send now, collect later",
    "artifacts": "images as files instead of base64",
    "services": "OpenAI, Azure, compatible servers, your own; API keys",
    "notebooks": "run, inspect, retry and interrupt in a notebook",
    "python": "the Python API of scripts and programs",
    "migrate": "coming from an SDK loop, the Batch API or lm-deluge",
    "simulator": "a service to try things on, without a key or cost",
    "json": "JSON for programs: summary, status, events",
    "exit-codes": "what a command ends with",
    "settings": "every option, its default, its environment variable",
    "performance": "benchmarks and how to run them, the HTTP transport",
    "internals": "the architecture, and the life of a job",
    "changelog": "what changed in each version",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``batchrun help``."""
    parser.add_argument("topic", metavar="TOPIC", nargs="?", help="a topic; without one all topics are listed")


def run(options: argparse.Namespace) -> int:
    """Print a topic, or the list of them."""
    if options.topic is None:
        print("\n".join(_listed()))
        return EXIT_OK
    name = options.topic.lower().removesuffix(".md").replace("_", "-")
    if name not in TOPICS:
        print(_unknown(options.topic, name), file=sys.stderr)
        return EXIT_USAGE
    print(plain((FOLDER / f"{name}.md").read_text(encoding="utf-8")), end="")
    return EXIT_OK


def plain(markdown: str) -> str:
    """The text of a topic as a terminal shows it."""
    shown: list[str] = []
    for line in _plain_lines(markdown):
        if line or (shown and shown[-1]):  # what was left out leaves no gap behind
            shown.append(line)
    return "\n".join(shown).rstrip() + "\n"


def _plain_lines(markdown: str) -> Iterator[str]:
    fence: str | None = None  # the language of the block that we are in
    for line in markdown.splitlines():
        if line.startswith("```"):
            fence = line[3:] if fence is None else None
        elif fence is not None:
            if fence == "console":  # as wide as the terminal was
                yield line
            elif fence != "mermaid":
                yield f"  {line}".rstrip()
        elif not line.startswith(("<!--", "![")):
            yield line.rstrip()


def _listed() -> Iterator[str]:
    width = max(map(len, TOPICS))
    yield "batchrun help TOPIC explains:"
    yield ""
    yield from (f"  {name:<{width}}  {about}" for name, about in TOPICS.items())
    yield ""
    yield "batchrun --help and batchrun COMMAND --help list the options of a command."


def _unknown(typed: str, name: str) -> str:
    import difflib

    if name in COMMANDS:
        hint = f"batchrun {name} --help explains the command"
    elif near := difflib.get_close_matches(name, TOPICS, n=1):
        hint = f"did you mean {near[0]}?"
    else:
        hint = "batchrun help lists all topics"
    return f"batchrun help: {visible(typed, 40)!r} is not a topic; {hint}"
