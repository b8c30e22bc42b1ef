"""Why a run submits nothing any more."""

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
