"""Whether a refused submit shows that the service lacks the endpoint, and what to do then.

Many servers have chat completions and no background responses, and answer a prompt with nothing but "Not Found".
"""

from __future__ import annotations

import re

from batchrun.core.responses.error import Problem
from batchrun.core.taxonomy.rules import Rule
from batchrun.core.text.readable import Option, Text, visible

_STATUSES = frozenset({404, 405, 501})
_OF_THE_ROW = re.compile(r"model|deployment", re.IGNORECASE)  # with these words a 404 is about what the row names
CHAT = "/chat/completions"


def missing_endpoint(problem: Problem, rule: Rule | None, path: str, prefix: str, *, has_chat: bool) -> Text | None:
    """What to tell of a submit to `path`, below the service's `prefix`, that was refused so; None where it is no sign.

    `rule` is what the problem fell under. `has_chat`: rows may be sent to chat completions.
    """
    if problem.http_status not in _STATUSES or problem.param is not None:
        return None
    ours = rule is not None and problem.message == rule.advice  # the service gave none
    message = "" if ours else problem.message
    if _OF_THE_ROW.search(f"{problem.code} {message}"):
        return None
    head = f"the service has no POST {visible(prefix + path, 200)} (HTTP {problem.http_status}{message and f': {visible(message, 120)}'})"
    if path.endswith("/responses") and has_chat:
        how = 'write the rows for its chat completions, {"messages": [{"role": "user", "content": "…"}]}'
    else:
        how = 'name another endpoint in the rows, as in "url": "/v1/responses"'
    return head, "; ", how, ", or correct ", Option("base_url")
