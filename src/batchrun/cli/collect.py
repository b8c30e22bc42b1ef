"""``batchrun collect OUT``: collect what is still running on the service, without the input; nothing is submitted."""

from __future__ import annotations

import argparse

from batchrun.cli import resume
from batchrun.cli.parser import add_run_options

SHOWN = (
    "service", "base_url", "allow_http", "key_file", "token_command", "transport",
    "poll_min", "poll_max", "poll_rate", "connections", "deadline", "max_wait", "connect_timeout", "poll_timeout",
    "write_off", "repair", "artifacts",
)  # fmt: skip
"""The settings that matter where nothing is submitted. The others are taken all the same, so that a run's options can stay."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The output of an earlier run, and what a run without submits takes."""
    parser.add_argument("output", metavar="OUT", help="the output that the batch was started with")
    add_run_options(parser, SHOWN)


def run(options: argparse.Namespace) -> int:
    """Poll what is open to its end."""
    return resume.run(options, collect=True)
