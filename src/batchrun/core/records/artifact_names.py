"""What the files of a row are called, and whose a file is that an earlier run left.

``SLUG-HASH-INDEX.EXT``, as in ``cover-of-may-3f9c0a1b2c4d5e6f-0.png``: the slug is for people, the hash tells rows
apart. It is the beginning of the record's own id and so of this batch alone: two batches with the same rows may share
a folder, and a batch begun anew overwrites no file that the records of the old one name. Nothing else decides a name,
so that what a crash left half done is done again under the same one.

Keys are anything that JSON can hold. A name has letters, digits, ``_`` and ``-`` alone; where two keys differ in
case, or in what the slug leaves out, the hash still differs, on a file system that ignores case too.
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
    """What the names of all files of a row begin with.

    >>> row_name("run", "../Cover of May")
    'Cover_of_May-5d8f1262ca282009'
    """
    slug = _UNSAFE.sub("_", key[: 4 * _LONGEST_SLUG]).strip("_-")[:_LONGEST_SLUG] or "row"
    return f"{slug}-{record_id(run_id, key)[_HASH]}"


def unfinished(name: str) -> str:
    """What a file is called while it is written."""
    return f".{name}.new"


def left_behind(
    names: Iterable[str], run_id: str, keys: Iterable[str]
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Of the `names` in a folder those of rows with these `keys`, by key; and those that were never finished."""
    by_row: dict[str, list[str]] = {}
    begun: dict[str, list[str]] = {}
    for name in names:
        bare = name[1:-4] if name.startswith(".") and name.endswith(".new") else name
        if (found := _NAME.fullmatch(bare)) is not None:
            (by_row if bare is name else begun).setdefault(found[1], []).append(name)
    left: dict[str, tuple[str, ...]] = {}
    halves: list[str] = []
    for key in keys if by_row or begun else ():
        row = row_name(run_id, key)
        if row in by_row:
            left[key] = tuple(sorted(by_row[row]))
        halves += begun.get(row, ())
    return left, tuple(sorted(halves))
