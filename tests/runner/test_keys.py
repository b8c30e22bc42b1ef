"""A token that is refused while the run goes on: renewed once more, and a 401 that halts where that fails."""

import asyncio
import sys

import pytest

from batchrun.core.responses.http import Answer, Cause, Failure
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
            service, wire, None, Settings(), feed=None, wall=None, input_is_gone=None,
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
            service, wire, None, Settings(), feed=None, wall=None, input_is_gone=None, keys=NeverAsked()
        )  # fmt: skip
        got = await exchanges._exchange(lambda service: service.submit("/responses", b"{}"), 5.0)
        return got, wire.asked

    got, asked = asyncio.run(main())
    assert got is answer
    assert asked == 1
