"""What a scenario can choose: what becomes of a job, of a submit, of a poll, of a cancel.

A job's *outcome* is one of `OUTCOMES`, or an error code of the taxonomy, with which the job then fails. A submit's or
poll's *refusal* is an error code, ``http_503``, or one of the few below. Scenarios, flags and the directives of a row
use the same names.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from batchrun.core.taxonomy.rules import TAXONOMY, Rule, WordField
from batchrun.simulator.distributions import ScenarioError

COMPLETED = "completed"
STUCK_QUEUED, STUCK_RUNNING = "stuck_queued", "stuck_running"

# outcome → its description; a job of any other outcome fails with the code of that name
OUTCOMES: dict[str, str] = {
    COMPLETED: "the job completes with a text",
    "incomplete": "stops at max_output_tokens with a partial text",
    "filtered": "stops at the content filter with a partial text",
    "empty": "completed, and the output is empty",
    "refusal": "completed, and the model refuses",
    "tool_failed": "completed, and its image tool failed",
    "image": "completed with an image item",
    "image_generating": "completed with an image item that has a result and still says generating",
    "error_completed": "completed with a text and an error object",
    "partial": "failed (server_error) with a partial text",
    "failed": "failed without an error object",
    "expired": "the service lets the job run out",
    "cancelled": "the service cancels the job by itself",
    "requires_action": "waits for a person or a tool",
    STUCK_QUEUED: "stays queued for ever",
    STUCK_RUNNING: "stays in progress for ever",
}

CODES: dict[str, Rule] = {rule.word: rule for rule in TAXONOMY if rule.field is WordField.CODE}

QUEUE_FULL, LOST, DROPPED, HTML = "queue_full", "lost", "dropped", "html"
REFUSALS: dict[str, str] = {
    QUEUE_FULL: "400 that names a full queue",
    LOST: "the job is created and the connection closed without a response (submits only)",
    DROPPED: "nothing is created and the connection closed without a response",
    HTML: "200 with a page that is not JSON",
}

CANCELS: dict[str, str] = {
    "cancelled": "done at once",
    "slow": "keeps running for times.late, then cancelled",
    "late_completed": "cancelled at once, and completed after times.late",
    "ignored": "200, and the job runs to its end",
    "conflict": "refused with 409",
    "refused": "refused with 400",
    "http_500": "refused with 500",
}


@dataclass(frozen=True, slots=True)
class Mix:
    """Names with their shares; the rest goes to the caller's default."""

    shares: tuple[tuple[str, float], ...] = ()

    def pick(self, u: float) -> str | None:
        """The name at quantile `u`; None in the rest."""
        for name, share in self.shares:
            if u < share:
                return name
            u -= share
        return None

    def __bool__(self) -> bool:
        return bool(self.shares)


NOTHING = Mix()


def share(value: object) -> float:
    """A share in a scenario: ``"5%"`` or ``0.05``."""
    number: object = value
    if isinstance(value, str):
        text = value.strip()
        try:
            number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1:
        raise ScenarioError(f"expected a share such as '5%' or 0.05, got {value!r}")
    return float(number)


def mix(shares: Mapping[str, object], known: Collection[str], *, http: bool = False) -> Mix:
    """Parse a table of names and shares; `http` allows ``http_NNN`` too."""
    read = Mix(tuple((expect_known(name, known, http=http), share(value)) for name, value in shares.items()))
    total = sum(part for _, part in read.shares)
    if total > 1 + 1e-9:
        raise ScenarioError(f"expected shares of at most 100% together, got {total:.1%}")
    return read


def expect_known(name: str, known: Collection[str], *, http: bool = False) -> str:
    """`name`, if it is known; else an error that suggests the nearest."""
    if name in known or (http and http_status_of(name)):
        return name
    raise ScenarioError(f"{name!r} is unknown; did you mean {nearest(name, known)!r}?")


def nearest(name: str, known: Iterable[str]) -> str:
    """The name in `known` that is spelled most like `name`."""
    return difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)[0]


def http_status_of(name: str) -> int | None:
    """503 for ``http_503``; None for any other name."""
    digits = name.removeprefix("http_")
    if digits == name or len(digits) != 3 or not digits.isascii() or not digits.isdigit():
        return None
    return int(digits) if 400 <= int(digits) < 600 else None


JOB_OUTCOMES = frozenset(OUTCOMES) | frozenset(CODES)
SUBMIT_REFUSALS = frozenset(REFUSALS) | frozenset(CODES)
POLL_REFUSALS = SUBMIT_REFUSALS - {LOST, QUEUE_FULL}
CANCEL_OUTCOMES = frozenset(CANCELS)
