"""The command line. Each command has a module of its own, imported only when it is called.

Without a command it runs a batch: ``batchrun INPUT -o OUT``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from signal import SIG_DFL, SIGINT, signal

EXIT_OK = 0
EXIT_ROWS = 1
"""The run is complete, and some rows did not succeed."""
EXIT_USAGE = 2
EXIT_HALTED = 3
EXIT_FILES = 4
EXIT_SIGNAL = 128
"""Plus the number of the signal: 129 for SIGHUP, 130 for Ctrl-C, 143 for SIGTERM."""

# command → what it does; its module here has `add_arguments(parser)` and `run(options) -> exit code`
COMMANDS = {
    "resume": "resume a batch without naming its input again",
    "collect": "collect the results of jobs in flight, without the input; submits nothing",
    "status": "show the status of a batch, during a run or after it; changes nothing and contacts no service",
    "cancel": "cancel rows of a batch, during a run or after it: some by their ids, or all",
    "check": "check an input: rows, models, sizes, and every problem with its line; sends nothing",
    "explain": "explain a code, state, status, HTTP status or exception, and whether it is retried",
    "schema": "print the JSON Schema of a record",
    "serve": "run a simulated service, to try a batch without an API key and without cost",
    "help": "explain a topic, such as getting-started, resume or errors; without one list all topics",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    _open_standard_descriptors()
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else None
    if name not in COMMANDS:
        if argv is None:
            # Until the run installs its signal handlers nothing was sent, and Ctrl-C may simply end the process: no traceback,
            # no waiting for a thread that reads stdin, and no crash of orjson, which must not be interrupted at import.
            signal(SIGINT, SIG_DFL)
        return _run_batch(arguments)
    from batchrun.cli.parser import Parser

    module = import_module(f"batchrun.cli.{name}")
    parser = Parser(f"batchrun {name}", COMMANDS[name])
    module.add_arguments(parser)
    try:
        return int(module.run(parser.parse_args(arguments[1:])))
    except BrokenPipeError:  # `batchrun explain --all | head`
        sys.stdout = None  # nothing to flush into at exit
        return EXIT_OK
    except OSError as error:  # a full disk behind stdout
        sys.stdout = None
        print(f"batchrun {name}: cannot write what it found: {error.strerror}", file=sys.stderr)
        return EXIT_FILES


def _open_standard_descriptors() -> None:
    """Open those of the descriptors 0, 1 and 2 that are closed on /dev/null.

    Otherwise the journal could become descriptor 2, and a library or the interpreter would write its errors into it;
    and ``print(…, file=sys.stderr)`` would go to stdout, as `sys.stderr` is None then.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - open as long as the process


def _run_batch(arguments: list[str]) -> int:
    from batchrun.cli.parser import run_parser

    parser = run_parser(COMMANDS)
    if arguments and not _is_file(arguments[0]):
        if arguments[0] in _NO_COMMAND_NEEDED:
            import shlex

            parser.parse_args(arguments[1:])  # what else is wrong with them comes first
            parser.error(f"unknown command {arguments[0]!r}; a run has none: batchrun {shlex.join(arguments[1:])}")
        if error := _unknown_word(arguments[0]):
            parser.error(error)
    options = parser.parse_args(arguments or ["--help"])
    return int(import_module("batchrun.cli.run").run(options))


_NO_COMMAND_NEEDED = ("run", "submit", "start", "create")
"""First words by which other tools start what here has no word of its own."""


def _is_file(word: str) -> bool:
    from pathlib import Path

    try:
        return Path(word).exists()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def _unknown_word(word: str) -> str | None:
    """The error for a first word that is neither a file nor a command; None for an option."""
    from difflib import get_close_matches

    from batchrun.core.text.readable import visible

    if word.startswith("-"):
        return None
    if word == "version":
        return "unknown command 'version'; write batchrun --version"
    near = get_close_matches(word.lower(), COMMANDS, n=1, cutoff=0.8)
    hint = f"did you mean {near[0]}?" if near else "check the path; batchrun --help lists the commands"
    return f"{visible(word, 80)!r}: no such file, and no such command; {hint}"
