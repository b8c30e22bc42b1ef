"""What to do about a halt, and about rows that did not succeed: the same words at a prompt and on a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from batchrun.core.limits.gate import HaltReason
from batchrun.core.taxonomy.explain import explain
from batchrun.core.taxonomy.rules import Rule
from batchrun.core.taxonomy.states import STATE_MEANING, State
from batchrun.core.text.wording import Action, Option, Text

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

# Ended so for a reason that another day may mend; the others need another input.
WORTH_ANOTHER = (
    State.BLOCKED_BUDGET, State.TIMEOUT, State.RATE_LIMITED, State.OVERLOADED, State.SERVICE_UNAVAILABLE,
    State.INTERNAL_ERROR, State.ABORTED, State.EXPIRED,
)  # fmt: skip


def rule_of(state: str, code: str) -> Rule | None:
    """What the taxonomy says of an error code with which rows ended in `state`."""
    rules = [one.rule for one in explain(code) if one.rule is not None]
    return next((rule for rule in rules if rule.state == state), rules[0] if rules else None)


def advice_of(state: str, code: str) -> str:
    """What to do about rows that ended so."""
    rule = rule_of(state, code)
    return rule.advice if rule is not None else STATE_MEANING[State(state)]


def worst_first(codes: Mapping[tuple[str, str], int], most: int = 3) -> list[tuple[str, str, int]]:
    """(state, code, rows) of what deserves advice: what halts, then what may have been paid and lost, then by rows."""

    def weight(item: tuple[tuple[str, str], int]) -> tuple[bool, bool, int, tuple[str, str]]:
        (state, code), rows = item
        rule = rule_of(state, code)
        return (not (rule is not None and rule.halts), state != State.UNCONFIRMED, -rows, item[0])

    return [(state, code, rows) for (state, code), rows in sorted(codes.items(), key=weight)[:most]]
