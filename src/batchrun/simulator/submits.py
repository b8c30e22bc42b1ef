"""How a POST is answered: with a job, or the reason why there is none.

It is checked in this order: the body, an outage or the API key, the row's own script, the quota, the rates, the drawn
refusals; then it becomes a job, whose whole course is decided here. What comes before the drawn refusals depends on time
and on other rows and is no *turn* of the row, so that what is drawn for a row is the same in every run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson

from batchrun.simulator import bodies
from batchrun.simulator.directives import NO_SCRIPT, Script, script_of
from batchrun.simulator.distributions import Draw, ScenarioError, draw, row_of
from batchrun.simulator.jobs import SimulatedJob
from batchrun.simulator.kept_keys import KeptKeys
from batchrun.simulator.limits import Allowance, header_lines, retry_lines
from batchrun.simulator.outcomes import CODES, COMPLETED, LOST, STUCK_QUEUED, STUCK_RUNNING
from batchrun.simulator.replies import NO_ANSWER, Reply, error, refusal
from batchrun.simulator.request_statistics import RequestStatistics
from batchrun.simulator.scenario import Scenario
from batchrun.simulator.store import JobStore

_BYTES_PER_TOKEN = 4


def decide(
    scenario: Scenario,
    script: Script,
    draws: Draw,
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
        outcome = scenario.jobs.pick(draws.outcome) or COMPLETED
    queued = (times.queued.at(draws.queued) if background else 0.0) if script.queued is None else script.queued
    duration = times.duration.at(draws.duration) if script.duration is None else script.duration
    starts = now + queued
    hidden = script.hidden
    if hidden is None:
        hidden = times.hidden if draws.trait < scenario.traits.hidden else 0.0
    # One quantile serves both traits: the id changes from the other end of the scale.
    id_changes = script.id_changes or 1 - draws.trait <= scenario.traits.id_changes
    return SimulatedJob(
        created=now,
        starts=math.inf if outcome == STUCK_QUEUED else starts,
        ends=math.inf if outcome in (STUCK_QUEUED, STUCK_RUNNING) else starts + duration,
        hidden=hidden,
        row=row,
        nonce=int(draws.nonce * 2**32),
        input_tokens=max(1, size // _BYTES_PER_TOKEN),
        output_tokens=_output_tokens(scenario, draws, cap_of(body), outcome),
        outcome=outcome,
        model=body["model"],
        background=background,
        id_changes=id_changes and background,
        cancel=script.cancel or "",
    )


def cap_of(body: Mapping[str, Any]) -> int | None:
    """The most tokens that a request lets its job make, by its endpoint's parameter."""
    for name in ("max_output_tokens", "max_completion_tokens", "max_tokens"):
        cap = body.get(name)
        if isinstance(cap, int) and not isinstance(cap, bool) and cap > 0:
            return cap
    return None


def _output_tokens(scenario: Scenario, draws: Draw, cap: int | None, outcome: str) -> int:
    """Tokens that the job generates: the trace's, else the scenario's; within the request's cap, at it if cut off."""
    tokens = scenario.times.duration.tokens(draws.duration)
    if tokens is None:
        tokens = max(1, int(scenario.output_tokens.at(draws.tokens)))
    if cap is not None:
        return cap if outcome == "incomplete" else min(tokens, max(cap - 1, 1))
    return tokens


# endpoint → what its body must have besides a model
SUBMITS = {
    b"responses": "input",
    b"chat/completions": "messages",
    b"embeddings": "input",
    b"images/generations": "prompt",
}


class SubmitHandler:
    """Answers POSTs by one scenario, which started at `now`."""

    def __init__(
        self, scenario: Scenario, store: JobStore, statistics: RequestStatistics, kept_keys: KeptKeys, now: float
    ) -> None:
        limits = scenario.limits
        self._scenario = scenario
        self._store = store
        self._statistics = statistics
        self._kept_keys = kept_keys
        self._accepted = 0
        self._results: dict[bytes, Callable[[SimulatedJob, str, dict[str, Any]], dict[str, Any]]] = {
            b"chat/completions": bodies.chat_completion,
            b"embeddings": bodies.embeddings,
            b"images/generations": partial(bodies.images, image_bytes=scenario.image_bytes),
        }
        self._requests = Allowance(limits.rpm, limits.window, now) if limits.rpm else None
        self._tokens = Allowance(limits.tpm, limits.window, now) if limits.tpm else None

    def answer(
        self, endpoint: bytes, raw: bytes, unavailable: Reply | None, now: float, idempotency_key: bytes = b""
    ) -> Reply:
        """The answer to a POST; `unavailable` is the answer in its place during an outage or without a valid API key."""
        self._statistics.post(now)
        try:
            body = orjson.loads(raw)
            row, name = row_of(body)
        except (orjson.JSONDecodeError, orjson.JSONEncodeError) as problem:
            return self._count_refusal(unavailable or error(400, f"expected JSON as body: {problem}"))
        kept_for = self._scenario.times.idempotency if idempotency_key else 0.0
        if kept_for and unavailable is None:
            again = self._kept_keys.answer(idempotency_key, raw, now, kept_for)
            if again is not None:
                self._statistics.sent_again(row, name)
                return again
        refused = unavailable or self._invalid(endpoint, body)
        if refused is None:
            try:
                script = script_of(raw, body) if self._scenario.directives else NO_SCRIPT
            except ScenarioError as problem:
                refused = error(400, str(problem), code="invalid_directive")
        if (
            refused is None
            and self._scenario.limits.quota is not None
            and self._accepted >= self._scenario.limits.quota
        ):
            refused = refusal("insufficient_quota", 0.0)
        if refused is not None:
            self._statistics.refused_early(row, name)
            return self._count_refusal(refused)
        turn = self._statistics.turns_of(row) + 1
        draws = draw(self._scenario.seed, row, turn)
        job = decide(
            self._scenario, script, draws, body, row, turn, now,
            size=len(raw), background=endpoint == b"responses" and bool(body.get("background")),
        )  # fmt: skip
        limited = self._limited(job, body, now)
        if limited is not None:
            self._statistics.refused_early(row, name)
            return self._count_refusal(limited)
        self._statistics.turn(row, name)
        refusal_name = script.refusal if script.refusal and turn <= script.refusal_times else None
        refusal_name = refusal_name or self._scenario.submits.pick(draws.refusal)
        keep = partial(self._kept_keys.keep, idempotency_key, raw, now) if kept_for else None
        return self._answer_to(
            endpoint, body, job, refusal_name, self._scenario.times.post.at(draws.latency), now, keep
        )

    def _answer_to(
        self,
        endpoint: bytes,
        body: dict[str, Any],
        job: SimulatedJob,
        refusal_name: str | None,
        delay: float,
        now: float,
        keep: Callable[[Callable[[float], Reply]], None] | None,
    ) -> Reply:
        """The answer to a POST that had its turn; `refusal_name` is the refusal that was drawn for it.

        `keep` takes how the POST is answered where it comes again with its idempotency key.
        """
        lines = self._rate_lines(now)
        if not job.background:
            delay += job.ends - now
            if refusal_name is None and job.outcome in CODES:
                refusal_name = job.outcome
        if refusal_name is not None and refusal_name != LOST:
            self._statistics.without_job(job.row)
            refused = self._count_refusal(refusal(refusal_name, self._scenario.times.retry_after))
            return refused._replace(delay=delay, headers=lines + refused.headers)
        self._accepted += 1
        kept = endpoint == b"responses" and body.get("store") is not False
        serial, job_id = self._store.add(job, bodies.echo_of(body) if kept else None, now, kept=kept)

        def shown(then: float) -> bytes:
            if endpoint == b"responses":
                return self._store.shown(serial, job, job_id, then if job.background else job.ends)
            return orjson.dumps(self._results[endpoint](job, job_id.decode().removeprefix("resp_"), body))

        if keep is not None:
            keep(lambda then: Reply(200, shown(then), b"", 0.0 if job.background else max(0.0, job.ends - then)))
        if refusal_name == LOST or math.isinf(delay):
            return NO_ANSWER._replace(delay=delay)
        return Reply(200, shown(now), lines, delay)

    def _invalid(self, endpoint: bytes, body: Any) -> Reply | None:
        """The refusal of an invalid body; None for a valid one."""
        if not isinstance(body, dict):
            return error(400, f"expected a JSON object as body, got {type(body).__name__}")
        model = body.get("model")
        if not isinstance(model, str) or not model:
            return error(400, "expected a model, got none", param="model", code="missing_required_parameter")
        if self._scenario.models and model not in self._scenario.models:
            return error(404, f"the model {model[:200]!r} does not exist here", param="model", code="model_not_found")
        if body.get("stream"):
            message = "this simulator does not stream; leave `stream` out, and poll a background response instead"
            return error(400, message, param="stream", code="unsupported_value")
        needed = SUBMITS[endpoint]
        if body.get(needed) is None and not (endpoint == b"responses" and body.get("prompt")):
            return error(400, f"expected {needed!r}, got none", param=needed, code="missing_required_parameter")
        if endpoint == b"responses" and body.get("background") and body.get("store") is False:
            return error(400, "background needs `store: true`", param="store", code="unsupported_value")
        return None

    def _limited(self, job: SimulatedJob, body: dict[str, Any], now: float) -> Reply | None:
        """The 429 of an exhausted rate; None after the cost was taken."""
        tokens = job.input_tokens + (cap_of(body) or job.output_tokens)
        costs = [("requests", self._requests, 1), ("tokens", self._tokens, tokens)]
        for kind, allowance, cost in costs:
            if allowance is not None and (delay := allowance.wait(cost, now)):
                return error(
                    429,
                    f"rate limit reached for {kind} per minute: limit {allowance.per_minute:.0f}, requested {cost}; "
                    f"please try again in {math.ceil(delay * 1000)}ms",
                    type=kind,
                    code="rate_limit_exceeded",
                    headers=self._rate_lines(now).decode() + retry_lines(delay),
                )
        for _, allowance, cost in costs:
            if allowance is not None:
                allowance.take(cost)
        return None

    def _rate_lines(self, now: float) -> bytes:
        lines = ""
        if self._requests is not None:
            lines += header_lines("requests", self._requests, now)
        if self._tokens is not None:
            lines += header_lines("tokens", self._tokens, now)
        return lines.encode()

    def _count_refusal(self, refused: Reply) -> Reply:
        self._statistics.refusals[refused.code or f"http_{refused.status}"] += 1
        return refused
