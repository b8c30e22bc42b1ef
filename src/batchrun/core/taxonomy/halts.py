"""Why a run halts: submits nothing more, and what to do about it."""

from __future__ import annotations

from enum import StrEnum

from batchrun.core.text.readable import Action, Option, Text


class HaltReason(StrEnum):
    """Why nothing is submitted any more."""

    QUOTA = "quota"
    BUDGET = "budget"
    AUTH = "auth"
    ALL_REFUSED = "all refused"
    NO_ACCEPTANCE = "no acceptance"
    OUTAGE = "outage"
    RETRY_BUDGET = "retry budget"
    UNKNOWN_TO_SERVICE = "unknown to service"
    UNAUTHORISED = "unauthorised"
    WRITE_FAILED = "write failed"
    MAX_WAIT = "max wait"


HALT_ADVICE: dict[HaltReason, Text] = {
    HaltReason.QUOTA: ("top up or raise the limit, then ", Action.RUN_AGAIN, "; the rows themselves are fine"),
    HaltReason.BUDGET: ("raise the budget or wait for its next period, then ", Action.RUN_AGAIN),
    HaltReason.AUTH: ("give a valid API key, then ", Action.RUN_AGAIN),
    HaltReason.ALL_REFUSED: (
        "mend what the service names, then ",
        Action.RUN_AGAIN,
        "; ",
        Option("keep_going"),
        " tries every row",
    ),
    HaltReason.NO_ACCEPTANCE: ("look at the service's status and your limits there, then ", Action.RUN_AGAIN),
    HaltReason.OUTAGE: ("wait until the service is back, then ", Action.RUN_AGAIN),
    HaltReason.RETRY_BUDGET: (
        "look at the codes above before you pay for more attempts; a larger ",
        Option("retry_budget"),
        " goes on",
    ),
    HaltReason.UNKNOWN_TO_SERVICE: (
        "use the key, project and base URL of the run that sent them; ",
        Option("write_off"),
        " gives them up",
    ),
    HaltReason.UNAUTHORISED: ("give a key that may look at these jobs, then ", Action.RUN_AGAIN),
    HaltReason.WRITE_FAILED: ("make room or mend the disk, then ", Action.RUN_AGAIN),
    HaltReason.MAX_WAIT: (Action.RUN_AGAIN, " to collect what goes on and to send the rest"),
}
"""What to do about each halt."""
