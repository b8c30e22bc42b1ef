"""Which rule of the taxonomy an error falls under.

The most specific fact first: billing by code, billing by type, code, HTTP status, type, and last the
group of the status word. Three exceptions: an HTTP 401 or 402 always halts; the code `invalid_request_error`,
which services also use as a type, never outranks an HTTP status; and a job's server error whose message names a
rate limit is one, since gateways wrap what the service behind them answered (LiteLLM).
"""

from __future__ import annotations

import re

from batchrun.core.taxonomy.rules import TAXONOMY, Rule, State, WordField

_BY: dict[WordField, dict[str, Rule]] = {
    field: {rule.word.lower(): rule for rule in TAXONOMY if rule.field is field} for field in WordField
}
_JOB_FAILED = _BY[WordField.STATUS]["failed"]
_RATE_LIMITED = _BY[WordField.STATUS]["rate_limited"]

# A full queue may be reported with a 400 (OGX): refused for now, in spite of the status.
_QUEUE_FULL = _BY[WordField.TOOL]["queue_full"]
_QUEUE_IS_FULL = re.compile(
    r"queue\W+(?:\w+\W+){0,3}full|full\W+queue|queue (?:capacity|limit|size)|(?:maximum|too many) (?:queued|pending)",
    re.IGNORECASE,
)
_TEXT_RULES: tuple[tuple[re.Pattern[str], Rule], ...] = (
    (re.compile(r"exceeded your current quota|insufficient[ _](?:quota|balance|credit)", re.IGNORECASE), _BY[WordField.CODE]["insufficient_quota"]),
    (re.compile(r"rate.?limit|too many requests|exceeded call rate", re.IGNORECASE), _RATE_LIMITED),
)  # fmt: skip

# Never a bare 429: it may be a count, a price, a line number.
_DISGUISED_RATE_LIMIT = re.compile(r"RateLimitError|\b[RT]PM limit|\b(?:status|code|HTTP)\W*429\b", re.IGNORECASE)


def rule(field: WordField, word: str) -> Rule:
    """The rule of a word that is in the table."""
    return _BY[field][word]


def http_rule(status: int) -> Rule | None:
    """The rule of an HTTP status; None where the status is not an error."""
    rules = _BY[WordField.HTTP]
    exact = rules.get(str(status))
    if exact is not None:
        return exact
    return rules[f"{status // 100}xx"] if 300 <= status < 600 else None


def reason_rule(reason: str | None) -> Rule:
    """The rule for a job that stopped early for `reason`."""
    return _BY[WordField.REASON].get(reason or "") or _BY[WordField.STATUS]["incomplete"]


def classify(
    code: str | None,
    type_: str | None = None,
    http_status: int | None = None,
    status_word: str | None = None,
    message: str = "",
) -> tuple[Rule, bool]:
    """The rule for an error, and whether only its message led to it.

    `http_status` counts only where it is an error; a code that is a number (vLLM, Azure) counts as one.
    `status_word` is the normalised final word of a job.
    """
    codes, types = _BY[WordField.CODE], _BY[WordField.TYPE]
    by_code, by_type = codes.get((code or "").lower()), types.get((type_ or "").lower())
    by_http = http_rule(http_status or 0) or _numeric_rule(code)
    for billing in (by_code, by_type):
        if billing is not None and billing.billing_reason:
            return billing, False
    if by_http is not None and by_http.halts:
        return by_http, False
    if by_http is not None and by_http.word == "400" and _QUEUE_IS_FULL.search(message):
        return _QUEUE_FULL, False
    generic = by_code is not None and by_code.word in types
    specific_type = by_type if by_type is not None and by_type.state is State.BLOCKED else None
    for found in (None if generic and by_http else by_code, specific_type, by_http, by_code, by_type):
        if found is not None:
            return (_RATE_LIMITED, True) if not http_status and _is_disguised(found, message) else (found, False)
    by_word = _BY[WordField.STATUS].get(status_word or "", _JOB_FAILED)
    if _is_disguised(by_word, message):
        return _RATE_LIMITED, True
    if by_word is _JOB_FAILED or by_word.kind == "JobFailed":
        for pattern, rule_of_text in _TEXT_RULES:
            if pattern.search(message):
                return rule_of_text, True
    return by_word, False


def _is_disguised(found: Rule, message: str) -> bool:
    return found.state is State.INTERNAL_ERROR and _DISGUISED_RATE_LIMIT.search(message) is not None


def _numeric_rule(code: str | None) -> Rule | None:
    if code is None or len(code) != 3 or not (code.isascii() and code.isdigit()):
        return None
    return http_rule(int(code)) if code >= "400" else None
