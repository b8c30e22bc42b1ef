"""The simulated service: a request and the time go in, an answer comes out. No I/O, no clock, no timer."""

from __future__ import annotations

from batchrun.simulator import bodies
from batchrun.simulator.distributions import ScenarioError
from batchrun.simulator.kept_keys import KeptKeys
from batchrun.simulator.replies import HANG_UP, NO_ANSWER, Reply, error, page, reply
from batchrun.simulator.request_statistics import RequestStatistics
from batchrun.simulator.scenario import Scenario, parse
from batchrun.simulator.store import JobStore
from batchrun.simulator.submits import SUBMITS, SubmitHandler

_PREFIXES = (b"/v1/", b"/openai/v1/", b"/")
_MODELS = ("gpt-5", "gpt-5-mini", "gpt-5-nano", "gpt-4.1-mini", "text-embedding-3-small", "gpt-image-1")
_ENDPOINTS = (
    "POST /v1/responses, /v1/chat/completions, /v1/embeddings, /v1/images/generations; GET /v1/models, /_statistics"
)


class SimulatedService:
    """One simulated service, started at `now`."""

    def __init__(self, scenario: Scenario, now: float) -> None:
        self.statistics = RequestStatistics()
        self._store = JobStore(scenario, self.statistics)
        self._kept_keys = KeptKeys()
        self.scenario = scenario
        self.use(scenario, now)

    def use(self, scenario: Scenario, now: float) -> None:
        """Behave by `scenario` from `now` on; its outages and counts start now, jobs stay as they were decided."""
        if (scenario.seed, scenario.demo) != (self.scenario.seed, self.scenario.demo):
            raise ScenarioError("seed and demo are part of the ids of jobs and cannot change; start a new simulator")
        self.scenario = self._store.scenario = scenario
        self._submits = SubmitHandler(scenario, self._store, self.statistics, self._kept_keys, now)
        self._since = now

    def answer(
        self, method: bytes, target: bytes, api_key: bytes, body: bytes, now: float, idempotency_key: bytes = b""
    ) -> Reply:
        """The answer to a request. `api_key` and `idempotency_key` are those of the request, empty if it has none."""
        path, _, query = target.partition(b"?")
        if path.startswith(b"/_"):
            return self._own_endpoint(method, path, body, now)
        endpoint = next((path[len(prefix) :] for prefix in _PREFIXES if path.startswith(prefix)), b"")
        unavailable = self._unavailable(api_key, now)
        if method == b"POST" and endpoint in SUBMITS:
            answer = self._submits.answer(endpoint, body, unavailable, now, idempotency_key)
        else:
            answer = unavailable or self._other(method, endpoint, query, now)
        self.statistics.answers[answer.status] += 1
        return answer

    def _unavailable(self, api_key: bytes, now: float) -> Reply | None:
        """The answer during an outage or without a valid API key; else None."""
        scenario, age = self.scenario, now - self._since
        for outage in scenario.outages:
            if outage.begin <= age < outage.end:
                return page(outage.status) if outage.status != HANG_UP else NO_ANSWER
        if age >= scenario.limits.key_until:
            return error(401, "this API key was withdrawn", code="invalid_api_key")
        if scenario.api_key is not None and api_key != scenario.api_key.encode():
            if api_key:
                return error(401, "incorrect API key provided", code="invalid_api_key")
            return error(401, "expected an API key in `Authorization: Bearer` or `api-key`, got none")
        return None

    def _other(self, method: bytes, endpoint: bytes, query: bytes, now: float) -> Reply:
        """Everything but submits."""
        match method, endpoint.split(b"/"):
            case b"GET", [b"responses", name]:
                if b"stream=true" in query:
                    return error(400, "this simulator does not stream; poll without `stream`", param="stream")
                return self._store.poll(name, now)
            case b"POST", [b"responses", name, b"cancel"]:
                return self._store.cancel(name, now)
            case b"DELETE", [b"responses", name]:
                return self._store.delete(name, now)
            case b"GET", [b"models"]:
                return reply(bodies.model_list(self.scenario.models or _MODELS, self._since))
            case _, [b"responses", _]:
                return _not_allowed(method, "GET, DELETE")
            case _, [b"responses", _, b"cancel"]:
                return _not_allowed(method, "POST")
            case _, [b"models"]:
                return _not_allowed(method, "GET")
            case _:
                pass
        if endpoint in SUBMITS:
            return _not_allowed(method, "POST")
        shown = endpoint[:200].decode("ascii", "replace")
        return error(404, f"nothing is at {shown!r}; this simulator knows {_ENDPOINTS}")

    def _own_endpoint(self, method: bytes, path: bytes, body: bytes, now: float) -> Reply:
        """The simulator's own endpoints, which no outage affects."""
        match method, path:
            case b"GET", b"/_statistics" | b"/_books":  # the second is its earlier name
                return reply(self.statistics.to_dict(now))
            case b"GET", b"/_statistics/rows" | b"/_books/rows":
                return reply({"posts": self.statistics.posts_per_row(), "jobs": self.statistics.jobs_per_row()})
            case b"POST", b"/_scenario":
                try:
                    base = Scenario(seed=self.scenario.seed, demo=self.scenario.demo)
                    self.use(parse(body.decode("utf-8", "replace"), "the new scenario", base=base), now)
                except ScenarioError as problem:
                    return error(400, str(problem), code="invalid_scenario")
                return reply({"ok": True})
            case _, b"/_statistics" | b"/_statistics/rows" | b"/_books" | b"/_books/rows":
                return _not_allowed(method, "GET")
            case _, b"/_scenario":
                return _not_allowed(method, "POST")
            case _:
                return error(
                    404, "the simulator's own paths are GET /_statistics, GET /_statistics/rows and POST /_scenario"
                )


def _not_allowed(method: bytes, allowed: str) -> Reply:
    shown = method.decode("ascii", "replace")
    return error(405, f"{shown} is not allowed here, only {allowed}", headers=f"allow: {allowed}\r\n")
