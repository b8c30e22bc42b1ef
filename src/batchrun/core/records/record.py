"""What a record is made of: earlier attempts, the response, its id, its times."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated

from batchrun.core.records.keys import Moment
from batchrun.core.responses.outcome import Billing
from batchrun.core.taxonomy.rules import State
from batchrun.core.text.readable import utc


@dataclass(frozen=True, slots=True)
class Attempt:
    """An earlier job of the same row."""

    job_id: Annotated[str | None, "the job's id on the service"]
    state: Annotated[State, "how it ended"]
    code: Annotated[str | None, "the code of its error"]
    billing: Annotated[Billing, "whether it was paid for, as far as is known"]


@dataclass(frozen=True, slots=True)
class Response:
    """The response that ended a row."""

    status_code: Annotated[int, "its HTTP status"]
    request_id: Annotated[str | None, "the service's id of the request, for its support"]
    body: Annotated[bytes, "its body, JSON as it was received"]


def record_id(run_id: str, key: str) -> str:
    """The record's id: the same for the same row of the same batch, however often it is resumed."""
    return "rec_" + blake2b(f"{run_id}\0{key}".encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def moment(seconds: float | None) -> Moment | None:
    """A time in seconds since 1970 as a record has it."""
    return None if seconds is None else Moment(utc(seconds))


def seconds_between(start: float | None, end: float | None) -> float | None:
    """The seconds from `start` to `end`, with three decimals; 0 where a clock went back."""
    return None if start is None or end is None else round(max(0.0, end - start), 3)
