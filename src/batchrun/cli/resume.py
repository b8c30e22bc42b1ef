"""``batchrun resume OUT``: resume a batch without naming its input again."""

from __future__ import annotations

import argparse
import sys

from batchrun.cli import EXIT_FILES, EXIT_USAGE
from batchrun.cli.parser import add_run_options
from batchrun.cli.run import run_task
from batchrun.cli.run_result import PIPE, command, words
from batchrun.core.settings.settings import UsageError
from batchrun.core.text.readable import visible
from batchrun.edge.append_file import BatchFilesError
from batchrun.edge.terminal import for_person
from batchrun.runner.session import Task, start_of
from batchrun.services.of_batch import flags_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Shared with ``collect``: the output of an earlier run, and all that a run takes."""
    parser.add_argument("output", metavar="OUT", help="the output that the batch was started with")
    add_run_options(parser)


def run(options: argparse.Namespace, *, collect: bool = False) -> int:
    """Resume the batch with the input and the flags that its journal names, or without an input to `collect`."""
    try:
        start = start_of(options.output, options.journal)
    except UsageError as error:
        return _refuse(str(error))
    except BatchFilesError as error:
        return _refuse(str(error), EXIT_FILES)
    options.demo = options.demo or (start.is_demo and not names_service(options))
    if not collect and start.input == "stdin":
        reason = "its input was read from a pipe and no copy was kept; give it again"
        journal = ["--journal", options.journal] if options.journal else []
        piped = command(["-", "-o", options.output, *journal, *words(flags_of(start.header))])
        return _refuse(f"{options.output}: {reason}: {PIPE}{piped}")
    task = Task(options.output, None if collect else start.input, options.journal, takes_up=True)
    return run_task(task, options, sys.argv[1:], start.settings)


def names_service(options: argparse.Namespace) -> bool:
    """Whether a flag names a service."""
    return hasattr(options, "service") or hasattr(options, "base_url")


def _refuse(text: str, code: int = EXIT_USAGE) -> int:
    print(for_person(f"batchrun: {visible(text, 1_000)}", sys.stderr), file=sys.stderr)
    return code
