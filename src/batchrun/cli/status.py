"""``batchrun status OUT``: the status of a batch, during a run or after it. Changes nothing, and contacts no service.

With ``--watch`` it is shown again until the run is over: in place on a terminal, block by block elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from signal import SIGINT

from batchrun.cli import EXIT_FILES, EXIT_OK, EXIT_SIGNAL, EXIT_USAGE
from batchrun.cli.status_json import facts
from batchrun.cli.status_page import StatusPaths, page
from batchrun.core.settings.settings import UsageError
from batchrun.core.status.status import BatchStatus
from batchrun.core.text.readable import many, size, visible
from batchrun.edge.append_file import BatchFilesError, FileNames
from batchrun.edge.terminal import cut, for_person, text_width
from batchrun.runner.opening.read import size_of
from batchrun.runner.status import StatusReader

_LONG = 100 << 20  # bytes; more than these are announced
_EVERY = 1.0  # seconds between two readings
_BLOCK_EVERY = 10.0  # and between two blocks where they stay to be read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUT", help="the output of the batch")
    parser.add_argument(
        "--watch", action="store_true", help="show it again and again until the run ends; Ctrl-C stops it"
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for programs; with --watch one object per line")
    parser.add_argument("--journal", metavar="FILE", help="the journal of the batch (default: OUT.journal)")


def run(options: argparse.Namespace) -> int:
    names = _names(options)
    reader = StatusReader(names)
    try:
        status = _first_reading(reader, names)
        if options.watch:
            return _watch(reader, status, options)
        print(_json(status, options, indent=2) if options.json else "\n".join(_page(status, options)))
    except UsageError as error:
        return _refuse(str(error), EXIT_USAGE)
    except BatchFilesError as error:
        return _refuse(str(error), EXIT_FILES)
    except KeyboardInterrupt:
        return EXIT_OK if options.watch else EXIT_SIGNAL + SIGINT
    finally:
        reader.close()
    return EXIT_OK


def _names(options: argparse.Namespace) -> FileNames:
    if options.output == "-" and options.journal:  # where a run to stdout keeps its records
        return FileNames.of(f"{options.journal}.records", options.journal)
    return FileNames.of(options.output, options.journal)


def _first_reading(reader: StatusReader, names: FileNames) -> BatchStatus:
    """As `look`. A gigabyte takes ten seconds, in which nothing else is shown."""
    to_read = size_of(names.journal) + size_of(names.output)
    told = to_read > _LONG and sys.stderr.isatty()
    if told:
        print(f"reading {size(to_read)} …", end="", file=sys.stderr, flush=True)
    try:
        return reader.look(time.time())
    finally:
        if told:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _refuse(text: str, code: int) -> int:
    print(for_person(f"batchrun status: {visible(text, 1_000)}", sys.stderr), file=sys.stderr)
    return code


def _watch(reader: StatusReader, status: BatchStatus, options: argparse.Namespace) -> int:
    screen = _StatusScreen() if not options.json and sys.stdout.isatty() and os.environ.get("TERM") != "dumb" else None
    told_at = float("-inf")
    try:
        while True:
            over = not status.run.is_on
            if screen is not None:
                screen.show(_page(status, options), last=over)
            elif options.json:
                print(_json(status, options), flush=True)
            elif over or time.monotonic() - told_at >= _BLOCK_EVERY:
                print(*([] if told_at < 0 else [""]), *_page(status, options), sep="\n", flush=True)
                told_at = time.monotonic()
            if over:
                return EXIT_OK
            time.sleep(_EVERY)
            status = reader.look(time.time())
    except KeyboardInterrupt:
        if screen is not None:
            screen.leave()
        return EXIT_OK


def _paths(status: BatchStatus, options: argparse.Namespace) -> StatusPaths:
    kept = status.header.input != "stdin" or os.path.lexists(_names(options).spool)
    return StatusPaths(options.output, options.journal, input_is_kept=kept, watched=options.watch)


def _page(status: BatchStatus, options: argparse.Namespace) -> list[str]:
    return page(status, _paths(status, options), text_width(sys.stdout))


def _json(status: BatchStatus, options: argparse.Namespace, indent: int | None = None) -> str:
    names = _names(options)
    return json.dumps(facts(status, _paths(status, options), names.output, names.journal), indent=indent)


def _size_of_terminal() -> tuple[int, int]:
    """Columns and rows of the terminal itself; what COLUMNS and LINES say may be of another."""
    try:
        return os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return shutil.get_terminal_size()


class _StatusScreen:
    """Lines on a terminal that take the place of those before them."""

    def __init__(self) -> None:
        self._drawn: list[str] = []
        self._columns = 0

    def show(self, lines: list[str], *, last: bool) -> None:
        """Draw `lines` over what was drawn. For the last time all of them, else as many as the terminal has rows for."""
        columns, rows = _size_of_terminal()
        if last:
            shown = lines
        else:
            parts = [part for line in lines for part in cut(line, columns)]
            room = max(1, rows - 1)
            shown = parts[:room]
            if len(parts) > room > 1:
                shown[-1] = cut(f"… {many(len(parts) - room + 1, 'more line')}: make the window higher", columns)[0]
        # Each row is cleared first: after a line as long as the row the cursor is still on its last character.
        body = "".join(f"\x1b[K{line}\n" for line in shown)
        if not last:  # the terminal wraps nothing meanwhile, however wide a character may be there
            body = f"\x1b[?7l{body}\x1b[?7h"
        sys.stdout.write(f"\r{self._up(columns)}{body}\x1b[J")
        sys.stdout.flush()
        self._drawn, self._columns = shown, columns

    def leave(self) -> None:
        """What was drawn stays; the cursor's line, where Ctrl-C was echoed, is cleared."""
        sys.stdout.write("\r\x1b[K")
        sys.stdout.flush()

    def _up(self, columns: int) -> str:
        """Back to the first line; in a terminal that became narrower lines take more than one row."""
        taken = sum(max(1, -(-min(len(line), self._columns) // columns)) for line in self._drawn)
        return f"\x1b[{taken}A" if taken else ""
