"""Whatever a caller gives as rows, as a path or as lines of JSON.

A string alone is only ever a path, and only where its name says so: `"say hello"` is one prompt to one person
and a missing file to the next, so it is refused with both spellings. The rest is read so:

1. A string in a collection is a prompt, a mapping is a row as on a line of a file.
2. What JSON cannot hold (NaN, bytes, a set) is refused with the number of its row, never altered: the check before
   the first submit reads the line that was made here, and exactly that is sent.
3. A DataFrame is its rows by column; a missing cell is an absent field.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from batchrun.core.text.readable import visible
from batchrun.results.run_errors import InputError

Row: TypeAlias = str | Mapping[str, Any]
"""One row: a prompt, or what a line of a file would hold."""
Rows: TypeAlias = str | os.PathLike[str] | Iterable[Row] | AsyncIterable[Row] | Any
"""A path, rows of any kind, or a DataFrame of pandas, polars or pyarrow."""

_SUFFIXES = (".jsonl", ".ndjson", ".json", ".gz", ".zst", ".txt", ".csv", ".tsv")


def path_of(rows: Any) -> str | None:
    """`rows` as a path; None where they are rows. Raises InputError where it could be either."""
    if isinstance(rows, os.PathLike):
        return os.fsdecode(rows)
    if isinstance(rows, str):
        if rows.lower().endswith(_SUFFIXES) and "\n" not in rows:
            return rows
        shown = visible(rows, 60)
        raise InputError(
            f"rows: expected a file name ending in .jsonl (or .gz, .zst), or a collection of rows, got the string {shown!r}; "
            f"for one prompt write [{shown!r}], for a file of another name pathlib.Path({shown!r})"
        )
    if isinstance(rows, Mapping):
        raise InputError("rows: expected rows, got one mapping; for one row write [row], for columns a DataFrame")
    if isinstance(rows, bytes | bytearray | memoryview):
        raise InputError(f"rows: expected rows or a path, got {type(rows).__name__}; decode them first")
    return None


async def lines_of(rows: Any) -> AsyncIterator[bytes]:
    """Each row as a line of JSON, without its line end."""
    number = 0
    if isinstance(rows, AsyncIterable):
        async for row in rows:
            number += 1
            yield line_of(row, number)
        return
    for row in _iterator(rows):
        number += 1
        yield line_of(row, number)


def line_of(row: Any, number: int | None = None) -> bytes:
    """One row as a line of JSON; `number` counts from 1, for the error message."""
    where = "row" if number is None else f"row {number:,}"
    if isinstance(row, str):
        row = {"prompt": row}
    elif not isinstance(row, Mapping):
        raise InputError(f"{where}: expected a prompt or a mapping, got {type(row).__name__}: {visible(repr(row), 60)}")
    try:
        text = json.dumps(dict(row), ensure_ascii=False, separators=(",", ":"), default=_plain)
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: escaped, so that the check can name it
        return json.dumps(dict(row), separators=(",", ":"), default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: expected what JSON can say, {visible(str(error), 200)}") from error


def _iterator(rows: Any) -> Iterator[Any]:
    frame = _frame_rows(rows)
    if frame is not None:
        return frame
    try:
        return iter(rows)
    except TypeError:
        raise InputError(
            f"rows: expected a path, a collection of rows or a DataFrame, got {type(rows).__name__}"
        ) from None


def _frame_rows(rows: Any) -> Iterator[dict[str, Any]] | None:
    """The rows of a DataFrame, known by its methods, so that no package is imported; None for anything else."""
    if hasattr(rows, "iter_rows") and hasattr(rows, "columns"):  # polars
        return (_present(row) for row in rows.iter_rows(named=True))
    if hasattr(rows, "to_pylist") and hasattr(rows, "column_names"):  # pyarrow
        return (_present(row) for row in rows.to_pylist())
    if hasattr(rows, "itertuples") and hasattr(rows, "columns"):  # pandas
        names = [str(name) for name in rows.columns]
        return (_present(dict(zip(names, row, strict=True))) for row in rows.itertuples(index=False, name=None))
    if hasattr(rows, "collect") and hasattr(rows, "columns"):
        raise InputError("rows: expected a frame that holds its rows, got a lazy one; call .collect() first")
    return None


def _present(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not _is_missing(value)}


def _is_missing(value: Any) -> bool:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return type(value).__name__ in ("NAType", "NaTType")


def _plain(value: Any) -> Any:
    """A value that json does not know as one that it does: numpy's scalars and arrays, times, paths."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes | bytearray):
        raise TypeError("got bytes: encode them first, say with base64")
    raise TypeError(f"got {type(value).__name__}")
