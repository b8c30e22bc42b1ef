"""A simulated service on a clock that the test turns by hand: no socket, no waiting."""

import json
from typing import Any

from batchrun.simulator import Scenario, SimulatedService, parse
from batchrun.simulator.replies import Reply

START = 1_700_000_000.0


class Bench:
    """Ask the service; each answer's body is parsed."""

    def __init__(self, scenario: str | Scenario = "") -> None:
        self.now = START
        given = parse(scenario) if isinstance(scenario, str) else scenario
        self.service = SimulatedService(given, self.now)
        self.statistics = self.service.statistics

    def ask(self, method: str, path: str, body: Any = None, api_key: str = "", key: bytes = b"") -> Reply:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
        return self.service.answer(method.encode(), path.encode(), api_key.encode(), raw, self.now, key)

    def submit(self, prompt: str = "name a colour", **fields: Any) -> Reply:
        return self.ask("POST", "/v1/responses", {"model": "gpt-5", "input": prompt, "background": True, **fields})

    def job(self, prompt: str = "name a colour", **fields: Any) -> str:
        """The id of a new job."""
        answer = self.submit(prompt, **fields)
        assert answer.status == 200, answer
        return str(json.loads(answer.body)["id"])

    def look(self, job_id: str) -> dict[str, Any]:
        """What a poll shows of a job that must be there."""
        answer = self.ask("GET", f"/v1/responses/{job_id}")
        assert answer.status == 200, answer
        return dict(json.loads(answer.body))

    def status_after(self, delay: float, job_id: str) -> str:
        """The job's word, or the HTTP status, `delay` seconds later."""
        self.now += delay
        answer = self.ask("GET", f"/v1/responses/{job_id}")
        return str(json.loads(answer.body)["status"]) if answer.status == 200 else str(answer.status)

    def cancel(self, job_id: str) -> Reply:
        return self.ask("POST", f"/v1/responses/{job_id}/cancel")


def headers_of(answer: Reply) -> dict[str, str]:
    lines = answer.headers.decode().splitlines()
    return dict(line.split(": ", 1) for line in lines)


def error_of(answer: Reply) -> dict[str, Any]:
    return dict(json.loads(answer.body)["error"])
