"""The names of a row's files, and which row a file of an earlier run belongs to.

``SLUG-HASH-INDEX.EXT``, as in ``cover-of-may-3f9c0a1b2c4d5e6f-0.png``: the slug is for people, the hash tells rows
apart. It is the beginning of the record's id and thus unique to this batch: two batches with the same rows may share a
folder, and a batch that is started again overwrites no file that records of the old one name. A name depends on nothing
else, so that after a crash the same file is written again.

A row key can be any string. A name has only letters, digits, ``_`` and ``-``; where two keys differ only in case, or in
characters that the slug leaves out, their hashes differ, also on a file system that ignores case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from batchrun.core.records.record import record_id

_LONGEST_SLUG = 60
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_NAME = re.compile(r"([A-Za-z0-9_-]+-[0-9a-f]{16})-[0-9]+\.[a-z]{3,4}")
_HASH = slice(4, 20)  # of a record's id, behind "rec_"


def row_name(run_id: str, key: str) -> str:
    """The beginning of the names of all files of a row.

    >>> row_name("run", "../Cover of May")
    'Cover_of_May-5d8f1262ca282009'
    """
    slug = _UNSAFE.sub("_", key[: 4 * _LONGEST_SLUG]).strip("_-")[:_LONGEST_SLUG] or "row"
    return f"{slug}-{record_id(run_id, key)[_HASH]}"


def unfinished(name: str) -> str:
    """The name of a file while it is written."""
    return f".{name}.new"


def left_behind(
    names: Iterable[str], run_id: str, keys: Iterable[str]
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Of the `names` in a folder the files of rows with these `keys`, by key; and those that were never finished."""
    by_row: dict[str, list[str]] = {}
    unfinished_by_row: dict[str, list[str]] = {}
    for name in names:
        final_name = name[1:-4] if name.startswith(".") and name.endswith(".new") else name
        if (match := _NAME.fullmatch(final_name)) is not None:
            (by_row if final_name is name else unfinished_by_row).setdefault(match[1], []).append(name)
    finished: dict[str, tuple[str, ...]] = {}
    never_finished: list[str] = []
    for key in keys if by_row or unfinished_by_row else ():
        row = row_name(run_id, key)
        if row in by_row:
            finished[key] = tuple(sorted(by_row[row]))
        never_finished += unfinished_by_row.get(row, ())
    return finished, tuple(sorted(never_finished))
