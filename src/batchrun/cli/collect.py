"""``batchrun collect OUT``: collect what is still running on the service, without the input; nothing is submitted."""

from __future__ import annotations

import argparse

from batchrun.cli import resume
from batchrun.cli.resume import add_arguments

__all__ = ["add_arguments", "run"]


def run(options: argparse.Namespace) -> int:
    """Poll what is open to its end."""
    return resume.run(options, collect=True)
