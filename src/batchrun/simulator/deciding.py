"""A POST that was taken becomes a job: its whole course is decided here, from scenario, script and chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from batchrun.simulator.chance import Draw
from batchrun.simulator.directives import Script
from batchrun.simulator.jobs import SimulatedJob
from batchrun.simulator.scenario import Scenario
from batchrun.simulator.words import COMPLETED, STUCK_QUEUED, STUCK_RUNNING

_BYTES_A_TOKEN = 4


def decide(
    scenario: Scenario,
    script: Script,
    chance: Draw,
    body: Mapping[str, Any],
    row: int,
    turn: int,
    now: float,
    *,
    size: int,
    background: bool,
) -> SimulatedJob:
    """The job of the `turn`-th POST of `row`, whose body of `size` bytes arrived at `now`."""
    times = scenario.times
    if script.outcome is not None:
        outcome = script.outcome if turn <= script.outcome_times else COMPLETED
    else:
        outcome = scenario.jobs.pick(chance.outcome) or COMPLETED
    queued = (times.queued.at(chance.queued) if background else 0.0) if script.queued is None else script.queued
    duration = times.duration.at(chance.duration) if script.duration is None else script.duration
    starts = now + queued
    hidden = script.hidden
    if hidden is None:
        hidden = times.hidden if chance.trait < scenario.traits.hidden else 0.0
    # One quantile serves both traits: the id changes from the other end of the scale.
    id_changes = script.id_changes or 1 - chance.trait <= scenario.traits.id_changes
    return SimulatedJob(
        created=now,
        starts=math.inf if outcome == STUCK_QUEUED else starts,
        ends=math.inf if outcome in (STUCK_QUEUED, STUCK_RUNNING) else starts + duration,
        hidden=hidden,
        row=row,
        nonce=int(chance.nonce * 2**32),
        input_tokens=max(1, size // _BYTES_A_TOKEN),
        output_tokens=_output_tokens(scenario, chance, cap_of(body), outcome),
        outcome=outcome,
        model=body["model"],
        background=background,
        id_changes=id_changes and background,
        cancel=script.cancel or "",
    )


def cap_of(body: Mapping[str, Any]) -> int | None:
    """The most tokens that a request lets its job make, by the word of its endpoint."""
    for word in ("max_output_tokens", "max_completion_tokens", "max_tokens"):
        cap = body.get(word)
        if isinstance(cap, int) and not isinstance(cap, bool) and cap > 0:
            return cap
    return None


def _output_tokens(scenario: Scenario, chance: Draw, cap: int | None, outcome: str) -> int:
    """Tokens that the job makes: a trace's own, else the scenario's; within the request's cap, at it if cut off."""
    tokens = scenario.times.duration.tokens(chance.duration)
    if tokens is None:
        tokens = max(1, int(scenario.output_tokens.at(chance.tokens)))
    if cap is not None:
        return cap if outcome == "incomplete" else min(tokens, max(cap - 1, 1))
    return tokens
