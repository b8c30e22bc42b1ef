"""Run very many background jobs against a submit-and-poll service, and get one record per row.

    records = await batchrun.run(rows, model="gpt-5")     # in a notebook; batchrun.run_sync(…) in a script
    records.failed, records.to_pandas()

    async with batchrun.open("in.jsonl", out="out.jsonl") as batch:
        async for record in batch:
            ...

The names in `__all__` are public; each name is imported when it is first used, so that importing batchrun is quick.
"""

from batchrun.version import __version__ as __version__

TYPE_CHECKING = False  # to type checkers it is True; importing `typing` takes longer than all else here
if TYPE_CHECKING:
    from typing import Any

    from batchrun import errors, taxonomy
    from batchrun.api.batch import Batch
    from batchrun.api.calls import open, run, run_sync  # noqa: A004 - batchrun.open, as gzip.open
    from batchrun.api.limits import Limits
    from batchrun.api.observers import Observer
    from batchrun.api.reading import read
    from batchrun.core.status.snapshot import Snapshot
    from batchrun.core.taxonomy.rules import State
    from batchrun.errors import BatchrunError, Halted, Interrupted
    from batchrun.results.record import Record
    from batchrun.results.records import Records

__all__ = [
    "Batch",
    "BatchrunError",
    "Halted",
    "Interrupted",
    "Limits",
    "Observer",
    "Record",
    "Records",
    "Snapshot",
    "State",
    "errors",
    "open",
    "read",
    "run",
    "run_sync",
    "taxonomy",
]

_HOMES = {
    "Batch": "batchrun.api.batch",
    "BatchrunError": "batchrun.errors",
    "Halted": "batchrun.errors",
    "Interrupted": "batchrun.errors",
    "Limits": "batchrun.api.limits",
    "Observer": "batchrun.api.observers",
    "Record": "batchrun.results.record",
    "Records": "batchrun.results.records",
    "Snapshot": "batchrun.core.status.snapshot",
    "State": "batchrun.core.taxonomy.rules",
    "open": "batchrun.api.calls",
    "read": "batchrun.api.reading",
    "run": "batchrun.api.calls",
    "run_sync": "batchrun.api.calls",
}


def __getattr__(name: str) -> "Any":
    from importlib import import_module  # noqa: PLC0415 - it costs a millisecond

    if name in ("errors", "taxonomy"):
        return import_module(f"batchrun.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'batchrun' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
