"""``batchrun schema``: the JSON Schema of a record."""

from __future__ import annotations

import argparse
import json

from batchrun.core.records.record import RECORD_SCHEMA


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has no arguments."""


def run(options: argparse.Namespace) -> int:  # noqa: ARG001 - every command takes its options
    print(json.dumps(RECORD_SCHEMA, indent=2))
    return 0
