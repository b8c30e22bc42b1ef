"""No file has two parts in a run: checked before anything is opened.

A summary written over the input, or a log appended to the journal, would destroy what a batch needs to resume; a
lock that is also the output would be emptied. Two paths are one file if they lead to one inode, or would once they
exist: by symbolic link, hard link, or another spelling on a disk that ignores case.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from batchrun.core.settings.settings import UsageError
from batchrun.core.text.readable import Option, flag
from batchrun.edge.append_file.file_names import FileNames, new_of, torn_of
from batchrun.edge.append_file.opening import InputIsOutput, identity_of


def refuse_shared(names: FileNames, source: str | int | None = None, others: Mapping[str, str] | None = None) -> None:
    """Raise UsageError where two files of a run are one, InputIsOutput where the input is one that it writes.

    `source` is the input, a path or the descriptor of a redirected stdin; `others` are paths that are no part of
    the batch, by the option that named them. The batch's own copy of an input may be its input again.
    """
    if source is not None:
        shown = "stdin" if isinstance(source, int) else source
        for ours in names.all():
            if ours != names.spool and is_same_file(ours, source):
                raise InputIsOutput(ours, shown)
    taken: list[tuple[str, str | int]] = [
        ("the lock" if path in names.locks else "a file that the batch keeps,", path) for path in _unnamed(names)
    ]
    for option, path, what in (("out", names.output, "the output"), ("journal", names.journal, "the journal")):
        if path is not None:
            _refuse_taken(Option(option, path), path, taken)
            taken.append((what, path))
    if source is not None:
        taken.append(("the input", source))
    for option, path in (others or {}).items():
        _refuse_taken(Option(option, path), path, taken)
        taken.append((f"{flag(option)}:", path))


def is_same_file(path: str, other: str | int) -> bool:
    """Whether `path` leads to the file `other`, a path or a descriptor."""
    if isinstance(other, str) and os.path.realpath(path) == os.path.realpath(other):
        return True
    try:
        return identity_of(os.stat(path)) == identity_of(os.stat(other))  # noqa: PTH116 - takes a descriptor as well
    except (OSError, ValueError):
        return False


def _unnamed(names: FileNames) -> Iterator[str]:
    """The files of the batch that its user does not name."""
    named = 1 if names.output is None else 2
    written = list(names.all())
    yield from dict.fromkeys((*written[named:], *names.locks))
    for path in written:
        yield from (torn_of(path), new_of(path))


def _refuse_taken(option: Option, path: str, taken: list[tuple[str, str | int]]) -> None:
    for what, other in taken:
        if is_same_file(path, other):
            named = "stdin" if isinstance(other, int) else other
            problem = f"expected a file of its own, got {what} {named}; nothing was sent"
            raise UsageError(problem, "give another name", option)
