"""A token that is refused while the run goes on: renewed once more, and a 401 that halts where that fails."""

import asyncio
import json
import sys
from types import SimpleNamespace

import pytest

from batchrun.core.jobs.messages import Cancel, Poll
from batchrun.core.responses.http import Answer, Cause, Failure
from batchrun.core.responses.outcome import Running
from batchrun.core.settings.settings import Secret, Settings
from batchrun.core.text.readable import worded
from batchrun.edge.credentials import TokenCommand
from batchrun.edge.redaction import Redactor
from batchrun.runner.loop.exchanges import Exchanges
from batchrun.runner.opening.service import KeyRenewal
from batchrun.services.choice import choose

OLD, NEW = "old-token-0123456789", "new-token-0123456789"


class Wire:
    """Knows the new token only."""

    def __init__(self):
        self.seen = []

    async def exchange(self, request, _):
        self.seen.append(request.headers["authorization"])
        return Answer(200 if NEW in self.seen[-1] else 401, {}, b"{}")


@pytest.mark.parametrize(
    ("script", "asked", "status", "said"),
    [(f"print('{NEW}')", 2, 200, []), ("raise SystemExit(3)", 1, 401, ["--token-command"])],
)
def test_a_refused_token_is_renewed_or_the_refusal_stands(script, asked, status, said):
    async def main():
        service = choose({}, base_url="https://api.example.com/v1", token=Secret(OLD, "test"))
        wire, noted = Wire(), []
        command = TokenCommand(f'{sys.executable} -c "{script}"')
        exchanges = Exchanges(
            service, wire, None, Settings(), feed=None, wall=None, input_is_gone=None, noted=None,
            keys=KeyRenewal(command, Redactor(), noted.append),
        )  # fmt: skip
        answer = await exchanges._exchange(lambda service: service.poll("resp_1"), 5.0)
        return answer, wire.seen, noted

    answer, seen, notes = asyncio.run(main())
    noted = [worded(note) for note in notes]
    assert (answer.status, len(seen)) == (status, asked)
    assert [text.split(":")[0] for text in noted] == said
    assert not any(OLD in text or NEW in text for text in noted)


class NeverAsked:
    async def renewed_service(self, service):
        pytest.fail("there is nothing to renew")


@pytest.mark.parametrize(
    "answer",
    [
        *(Answer(status, {}, b"{}") for status in (200, 400, 403, 404, 407, 429, 500)),
        Failure(sent=True, cause=Cause.DROPPED, message="x"),
        Failure(sent=False, cause=Cause.CONNECT, message="x"),
    ],
    ids=lambda answer: str(answer.status) if isinstance(answer, Answer) else f"sent: {answer.sent}",
)
def test_nothing_but_a_401_renews_a_token_or_sends_a_request_again(answer):
    """A 403 refuses what the token may do, not the token; and whatever else came, the first POST may have made a job."""

    class Once:
        asked = 0

        async def exchange(self, *_):
            self.asked += 1
            return answer

    async def main():
        service = choose({}, base_url="https://api.example.com/v1", token=Secret(OLD, "test"))
        wire = Once()
        exchanges = Exchanges(
            service, wire, None, Settings(), feed=None, wall=None, input_is_gone=None, noted=None, keys=NeverAsked()
        )  # fmt: skip
        got = await exchanges._exchange(lambda service: service.submit("/responses", b"{}"), 5.0)
        return got, wire.asked

    got, asked = asyncio.run(main())
    assert got is answer
    assert asked == 1


# --- what is kept of a response holds no key ---


SAFE = "sk-canary-51b0a7c2d94e"  # as a job's id may be, so that it could become one
ESCAPED = "".join(f"\\u{ord(char):04x}" for char in SAFE)


def fed(kind, body, redactor=None):
    """The event that a response with `body` becomes."""

    class Wire:
        async def exchange(self, *_):
            return Answer(200, {}, body)

    async def main():
        service = choose({"OPENAI_API_KEY": SAFE}, base_url="https://api.example.com/v1")
        events = []
        exchanges = Exchanges(
            service, Wire(), None, Settings(), feed=events.append, wall=lambda: 0.0, input_is_gone=None,
            noted=None, redactor=redactor or Redactor(service.secrets),
        )  # fmt: skip
        job = SimpleNamespace(job_id="resp_1")
        await getattr(exchanges, kind)({"poll": Poll, "cancel": Cancel}[kind](job, 1))
        return events[0]

    return asyncio.run(main())


@pytest.mark.parametrize("kind", ["poll", "cancel"])
@pytest.mark.parametrize(
    "body",
    [
        f'{{"id": "{ESCAPED}", "status": "completed", "output_text": "x", "output": []}}',
        f'{{"id": "{ESCAPED}", "status": "in_progress"}}',
        f'{{"id": "resp_1", "status": "{ESCAPED}"}}',
        f'{{"id": "resp_1", "status": "completed", "model": "{ESCAPED}", "output": [], "{ESCAPED}": 1}}',
        f'{{"id": "resp_1", "error": {{"message": "{ESCAPED}", "code": "{ESCAPED}"}}}}',
        f'{{"id": "resp_1", "status": "completed", "output": "{ESCAPED}',
    ],
    ids=["another id", "another id, running", "unknown status", "result", "error", "unreadable"],
)
def test_h18_a_hidden_key_is_in_no_event(kind, body):
    event = fed(kind, body.encode())
    assert "[redacted]" in repr(event)
    assert SAFE not in repr(event)
    assert SAFE[3:] not in repr(event).encode().decode("unicode_escape")


def test_the_poll_of_a_running_job_is_not_searched():
    class Unused(Redactor):
        async def hidden(self, answer):
            pytest.fail("it costs time, and nothing of the response is kept")

    for body in (
        {"id": "resp_1", "status": "queued", "said": "%41"},
        {"id": "resp_1", "state": "in_progress"},
        {"id": "resp_1", "status": "cancelling"},
    ):
        event = fed("poll", json.dumps(body).encode(), Unused())
        assert isinstance(event.seen.outcome, Running)
