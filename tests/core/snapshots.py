"""Snapshots for tests: all counts 0 but for what is named."""

from typing import Any

from batchrun.core.status.snapshot import Snapshot

_NOTHING: dict[str, Any] = dict.fromkeys((
    "now", "with_warnings", "waiting", "in_flight", "submits_in_flight", "submits", "accepted",
    "refusals", "polls", "new_attempts", "stale", "watched",
), 0) | {"states_before": {}, "states": {}, "codes": {}, "paused_until": None, "outage": False, "halted": None}  # fmt: skip


def snapshot(**counts: Any) -> Snapshot:
    if before := counts.pop("finished_before", 0):
        counts["states_before"] = {"succeeded": before}
    return Snapshot(**(_NOTHING | counts))
