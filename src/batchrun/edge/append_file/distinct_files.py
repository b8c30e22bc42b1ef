"""No file in two parts: what a command names is told apart before anything is opened.

A summary written over the input, or a log appended to the journal, would destroy what a batch lives on; a lock
that is also the output would be emptied. Two paths are one file if they lead to one inode, or would once they exist.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from batchrun.core.settings.usage_error import UsageError
from batchrun.edge.append_file.file_names import FileNames, new_of, torn_of
from batchrun.edge.append_file.opening import identity_of


def refuse_shared(names: FileNames, source: str | int | None = None, beside: Mapping[str, str] | None = None) -> None:
    """Raise Misuse where two files of a command are one; nothing is opened and nothing changed.

    `source` is the input, a path or the descriptor of a redirected stdin; `beside` are paths that are no part of
    the batch, by the flag that named them. Whether the input is a file of the batch is asked where it is read
    (`refuse_input_as_output`), as a copy of it may be.
    """
    taken: list[tuple[str, str | int]] = [(_what(names, path), path) for path in _around(names)]
    for flag, path, what in (("-o", names.output, "the output"), ("--journal", names.journal, "the journal")):
        if path is not None:
            _refuse_taken(flag, path, taken)
            taken.append((what, path))
    if source is not None:
        taken.append(("the input", source))
    for flag, path in (beside or {}).items():
        _refuse_taken(flag, path, taken)
        taken.append((f"{flag}:", path))


def _around(names: FileNames) -> Iterator[str]:
    """The files of the batch that nobody names."""
    named = 1 if names.output is None else 2
    written = list(names.all())
    yield from dict.fromkeys((*written[named:], *names.locks))
    for path in written:
        yield from (torn_of(path), new_of(path))


def _what(names: FileNames, path: str) -> str:
    return "the lock" if path in names.locks else "a file that the batch keeps,"


def _refuse_taken(flag: str, path: str, taken: list[tuple[str, str | int]]) -> None:
    for what, other in taken:
        if _are_one(path, other):
            named = "stdin" if isinstance(other, int) else other
            raise UsageError(
                f"{flag} {path}: expected a file of its own, got {what} {named}; nothing was sent: give another name"
            )


def _are_one(path: str, other: str | int) -> bool:
    if isinstance(other, str) and os.path.realpath(path) == os.path.realpath(other):
        return True
    try:
        return identity_of(os.stat(path)) == identity_of(os.stat(other))  # noqa: PTH116 - takes a descriptor as well
    except (OSError, ValueError):
        return False
