"""Records as tables. The columns are those that people filter by; their types follow from the table of a record's keys."""

from __future__ import annotations

import csv
import errno
import json
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum, EnumType
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchrun.core.records.record import Moment, RecordLine, keys_of
from batchrun.core.responses.outcome import Usage
from batchrun.results.record import Record

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

COLUMNS = (
    "custom_id", "state", "status", "model", "output_text", "error_code", "error_message", "billing", "job_id", "retry_count", "polls",
    *(key.name for key in keys_of(Usage)), "queued_s", "running_s", "submitted_at", "finished_at", "warnings", "metadata",
    "refusal_count",
)  # fmt: skip
"""Keys of a record, those of its usage, two of its error, and how many refusals it tells of; new ones come last."""

_TYPES = {key.name: key.type for key in (*keys_of(RecordLine), *keys_of(Usage))} | {
    "error_code": str,
    "error_message": str,
    "refusal_count": int,
}

# A spreadsheet runs a cell that begins so as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def row(record: Record) -> dict[str, Any]:
    """One record by column."""
    error, usage, refusals = record.error, record.usage, record.refusals
    values = {
        "error_code": None if error is None else error.code or error.kind,
        "error_message": None if error is None else error.message,
        "refusal_count": 0 if refusals is None else refusals.count,
        **{key.name: getattr(usage, key.name) for key in keys_of(Usage)},
    }
    return {name: values[name] if name in values else _plain(getattr(record, name)) for name in COLUMNS}


def _type(column: str) -> Any:
    kind = _TYPES[column]
    return str if isinstance(kind, EnumType) else kind


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def to_pandas(records: Iterable[Record]) -> pd.DataFrame:
    """As `Records.to_pandas`."""
    try:
        import pandas as pd
    except ImportError as error:
        raise _missing("to_pandas", "pandas") from error
    frame = pd.DataFrame([row(one) for one in records], columns=list(COLUMNS))
    types = {str: "string", int: "Int64", float: "Float64", Moment: "datetime64[ms, UTC]"}
    return frame.astype({name: types[_type(name)] for name in COLUMNS if _type(name) in types})


def to_arrow(records: Iterable[Record]) -> pa.Table:
    """As `Records.to_arrow`."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise _missing("to_arrow", "pyarrow") from error
    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), Moment: pa.timestamp("ms", "UTC")}
    types |= {tuple[str, ...]: pa.list_(pa.string()), bytes: pa.string()}
    rows = [{**values, "metadata": _json(values["metadata"])} for values in map(row, records)]
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, types[_type(name)]) for name in COLUMNS]))


def to_csv(records: Iterable[Record], path: str | Path) -> None:
    """As `Records.to_csv`."""
    with open(_emptied(path), "w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(COLUMNS)
        lines.writerows([inert(values[name]) for name in COLUMNS] for values in map(row, records))


def _emptied(path: str | Path) -> int:
    """The regular file at `path`, empty and readable by its owner alone. Raises OSError for anything else."""
    with suppress(FileNotFoundError):
        _expect_regular(path, os.lstat(path))
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        _expect_regular(path, os.fstat(descriptor))  # it may be another one by now
        os.fchmod(descriptor, 0o600)
        os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _expect_regular(path: str | Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "expected a regular file, or the name of a new one", os.fspath(path))


def inert(value: Any) -> str:
    """A cell as text that no spreadsheet runs as a formula."""
    if value is None:
        return ""
    if isinstance(value, list):
        value = "; ".join(value)
    elif isinstance(value, dict):
        value = _json(value)
    text = value if isinstance(value, str) else value.isoformat() if hasattr(value, "isoformat") else str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _missing(what: str, package: str) -> ImportError:
    return ImportError(f"{what}() needs {package}: pip install {package}")
