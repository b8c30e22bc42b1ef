"""Rows that script themselves, so that a small input can show every state.

A directive is in the prompt, ``[[fail server_error]] Name a colour``, or in the body's
``metadata.simulate``, several separated by ``;``: ``"queue 1; sleep 5; cancel late_completed"``. `DIRECTIVES` lists them.

A row's directives override the scenario. Brackets in a prompt that begin with none of
these words are just text; a directive with a wrong argument, and any unknown name in ``metadata.simulate``,
is refused with a 400 that says what was meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from batchrun.simulator.distributions import ScenarioError, seconds
from batchrun.simulator.outcomes import CANCEL_OUTCOMES, CODES, OUTCOMES, SUBMIT_REFUSALS, expect_known, nearest

_IN_PROMPT = re.compile(rb"\[\[ ?([a-z_]{1,40})((?: [A-Za-z0-9_.]{1,60}){0,2}) ?\]\]")

# verb and arguments → what it does; every outcome is a directive too
DIRECTIVES: dict[str, str] = {
    "OUTCOME": "the job ends so: incomplete, empty, refusal, stuck_running, …",
    "fail CODE": "the job fails with this error code",
    "fail CODE 2": "the row's first two jobs do, later ones complete",
    "refuse WORD": "the submit is refused: an error code, http_503, queue_full, lost, …",
    "refuse WORD 3": "the row's first three submits are",
    "sleep 2": "how long the job works: seconds, or 50ms, 1m",
    "queue 1": "how long it waits before",
    "cancel WORD": "what a cancel of it does",
    "hidden 3": "polls get a 404 for so long, then it is found",
    "id_changes": "another id in every response to a poll",
}
_VERBS = tuple(dict.fromkeys(usage.split()[0] for usage in DIRECTIVES if usage != "OUTCOME"))
ALWAYS = 2**62


@dataclass(frozen=True, slots=True)
class Script:
    """The directives of a row; None where it has none."""

    outcome: str | None = None
    outcome_times: int = ALWAYS
    refusal: str | None = None
    refusal_times: int = ALWAYS
    duration: float | None = None
    queued: float | None = None
    cancel: str | None = None
    hidden: float | None = None
    id_changes: bool = False


NO_SCRIPT = Script()


def script_of(raw: bytes, body: Any) -> Script:
    """What the row whose body is `raw`, parsed `body`, scripts. Raises ScenarioError."""
    script = NO_SCRIPT
    if b"[[" in raw:
        for found in _IN_PROMPT.finditer(raw):
            verb = found[1].decode()
            if verb in _VERBS or verb in OUTCOMES:
                script = _with(script, verb, found[2].decode().split())
    if b'"simulate"' in raw:
        metadata = body.get("metadata")
        text = metadata.get("simulate") if isinstance(metadata, dict) else None
        if isinstance(text, str):
            for directive in filter(None, (part.split() for part in text.split(";"))):
                script = _with(script, directive[0], directive[1:])
    return script


def _with(script: Script, verb: str, arguments: list[str]) -> Script:
    try:
        return _apply(script, verb, arguments)
    except ScenarioError as problem:
        raise ScenarioError(f"directive {verb!r}: {problem}") from problem


def _apply(script: Script, verb: str, arguments: list[str]) -> Script:
    match verb, arguments:
        case "fail", [code, *times]:
            return replace(script, outcome=expect_known(code, CODES), outcome_times=_times(times))
        case "refuse", [name, *times]:
            return replace(script, refusal=expect_known(name, SUBMIT_REFUSALS, http=True), refusal_times=_times(times))
        case "sleep", [delay]:
            return replace(script, duration=seconds(delay))
        case "queue", [delay]:
            return replace(script, queued=seconds(delay))
        case "hidden", [delay]:
            return replace(script, hidden=seconds(delay))
        case "cancel", [name]:
            return replace(script, cancel=expect_known(name, CANCEL_OUTCOMES))
        case "id_changes", []:
            return replace(script, id_changes=True)
        case _, [] if verb in OUTCOMES:
            return replace(script, outcome=verb)
        case _:
            raise ScenarioError(_wrong(verb, arguments))


def _wrong(verb: str, arguments: list[str]) -> str:
    if verb not in (*_VERBS, *OUTCOMES):
        return f"unknown; did you mean {nearest(verb, (*_VERBS, *OUTCOMES))!r}?"
    expected = "no argument" if verb in OUTCOMES or verb == "id_changes" else "one argument"
    return f"expected {expected}, got {' '.join(arguments) or 'none'!r}"


def _times(arguments: list[str]) -> int:
    match arguments:
        case []:
            return ALWAYS
        case [count] if count.isascii() and count.isdigit() and len(count) < 10:
            return int(count)
    raise ScenarioError(f"expected how many times as a number, got {' '.join(arguments)!r}")
