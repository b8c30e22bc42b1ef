"""``batchrun resume OUT``: go on with a batch without naming its input again."""

from __future__ import annotations

import argparse
import sys

from batchrun.cli import EXIT_USAGE
from batchrun.cli.parser import add_run_options
from batchrun.cli.run import run_task
from batchrun.core.misuse import Misuse
from batchrun.core.visible import visible
from batchrun.edge.tape import FilesError
from batchrun.runner.session import Task, input_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUT", help="the output that the batch was begun with")
    add_run_options(parser)


def run(options: argparse.Namespace) -> int:
    try:
        source, settings = input_of(options.output, options.journal)
    except (Misuse, FilesError) as error:
        print(f"batchrun resume: {visible(str(error), 1_000)}", file=sys.stderr)
        return EXIT_USAGE
    if source in (None, "stdin"):
        print(
            f"batchrun resume: {visible(options.output)}: its input came through a pipe and no copy was kept; "
            f"give it again: … | batchrun - -o {visible(options.output)}",
            file=sys.stderr,
        )
        return EXIT_USAGE
    return run_task(Task(options.output, source, options.journal), options, sys.argv[1:], settings)
