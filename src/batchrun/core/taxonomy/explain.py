"""All that is known of one word, be it of a service, an SDK or a record; and advice for rows that failed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from batchrun.core.taxonomy.classify import http_rule
from batchrun.core.taxonomy.rules import (
    GROUP_MEANING,
    KINDS,
    STATE_MEANING,
    TAXONOMY,
    TAXONOMY_VERSION,
    WORDS,
    Rule,
    State,
    StateGroup,
    WordField,
    normalise,
)
from batchrun.core.taxonomy.warning_words import WARNINGS, meaning_of_warning
from batchrun.core.text.readable import visible

# States whose cause may pass by itself; rows in the others need a changed input.
WORTH_ANOTHER = (
    State.BLOCKED_BUDGET, State.TIMEOUT, State.RATE_LIMITED, State.OVERLOADED, State.SERVICE_UNAVAILABLE,
    State.INTERNAL_ERROR, State.ABORTED, State.EXPIRED,
)  # fmt: skip
HALT_MEANING = "halts: nothing more is submitted, open jobs are polled to their end; resumable"
_FIELD_TITLE = {
    WordField.CODE: "error code",
    WordField.TYPE: "error type",
    WordField.REASON: "reason why a job stopped early",
    WordField.HTTP: "HTTP status",
    WordField.STATUS: "status word of services",
    WordField.TOOL: "error code of batchrun itself",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """One meaning of a word: a title and facts by name, in the order to read them."""

    word: str
    title: str
    facts: dict[str, str]
    rule: Rule | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "word": self.word,
            "what": self.title,
            **({"rule": rule_to_dict(self.rule)} if self.rule else {"facts": self.facts}),
        }


def explain(word: str) -> list[Explanation]:
    """All meanings of `word`: code, type, reason, HTTP status, status word, exception, state, warning."""
    wanted, exact = normalise(word) or "", word.strip()
    found = [_of_rule(rule, exact if exact.isdigit() else None) for rule in rules_of(word)]
    if wanted in WORDS and not any(one.title == _FIELD_TITLE[WordField.STATUS] for one in found):
        found.append(Explanation(wanted, _FIELD_TITLE[WordField.STATUS], _group_facts(WORDS[wanted])))
    found += [_of_kind(name) for name in KINDS if name.lower() == exact.lower()]
    found += [_of_state(state) for state in State if state.value == wanted]
    if (meaning := meaning_of_warning(exact)) is not None:
        found.append(Explanation(visible(exact, 80), "warning of a record", {"meaning": meaning}))
    return found


def rules_of(word: str) -> list[Rule]:
    """The rules of a code, type, reason, HTTP status or status word; one for each field in which it occurs."""
    exact = word.strip()
    found = [rule for rule in TAXONOMY if rule.word.lower() in (normalise(word), exact.lower())]
    if len(exact) == 3 and exact.isascii() and exact.isdigit():
        rule = http_rule(int(exact))
        return found if rule is None or rule in found else [*found, rule]
    return found


def nearest(word: str) -> str:
    """The known word that is spelled most like `word`."""
    known = sorted(
        {rule.word for rule in TAXONOMY} | set(WORDS) | set(KINDS) | set(WARNINGS) | {state.value for state in State}
    )
    by_lower = {name.lower(): name for name in known}
    return by_lower[difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.0)[0]]


def whole_table() -> dict[str, Any]:
    """The taxonomy for programs: version, rules, exceptions, states, status words."""
    return {
        "version": TAXONOMY_VERSION,
        "rules": [rule_to_dict(rule) for rule in TAXONOMY],
        "exceptions": {name: asdict(kind) for name, kind in KINDS.items()},
        "states": {state.value: meaning for state, meaning in STATE_MEANING.items()},
        "groups": {group.value: meaning for group, meaning in GROUP_MEANING.items()},
        "status_words": {word: group.value for word, group in WORDS.items()},
    }


def rule_to_dict(rule: Rule) -> dict[str, Any]:
    """A rule with its enums as plain text."""
    return {
        "word": rule.word,
        "aspect": rule.field.value,
        "exception": rule.kind,
        "sdk": rule.sdk,
        "type": rule.type,
        "http_status": rule.http_status,
        "new_attempt": rule.retry.value,
        "retryable": rule.retryable,
        "retries": rule.retries,
        "billing_reason": rule.billing_reason,
        "halts": rule.halts,
        "state": rule.state.value,
        "advice": rule.advice,
        "since": rule.since,
    }


def _of_rule(rule: Rule, word: str | None = None) -> Explanation:
    facts: dict[str, str] = {}
    if rule.field is WordField.STATUS:
        facts |= _group_facts(WORDS[rule.word])
    sdk = f"openai.{rule.sdk}" if rule.sdk else "no class in the openai SDK"
    facts |= {
        "ends as": f"{rule.state}: {STATE_MEANING[rule.state]}",
        "exception": f"batchrun.errors.{rule.kind} ({sdk})",
        "retry": _RETRIES[rule.retry.value],
    }
    if rule.billing_reason:
        facts["billing"] = rule.billing_reason
    if rule.halts:
        facts["the run"] = HALT_MEANING
    facts["advice"] = rule.advice
    return Explanation(word or rule.word, _FIELD_TITLE[rule.field], facts, rule)


_RETRIES = {
    "no": "no",
    "once": "once",
    "twice": "at most twice",
    "limited": "at most twice",
    "yes": "yes, up to --retries",
}


def _group_facts(group: StateGroup) -> dict[str, str]:
    return {"group": f"{group}: {GROUP_MEANING[group]}"}


def _of_kind(name: str) -> Explanation:
    kind = KINDS[name]
    leading = [rule for rule in TAXONOMY if rule.kind == name]
    facts = {"meaning": kind.meaning, "is a": f"batchrun.errors.{kind.parent}"}
    facts["openai SDK"] = f"openai.{kind.sdk}" if kind.sdk else "none; to_openai() gives openai.APIError"
    retried = [rule.word for rule in leading if rule.retryable]
    final = [rule.word for rule in leading if not rule.retryable]
    if retried:
        facts["retried"] = ", ".join(dict.fromkeys(retried))
    if final:
        facts["not retried"] = ", ".join(dict.fromkeys(final))
    return Explanation(name, "exception", facts)


def _of_state(state: State) -> Explanation:
    leading = dict.fromkeys(rule.word for rule in TAXONOMY if rule.state is state)
    facts = {"meaning": STATE_MEANING[state]}
    if leading:
        facts["from"] = ", ".join(leading)
    return Explanation(state.value, "state of a record", facts)


def rule_of(state: str, code: str) -> Rule | None:
    """The rule for an error code of rows that ended in `state`."""
    rules = rules_of(code)
    return next((rule for rule in rules if rule.state == state), rules[0] if rules else None)


def advice_of(state: str, code: str) -> str:
    """What to do about such rows; of a code that the taxonomy does not know, what else is known."""
    rule = rule_of(state, code)
    if rule is not None:
        return rule.advice
    if code in KINDS:
        return KINDS[code].meaning
    return f"a code of the service, unknown to batchrun; the rows ended as {State(state).value}"


def worst_first(codes: Mapping[tuple[str, str], int], most: int = 3) -> list[tuple[str, str, int]]:
    """(state, code, rows), most important first: what halts, then what may have been paid and lost, then by rows."""

    def weight(item: tuple[tuple[str, str], int]) -> tuple[bool, bool, int, tuple[str, str]]:
        (state, code), rows = item
        rule = rule_of(state, code)
        return (not (rule is not None and rule.halts), state != State.UNCONFIRMED, -rows, item[0])

    return [(state, code, rows) for (state, code), rows in sorted(codes.items(), key=weight)[:most]]
