"""What a response says of a job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchrun.core.responses.error import Problem
from batchrun.core.responses.outcome import Billing
from batchrun.core.taxonomy.rules import State

if TYPE_CHECKING:
    from batchrun.results.record import JobError  # it loads orjson


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a response says of a job. The exception's `record` has the same in full, with usage and output."""

    state: State | None
    """How the job ended, as its record would say; None where the response does not show an end."""

    running: bool | None
    """True: the job is still running, poll it again. False: it is over, or none was created. None: unknown, as after a
    poll that failed: poll again."""

    error: Problem | None
    """What went wrong, as in a record: `code`, `type`, `message`, `param`, `kind`, `retryable`, `source`, `http_status`."""

    retryable: bool
    """Whether another job for the same request is worth its price."""

    retries: int
    """How many such jobs at most: what a run does with the default of `--retries`."""

    halts: bool
    """Whether no other request will do better: quota, budget, API key. A run submits nothing more."""

    billing: Billing
    """Whether the job was paid for, as far as the response shows."""

    billing_reason: str | None
    """`quota` or `budget` where money was the reason."""

    advice: str
    """What to do about it."""

    exception: JobError | None = field(compare=False)
    """The exception of `batchrun.errors`; None for a success and for a job that is still running."""

    status: str | None = None
    """The service's own status word, untouched."""

    job_id: str | None = None
    """The job's id, where the response or the address of its request names it."""

    retry_after: float | None = None
    """Seconds that the service asks to wait before the next request."""

    warnings: tuple[str, ...] = ()
    """What is odd about the response, in words such as `empty_output`; `batchrun explain WORD` has their meaning."""
