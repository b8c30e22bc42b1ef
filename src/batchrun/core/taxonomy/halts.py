"""Why a run halts: submits nothing more, and what to do about it."""

from __future__ import annotations

from enum import StrEnum


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


HALT_ADVICE = {
    HaltReason.QUOTA: "top up or raise the limit, then run the same command again; the rows themselves are fine",
    HaltReason.BUDGET: "raise the budget or wait for its next period, then run the same command again",
    HaltReason.AUTH: "give a valid API key, then run the same command again",
    HaltReason.ALL_REFUSED: "mend what the service names, then run the same command again; --keep-going tries every row",
    HaltReason.NO_ACCEPTANCE: "look at the service's status and your limits there, then run the same command again",
    HaltReason.OUTAGE: "wait until the service is back, then run the same command again",
    HaltReason.RETRY_BUDGET: "look at the codes above before you pay for more attempts; a larger --retry-budget goes on",
    HaltReason.UNKNOWN_TO_SERVICE: "use the key, project and base URL of the run that sent them; --write-off gives them up",
    HaltReason.UNAUTHORISED: "give a key that may look at these jobs, then run the same command again",
    HaltReason.WRITE_FAILED: "make room or mend the disk, then run the same command again",
    HaltReason.MAX_WAIT: "run the same command again to collect what goes on and to send the rest",
}
"""What to do about each halt."""
