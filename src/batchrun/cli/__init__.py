"""The command line. Each command lives in a room of its own and is imported only when it is called."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from batchrun import __version__

EXIT_OK = 0
EXIT_USAGE = 2

# command → what it does; its module here has `add_arguments(parser)` and `run(options) -> exit code`
COMMANDS = {
    "check": "read an input as a whole: rows, models, sizes, and every problem with its line; sends nothing",
    "explain": "what a code, state, status, HTTP status or exception means, and whether to try again",
    "schema": "the JSON Schema of a record",
    "serve": "a simulated service to rehearse a batch on, without a key and without cost",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else None
    if name in COMMANDS:
        module = import_module(f"batchrun.cli.{name}")
        parser = argparse.ArgumentParser(prog=f"batchrun {name}", description=COMMANDS[name])
        module.add_arguments(parser)
        try:
            return int(module.run(parser.parse_args(arguments[1:])))
        except BrokenPipeError:  # `batchrun explain --all | head`
            sys.stdout = None  # nothing left to flush into
            return EXIT_OK
    top = _top_parser()
    top.parse_args(arguments[:1] or ["--help"])
    return EXIT_OK


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog="batchrun",
        description="Run very many background jobs against a service and bring every result home.",
        epilog="commands:\n" + "\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"batchrun {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below")
    return parser
