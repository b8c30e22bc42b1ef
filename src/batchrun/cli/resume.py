"""``batchrun resume OUT``: resume a batch without naming its input again."""

from __future__ import annotations

import argparse
import sys

from batchrun.cli import EXIT_USAGE
from batchrun.cli.parser import add_run_options
from batchrun.cli.run import run_task
from batchrun.core.settings.settings import UsageError
from batchrun.core.text.readable import visible
from batchrun.edge.append_file import BatchFilesError
from batchrun.edge.terminal import for_person
from batchrun.runner.session import Task, input_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Shared with ``collect``: the output of an earlier run, and all that a run takes."""
    parser.add_argument("output", metavar="OUT", help="the output that the batch was started with")
    add_run_options(parser)


def run(options: argparse.Namespace, *, collect: bool = False) -> int:
    """Resume the batch with the input and the flags that its journal names, or without an input to `collect`."""
    try:
        source, settings = input_of(options.output, options.journal)
    except (UsageError, BatchFilesError) as error:
        return _refuse(str(error))
    if not collect and source in (None, "stdin"):
        reason = "its input was read from a pipe and no copy was kept; give it again"
        return _refuse(f"{options.output}: {reason}: … | batchrun - -o {options.output}")
    task = Task(options.output, None if collect else source, options.journal)
    return run_task(task, options, sys.argv[1:], settings)


def _refuse(text: str) -> int:
    print(for_person(f"batchrun: {visible(text, 1_000)}", sys.stderr), file=sys.stderr)
    return EXIT_USAGE
