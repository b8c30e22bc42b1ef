"""The httpx transport in a user's hands: clients and transports of the user's own, of httpx and httpx2."""

import asyncio
import json

import httpx
import httpx2
import pytest

from batchrun.core.responses.http import Answer, Cause
from batchrun.core.settings.settings import UsageError
from batchrun.edge.httpx_transport import HttpxTransport
from tests.edge.hostile_server import HostileServer, always, answer
from tests.edge.transports import POST, by_httpx, exchanged, to_origin


class Raising(httpx.AsyncBaseTransport):
    """A transport of the user's own, which reports nothing of what it does."""

    def __init__(self, error):
        self.error = error

    async def handle_async_request(self, request):
        raise self.error


@pytest.mark.parametrize(
    ("error", "sent", "cause"),
    [
        (httpx.ConnectError("no"), False, Cause.CONNECT),
        (httpx.ConnectTimeout("no"), False, Cause.CONNECT),
        (httpx.PoolTimeout("no"), False, Cause.TIMEOUT),
        (httpx.ProxyError("no"), False, Cause.CONNECT),
        (httpx.ReadError("no"), True, Cause.DROPPED),
        (httpx.WriteError("no"), True, Cause.DROPPED),
        (httpx.ReadTimeout("no"), True, Cause.TIMEOUT),
        (httpx.WriteTimeout("no"), True, Cause.TIMEOUT),
        (httpx.RemoteProtocolError("no"), True, Cause.PROTOCOL),
        (httpx.LocalProtocolError("no"), True, Cause.PROTOCOL),
        (httpx2.ConnectError("no"), False, Cause.CONNECT),
        (httpx2.ReadError("no"), True, Cause.DROPPED),
        (OSError("no"), True, Cause.DROPPED),
        (TimeoutError("no"), True, Cause.DROPPED),
        (RuntimeError(), True, Cause.DROPPED),
        (ConnectionRefusedError("may come from anywhere"), True, Cause.DROPPED),
    ],
    ids=lambda value: type(value).__module__ + "." + type(value).__name__ if isinstance(value, Exception) else str(value),
)  # fmt: skip
def test_a_silent_transport_counts_as_unsent_only_where_it_could_not_connect(error, sent, cause):
    failure = to_origin(lambda origin: by_httpx(origin, client=Raising(error)), "http://127.0.0.1:1")
    assert (failure.sent, failure.cause) == (sent, cause)
    assert failure.message.rpartition(": ")[2]


def test_a_silent_transport_that_hangs_may_have_sent():
    task = []

    class Hanging(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            task.append(request)
            await asyncio.Event().wait()

    for timeout in (0.05, 0.5, 5.0):  # the next one where this machine was too slow to ask within it
        failure = to_origin(lambda origin: by_httpx(origin, client=Hanging()), "http://127.0.0.1:1", timeout=timeout)
        if task:
            break
    assert (failure.sent, failure.cause) == (True, Cause.TIMEOUT)


def test_a_transport_that_repeats_a_post_by_itself_has_sent_it_once_it_was_written():
    class Repeating(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request):
            try:
                return await super().handle_async_request(request)
            except httpx.HTTPError:
                raise httpx.ConnectError("the second try did not connect") from None

    server = HostileServer(lambda talk: talk.request())
    (failure,) = exchanged(lambda origin, redactor: by_httpx(origin, client=Repeating()), server, POST)
    assert failure.sent


def test_a_users_client_adds_its_headers_and_params_but_no_cookies():
    client = httpx.AsyncClient(headers={"x-team": "7"}, params={"tenant": "a"}, cookies={"c": "1"}, trust_env=False)
    server = HostileServer(always(answer(200, b"{}")))

    async def main():
        async with client, server, by_httpx(server.origin, client=client) as transport:
            return await transport.exchange(POST, 30.0)

    assert isinstance(asyncio.run(main()), Answer)
    (received,) = server.received
    assert received.path == "/v1/responses?tenant=a"
    assert (received.header("x-team"), received.header("cookie")) == ("7", None)


@pytest.mark.parametrize("package", [httpx, httpx2])
def test_a_client_that_may_send_twice_is_refused(package):
    with pytest.raises(UsageError, match="leave out auth="):
        HttpxTransport("http://127.0.0.1:1", client=package.AsyncClient(auth=("user", "password"), trust_env=False))


def test_what_is_no_client_is_refused():
    with pytest.raises(UsageError, match=r"expected an httpx\.AsyncClient"):
        HttpxTransport("http://127.0.0.1:1", client=object())


@pytest.mark.parametrize("package", [httpx, httpx2])
def test_a_transport_that_answers_by_itself_is_a_transport_too(package):
    def handle(request):
        assert request.url.path == "/v1/responses"
        return package.Response(200, json={"sent": json.loads(request.content)})

    opened = lambda origin: by_httpx(origin, client=package.MockTransport(handle))  # noqa: E731 - one line, used once
    assert json.loads(to_origin(opened, "https://service.example").body) == {"sent": {"model": "m"}}
