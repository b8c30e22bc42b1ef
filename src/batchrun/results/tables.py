"""Records as tables. The columns are those that people filter by; the rest stays in the output."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchrun.results.record import Record

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_TEXTS = (
    "custom_id", "state", "status", "model", "output_text", "error_code", "error_message", "billing", "job_id",
)  # fmt: skip
_COUNTS = ("retry_count", "polls", "input_tokens", "output_tokens", "total_tokens", "cached_tokens", "reasoning_tokens")
_SECONDS = ("queued_s", "running_s")
_MOMENTS = ("submitted_at", "finished_at")
COLUMNS = (*_TEXTS, *_COUNTS, *_SECONDS, *_MOMENTS, "warnings", "metadata")

# What a spreadsheet takes for a formula, or for the rest of one behind a tab or a line break.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def row(record: Record) -> dict[str, Any]:
    """One record by column."""
    error, usage = record.error, record.usage
    return {
        "custom_id": record.key,
        "state": record.state.value,
        "status": record.status,
        "model": record.model,
        "output_text": record.text,
        "error_code": None if error is None else error.code or error.kind,
        "error_message": None if error is None else error.message,
        "billing": record.billing.value,
        "job_id": record.job_id,
        "retry_count": record.retry_count,
        "polls": record.polls,
        **usage.to_dict(),
        "queued_s": record.queued_s,
        "running_s": record.running_s,
        "submitted_at": record.submitted_at,
        "finished_at": record.finished_at,
        "warnings": list(record.warnings),
        "metadata": record.metadata,
    }


def to_pandas(records: Iterable[Record]) -> pd.DataFrame:
    """As `Records.to_pandas`."""
    try:
        import pandas as pd
    except ImportError as error:
        raise _missing("to_pandas", "pandas") from error
    frame = pd.DataFrame([row(one) for one in records], columns=list(COLUMNS))
    types: dict[str, Any] = dict.fromkeys(_TEXTS, "string") | dict.fromkeys(_COUNTS, "Int64")
    types |= dict.fromkeys(_SECONDS, "Float64") | dict.fromkeys(_MOMENTS, "datetime64[ms, UTC]")
    return frame.astype(types)


def to_arrow(records: Iterable[Record]) -> pa.Table:
    """As `Records.to_arrow`."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise _missing("to_arrow", "pyarrow") from error
    types: dict[str, Any] = dict.fromkeys(_TEXTS, pa.string()) | dict.fromkeys(_COUNTS, pa.int64())
    types |= dict.fromkeys(_SECONDS, pa.float64()) | dict.fromkeys(_MOMENTS, pa.timestamp("ms", "UTC"))
    types |= {"warnings": pa.list_(pa.string()), "metadata": pa.string()}
    rows = [{**told, "metadata": _json(told["metadata"])} for told in map(row, records)]
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, types[name]) for name in COLUMNS]))


def to_csv(records: Iterable[Record], path: str | Path) -> None:
    """As `Records.to_csv`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - opened as all our files are
        lines = csv.writer(file)
        lines.writerow(COLUMNS)
        lines.writerows([inert(told[name]) for name in COLUMNS] for told in map(row, records))


def inert(value: Any) -> str:
    """A cell that no spreadsheet runs."""
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
