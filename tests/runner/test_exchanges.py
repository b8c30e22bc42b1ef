"""What an instruction asks of the service, within which time, and when: nothing more, and nothing else."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from batchrun.core.jobs.messages import (
    Cancel,
    CancelAnswered,
    Poll,
    PollAnswered,
    PollFailed,
    Submit,
    SubmitAccepted,
    SubmitFailed,
)
from batchrun.core.responses.http import Answer, Cause, Failure
from batchrun.core.rows.parse import Prepared
from batchrun.core.settings.settings import Secret, Settings
from batchrun.edge.redaction import Redactor
from batchrun.runner.loop.exchanges import Exchanges
from batchrun.services.choice import choose
from batchrun.services.custom import read_profile

SETTINGS = Settings.of({"submit_timeout": 1, "answer_timeout": 2, "poll_timeout": 3, "cancel_timeout": 4})
JOB = SimpleNamespace(key="a", job_id="resp_1")


class Source:
    def __init__(self, path):
        self.path = path

    def ordinal_of(self, _key):
        return 0

    def body(self, _ordinal):
        return Prepared(self.path, b'{"input":"x"}')

    def row_sha256(self, _ordinal):
        return "0123456789abcdef" * 2


def done(instruction, *, path="/responses", service=None):
    """What happened, in order, when `instruction` was carried out over a wire that loses every answer; and the event."""
    happened, events = [], []

    class Wire:
        async def exchange(self, request, timeout):  # noqa: ASYNC109 - the seam's own law
            happened.append((request.method, request.path, timeout))
            return Failure(sent=True, cause=Cause.DROPPED, message="lost")

    class Ceiling:
        async def acquire(self):
            happened.append("acquired")

    async def main():
        exchanges = Exchanges(
            service or choose({}, base_url="https://api.example.com/v1", token=Secret("token-0123456789", "test")),
            Wire(), Source(path), SETTINGS, feed=events.append, wall=lambda: 0.0, input_is_gone=None, noted=[].append, ceiling=Ceiling(),
        )  # fmt: skip
        await getattr(exchanges, type(instruction).__name__.lower())(instruction)

    asyncio.run(main())
    (event,) = events
    return happened, type(event)


@pytest.mark.parametrize(("path", "timeout"), [("/responses", 1), ("/chat/completions", 2), ("/embeddings", 2)])
def test_a_submit_waits_for_the_ceiling_and_is_sent_once_whatever_becomes_of_it(path, timeout):
    """An answer that is the result itself has the time that a result takes."""
    assert done(Submit(JOB, 1), path=path) == (["acquired", ("POST", f"/v1{path}", timeout)], SubmitFailed)


def test_a_poll_is_a_get_of_its_job():
    assert done(Poll(JOB, 1)) == ([("GET", "/v1/responses/resp_1", 3)], PollFailed)


def test_a_cancel_is_asked_for_where_the_service_has_one_and_else_its_job_is_polled():
    assert done(Cancel(JOB, 1)) == ([("POST", "/v1/responses/resp_1/cancel", 4)], CancelAnswered)
    profile = read_profile(
        {
            "name": "no-cancel",
            "base_url": "https://api.example.com/v1",
            "endpoints": {"submit": "/jobs", "poll": "/jobs/{id}"},
            "auth": {"required": False},
        },
        "x.toml",
    )
    service = choose({}, service=profile)
    assert done(Cancel(JOB, 1), path="/jobs", service=service) == ([("GET", "/v1/jobs/resp_1", 4)], CancelAnswered)


KEEPER = {
    "name": "keeper",
    "base_url": "https://api.example.com/v1",
    "endpoints": {"submit": "/jobs", "poll": "/jobs/{id}"},
    "auth": {"required": False},
    "idempotency": {"header": "Idempotency-Key", "keeps": "24h"},
}


def test_the_idempotency_key_of_an_attempt_is_the_same_in_a_later_run():
    """A job that was retried in one run has no hash of its row in memory; one that was taken up after a crash has."""
    keys = []

    class Wire:
        async def exchange(self, request, timeout):  # noqa: ASYNC109 - the seam's own law
            keys.append(dict(request.headers).get("idempotency-key"))
            return Failure(sent=True, cause=Cause.DROPPED, message="lost")

    async def submit(run_id, row_sha256, attempt):
        service = choose({}, service=read_profile(KEEPER, "x.toml"))
        job = SimpleNamespace(key="a", job_id=None, row_sha256=row_sha256)
        exchanges = Exchanges(
            service, Wire(), Source("/jobs"), SETTINGS, feed=[].append, wall=lambda: 0.0, input_is_gone=None, noted=[].append, run_id=run_id
        )  # fmt: skip
        await exchanges.submit(Submit(job, attempt))

    for facts in (("run", "", 2), ("run", "f00d", 2), ("run", "f00d", 1), ("other", "f00d", 2)):
        asyncio.run(submit(*facts))
    assert keys[0] == keys[1]
    assert len({*keys}) == 3
    assert all(len(key) == 64 for key in keys)


KEY = "sk-canary/0123456789"
START = b'{"id":"resp_1","status":"completed","x":NaN,"output":['
LONG = START + b'"\\ud800 \\u0073k-canary\\/0123456789",' * 10_000 + b"0]}"


@pytest.mark.parametrize(
    ("instruction", "expected"), [(Poll(JOB, 1), PollAnswered), (Submit(JOB, 1), SubmitAccepted), (Cancel(JOB, 1), CancelAnswered)]
)  # fmt: skip
def test_p25_a_long_response_that_is_no_strict_json_is_kept_and_leaves_turns_to_others(instruction, expected):
    """In each of 10,000 strings are a lone surrogate and the key, which is in nothing that is kept."""
    events, turns = [], 0

    class Wire:
        async def exchange(self, request, timeout):  # noqa: ASYNC109 - the seam's own law
            nonlocal turns
            turns = 0
            return Answer(200, {}, LONG)

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main():
        key = Secret(KEY, "test")
        exchanges = Exchanges(
            choose({}, base_url="https://api.example.com/v1", token=key),
            Wire(), Source("/responses"), SETTINGS, feed=events.append, wall=lambda: 0.0, input_is_gone=None, noted=[].append,
            redactor=Redactor([key]),
        )  # fmt: skip
        task = asyncio.ensure_future(others())
        await getattr(exchanges, type(instruction).__name__.lower())(instruction)
        task.cancel()

    asyncio.run(main())
    (event,) = events
    assert type(event) is expected
    report = event[2]
    assert report.outcome.warnings[-1] == "body_not_strict_json"
    output = json.loads(report.body, parse_constant=pytest.fail)["output"]
    assert (set(output), len(output)) == ({"\\ud800 [redacted]", 0}, 10_001)
    assert turns >= 100, "one for each hundred of them"
