"""``batchrun collect OUT``: bring home what goes on over there, without the input; nothing is submitted."""

from __future__ import annotations

import argparse

from batchrun.cli import resume
from batchrun.cli.resume import add_arguments

__all__ = ["add_arguments", "run"]


def run(options: argparse.Namespace) -> int:
    """Watch what is open to its end."""
    return resume.run(options, collect=True)
