"""``batchrun cancel OUT --id ID … | --all``: end rows of a batch, while a run works on it or without one.

The cancel request is on the disk before anything else happens. A live run accepts it within a second; without one, this
command sends the cancels itself and waits for the poll after them. Exit 0: recorded, and carried out or accepted by the
run; 1 where that run, which has the input, finds that a name is not a row of it; else the code of a run that could not
carry it out, which the next run does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TextIO

from batchrun.cli import EXIT_FILES, EXIT_OK, EXIT_ROWS, EXIT_USAGE
from batchrun.cli.parser import add_flags
from batchrun.cli.resume import names_service
from batchrun.cli.run import run_task
from batchrun.core.settings.settings import UsageError
from batchrun.core.text.readable import many, visible
from batchrun.edge.append_file import BatchFilesError, FileNames
from batchrun.edge.lock import LockHeld
from batchrun.edge.terminal import for_person, in_lines, text_width
from batchrun.runner.cancel import (
    CancelResult,
    SentRequest,
    standing,
    wait_until_heard,
    whose,
    wish_to_cancel,
    withdraw,
)
from batchrun.runner.session import Task, start_of

_PATIENCE = 10.0
_SHOWN = 10
_FLAGS = (
    "service", "base_url", "allow_http", "key_file", "token_command", "cancel_timeout", "cancel_settle", "cancel_patience",
    "poll_min", "poll_max", "poll_rate", "poll_timeout", "connect_timeout", "connections", "write_off", "artifacts",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUT", help="the output that the batch was started with")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--id", action="append", metavar="ID", help="a row, by its custom_id or its job's id; may be repeated"
    )
    which.add_argument("--all", action="store_true", help="every row that has no record yet")
    parser.add_argument("--journal", metavar="FILE", help="the journal of the batch (default: OUT.journal)")
    parser.add_argument("--demo", action="store_true", help="the batch runs on the demo service")
    add_flags(parser, _FLAGS)


def run(options: argparse.Namespace) -> int:
    """Record the cancel request, have it carried out, and report the result."""
    if options.output == "-" and options.journal:  # where a run to stdout keeps its records
        options.output = f"{options.journal}.records"
    try:
        request = wish_to_cancel(FileNames.of(options.output, options.journal), options.id)
        while True:
            if (pid := whose(request.names)) is None:
                with suppress(LockHeld):  # another process has resumed the batch: it accepts the request
                    return _by_itself(options, request)
                continue
            who = f"process {pid}" if pid else "the run"
            if wait_until_heard(request, _PATIENCE):
                found = standing(request)
                _print(_handed_over(found, who))
                return EXIT_ROWS if found.unknown and not found.collecting else EXIT_OK
            if whose(request.names) is not None:
                confirmed = f"{who} did not confirm it within {_PATIENCE:.0f} s"
                _print([f"cancel request recorded; {confirmed}: it carries it out, or the next run does"])
                return EXIT_OK
    except UsageError as error:
        return _refuse(error, EXIT_USAGE)
    except BatchFilesError as error:
        return _refuse(error, EXIT_FILES)


def _by_itself(options: argparse.Namespace, request: SentRequest) -> int:
    """Carry the request out from here; exit 2 leaves none behind. Raises LockHeld where a run has begun meanwhile."""
    try:
        code = _carry_out(options, request)
    except UsageError as error:
        code = _refuse(error, EXIT_USAGE)
    if code == EXIT_USAGE:
        withdraw(request)
        print("no row was cancelled, and no cancel request is left behind", file=sys.stderr)
    return code


def _carry_out(options: argparse.Namespace, request: SentRequest) -> int:
    before = standing(request)
    code = EXIT_OK
    if before.open:
        jobs = many(before.open, "open row")
        _print([f"no run is active; cancelling {jobs} from here; Ctrl-C leaves the rest to the next run"], sys.stderr)
        options.quiet, options.summary, options.log_json = True, None, None
        start = start_of(options.output, options.journal)
        options.demo = options.demo or (start.is_demo and not names_service(options))
        task = Task(options.output, None, options.journal, takes_up=True, only_cancels=True)
        code = run_task(task, options, sys.argv[1:], start.settings)
        code = EXIT_OK if code == EXIT_ROWS else code
    if code == EXIT_OK:
        _print(_carried_out(before, standing(request)))
    elif code != EXIT_USAGE:
        _print(["the cancel request is recorded: the next run carries out what is left of it"], sys.stderr)
    return code


def _handed_over(found: CancelResult, who: str) -> Iterator[str]:
    if found.open:
        yield f"{who} accepted the cancel request: {many(found.open, 'row')} {_end(found.open)} as cancelled{_billed(found.open, found.sent)}"
    if found.untouched and not found.collecting:
        yield f"{many(found.untouched, 'row')} not sent yet {_end(found.untouched)} as cancelled; nothing is billed"
    elif found.untouched:
        yield _never_sent(found.untouched)
    if found.cancelled:
        yield f"{many(found.cancelled, 'row')} {_are(found.cancelled)} cancelled"
    yield from _others(found, known=not found.collecting)
    if not (found.open or found.cancelled or found.untouched or found.over or found.unknown):
        yield "nothing is open: there is nothing to cancel"


def _carried_out(before: CancelResult, found: CancelResult) -> Iterator[str]:
    cancelled = found.cancelled - before.cancelled
    if cancelled:
        yield f"{many(cancelled, 'row')} {_are(cancelled)} cancelled{_billed(cancelled, before.sent - found.sent)}"
    if found.open:
        yield f"{many(found.open, 'row')} {_are(found.open)} left to the next run"
    if found.untouched:
        yield _never_sent(found.untouched)
    if before.cancelled:
        yield f"{many(before.cancelled, 'row')} had already ended as cancelled"
    yield from _others(found, known=False)
    if not (found.cancelled or found.open or found.untouched or found.over or found.unknown):
        yield "nothing is open: there is nothing to cancel"


def _never_sent(rows: int) -> str:
    one = rows == 1
    return (
        f"{many(rows, 'row')} {'was' if one else 'were'} never sent: nothing is billed, and the next run with the input "
        f"writes {'it' if one else 'them'} as cancelled"
    )


def _others(found: CancelResult, *, known: bool) -> Iterator[str]:
    """About names that are not open rows; `known`: a run with the input searched for them."""
    unknown = "nothing was sent for it; if the input has such a row, the next run writes it as cancelled"
    for name in found.unknown[:_SHOWN]:
        yield f"{visible(name, 80)}: {'no row of this batch' if known else unknown}"
    if (more := len(found.unknown) - _SHOWN) > 0:
        yield f"and {more:,} more ids like these"
    if found.names_over and len(found.names_over) <= _SHOWN:
        for name, state in found.names_over.items():
            yield f"{visible(name, 80)}: had already ended as {state}"
    elif found.over:
        states = ", ".join(f"{count:,} {state}" for state, count in found.over.most_common())
        yield f"{many(found.over.total(), 'row')} had already ended: {states}"


def _billed(rows: int, sent: int) -> str:
    if not sent:
        return "; nothing was sent, and nothing is billed"
    which = (
        "it was" if rows == 1 else "they were" if sent >= rows else f"{sent:,} of them {'was' if sent == 1 else 'were'}"
    )
    return f"; {which} sent, and may be billed"


def _end(count: int) -> str:
    return "ends" if count == 1 else "end"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _print(lines: Iterable[str], stream: TextIO | None = None) -> None:
    stream = stream or sys.stdout
    for line in lines:
        print(in_lines(line, text_width(stream), "  "), file=stream)


def _refuse(error: Exception, code: int) -> int:
    print(for_person(f"batchrun cancel: {visible(str(error), 1_000)}", sys.stderr), file=sys.stderr)
    return code
