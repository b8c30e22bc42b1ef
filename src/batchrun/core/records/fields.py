"""The table of a record's keys: the terminal line of a row, a superset of the OpenAI Batch output line.

Everything else follows from the class `RecordLine`: orjson writes it (`to_json`), `batchrun.Record` reads it, the JSON
Schema, the columns of a DataFrame and the README's table are made of its annotations. To add a key, add a field with a
default and ``{"required": False}`` (see `keys`), its value in `core.jobs.record_of`, and an attribute to
`results.record.Record`. A key that is there keeps its meaning and its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import orjson

from batchrun.core.records.artifacts import Artifact
from batchrun.core.records.keys import Moment
from batchrun.core.records.record import Attempt, Response
from batchrun.core.responses.error import Problem
from batchrun.core.responses.outcome import NO_USAGE, Billing, Usage
from batchrun.core.taxonomy.rules import State


@dataclass(frozen=True, kw_only=True)  # no slots: orjson writes it a third faster without
class RecordLine:
    """How a row ended, in full. A line without `id`, `custom_id` and `state` is no record."""

    id: Annotated[
        str,
        "the record's own id: the same for the same row, however often the batch is resumed",
        {"pattern": "^rec_[0-9a-f]{24}$"},
    ]
    custom_id: Annotated[str, "the row's key: its custom_id, or a hash of the row"]
    job_id: Annotated[str | None, "the id of the row's last job on the service"] = None
    state: Annotated[State, "how the row ended, one of a closed list"]
    status: Annotated[str | None, "the service's last status word, untouched"] = None
    model: Annotated[str | None, "the model that responded, else the one that was asked for"] = None
    retry_count: Annotated[int, "how many earlier attempts the row had"] = 0
    billing: Annotated[Billing, "whether the last attempt was paid for, as far as is known"] = Billing.UNKNOWN
    billing_reason: Annotated[
        str | None, "`quota` or `budget` where money was the reason", {"enum": ["quota", "budget", None]}
    ] = None
    error: Annotated[Problem | None, "what went wrong"] = None
    output_text: Annotated[str | None, "the text of the output"] = None
    response: Annotated[Response | None, "the response that ended the row"] = None
    artifacts: Annotated[tuple[Artifact, ...], "results that were written as files"] = ()
    warnings: Annotated[
        tuple[str, ...], "what is odd about the result, in words such as `empty_output`", {"uniqueItems": True}
    ] = ()
    usage: Annotated[Usage, "tokens, null where the service reported none"] = NO_USAGE
    polls: Annotated[int, "how often its jobs were polled"] = 0
    attempts: Annotated[tuple[Attempt, ...], "the earlier jobs of the row, each of which may have been paid for"] = ()
    submitted_at: Annotated[Moment | None, "when the last job was accepted"] = None
    running_at: Annotated[Moment | None, "when a poll first found it running"] = None
    finished_at: Annotated[Moment | None, "when it was found to have ended"] = None
    queued_s: Annotated[float | None, "seconds from `submitted_at` to `running_at`"] = None
    running_s: Annotated[float | None, "seconds from `running_at` to `finished_at`"] = None
    metadata: Annotated[bytes, "the row's own `metadata`, which is not sent", {"type": "object"}] = b"{}"

    def to_json(self) -> bytes:
        """The record as one line of JSON, without its line end; every key is present."""
        return orjson.dumps(self, _as_received)


def _as_received(value: Any) -> orjson.Fragment:
    """For orjson: bytes are JSON already, and no bytes are null."""
    return orjson.Fragment(value or b"null")
