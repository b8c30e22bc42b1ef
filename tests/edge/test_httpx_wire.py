"""The httpx wire: what left and what did not, over which connection, and what is sent."""

import asyncio
import json
import socket

import httpx
import httpx2
import pytest

from batchrun.core.answer import Answer, Cause, Request
from batchrun.core.misuse import Misuse
from batchrun.core.verdict import Ambiguous, Refused, read_submit
from batchrun.edge import httpx_wire
from batchrun.edge.exchange import Caps
from batchrun.edge.httpx_wire import HttpxWire
from tests.edge.hostile_server import HostileServer, always, answer
from tests.edge.wires import GET, POST, WIRES, exchanged, own


@pytest.fixture(params=WIRES)
def wire(request):
    return WIRES[request.param]


def to_origin(open_wire, origin, request=POST, *, timeout=2.0, **options):
    async def main():
        async with open_wire(origin, **options) as wire:
            return await wire.exchange(request, timeout)

    return asyncio.run(main())


# --- what left ---


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_s01_a_refused_connection_sent_nothing(wire):
    failure = to_origin(wire, f"http://127.0.0.1:{free_port()}")
    assert (failure.sent, failure.cause) == (False, Cause.CONNECT)
    assert failure.message.endswith("; nothing was sent")
    assert isinstance(read_submit(failure, 0.0), Refused)


def test_s01_a_name_that_is_not_found_sent_nothing(wire, monkeypatch):
    def unknown(*_args, **_kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    failure = to_origin(wire, "https://service.example", environment={})
    assert (failure.sent, failure.cause) == (False, Cause.DNS)


def test_s01_a_server_without_tls_was_sent_nothing(wire):
    async def plain(talk):
        await talk.reader.read(10)
        await talk.send(b"HTTP/1.1 400 No\r\n\r\n")

    async def main():
        async with HostileServer(plain) as server, wire(server.origin.replace("http:", "https:")) as opened:
            return await opened.exchange(POST, 2.0)

    failure = asyncio.run(main())
    assert (failure.sent, failure.cause) == (False, Cause.TLS)


@pytest.mark.parametrize("timeout", [0.1, 5.0])
def test_s01_a_tls_handshake_that_hangs_sent_nothing(wire, timeout):
    async def main():
        async with HostileServer(lambda talk: talk.hold()) as server:
            origin = server.origin.replace("http:", "https:")
            async with wire(origin, connect_timeout=0.1) as opened:
                return await opened.exchange(POST, timeout)

    failure = asyncio.run(main())
    assert (failure.sent, failure.cause) == (False, Cause.CONNECT)


def test_s01_waiting_for_a_connection_of_the_pool_sent_nothing():
    async def main():
        async with HostileServer(lambda talk: talk.hold()) as server, own(server.origin, connections=1) as wire:
            waiting = [wire.exchange(POST, timeout) for timeout in (0.3, 0.1)]
            return await asyncio.gather(*waiting), server.connections

    (first, second), connections = asyncio.run(main())
    assert connections == 1
    assert (first.sent, first.cause) == (True, Cause.TIMEOUT)
    assert (second.sent, second.cause) == (False, Cause.TIMEOUT)


def test_s02_a_post_that_was_read_in_part_may_have_been_sent(wire):
    async def script(talk):
        await talk.reader.readexactly(10)
        talk.reset()

    (failure,) = exchanged(wire, HostileServer(script), POST)
    assert failure.sent
    assert isinstance(read_submit(failure, 0.0), Ambiguous)


def test_s02_a_large_post_that_is_refused_while_it_is_sent_has_its_answer(wire):
    async def script(talk):
        await talk.reader.readexactly(1000)
        await talk.send(answer(413, b"too large", connection="close"))
        await asyncio.sleep(0.05)

    request = Request("POST", "/v1/responses", {}, b"x" * 4_000_000)
    (got,) = exchanged(wire, HostileServer(script), request)
    assert got.status == 413 if isinstance(got, Answer) else got.sent


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
    failure = to_origin(lambda origin: own(origin, client=Raising(error)), "http://127.0.0.1:1")
    assert (failure.sent, failure.cause) == (sent, cause)
    assert failure.message.rpartition(": ")[2]


def test_a_silent_transport_that_hangs_may_have_sent():
    class Hanging(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            await asyncio.Event().wait()

    failure = to_origin(lambda origin: own(origin, client=Hanging()), "http://127.0.0.1:1", timeout=0.05)
    assert (failure.sent, failure.cause) == (True, Cause.TIMEOUT)


def test_a_transport_that_repeats_a_post_by_itself_has_sent_it_once_it_was_written():
    class Repeating(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request):
            try:
                return await super().handle_async_request(request)
            except httpx.HTTPError:
                raise httpx.ConnectError("the second try did not connect") from None

    server = HostileServer(lambda talk: talk.request())
    (failure,) = exchanged(lambda origin, redactor: own(origin, client=Repeating()), server, POST)
    assert failure.sent


def test_a_path_without_a_root_goes_nowhere(wire):
    server = HostileServer(b"")
    (failure,) = exchanged(wire, server, Request("POST", "@elsewhere.example/", {}, b"{}"))
    assert (failure.sent, server.connections) == (False, 0)


def test_a_cancelled_exchange_raises_and_closes_its_connection(wire):
    async def main():
        ended = asyncio.Event()

        async def script(talk):
            await talk.request()
            await talk.reader.read()
            ended.set()

        async with HostileServer(script) as server, wire(server.origin) as opened:
            task = asyncio.create_task(opened.exchange(POST, 30.0))
            await server.wait_received(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(ended.wait(), 2.0)

    asyncio.run(main())


# --- which connection ---


def connections_of(monkeypatch, requests, pause, keepalive=None):
    if keepalive is not None:
        monkeypatch.setattr(httpx_wire, "POST_KEEPALIVE", keepalive)

    async def main():
        async with HostileServer(always(answer(200, b"{}"))) as server, own(server.origin) as wire:
            for request in requests:
                assert isinstance(await wire.exchange(request, 2.0), Answer)
                await asyncio.sleep(pause)
            return server.connections

    return asyncio.run(main())


def test_a_submit_goes_over_a_connection_used_within_the_last_second_or_a_fresh_one(monkeypatch):
    assert httpx_wire.POST_KEEPALIVE == 1.0
    assert connections_of(monkeypatch, [POST] * 3, pause=0.0) == 1
    assert connections_of(monkeypatch, [POST] * 3, pause=0.03, keepalive=0.01) == 3
    assert connections_of(monkeypatch, [GET] * 3, pause=0.03, keepalive=0.01) == 1


def test_idle_connections_can_be_dropped_without_harm_to_those_in_use():
    async def main():
        go = asyncio.Event()

        async def script(talk):
            while received := await talk.request():
                if received.method == "POST":
                    await go.wait()
                await talk.send(answer(200, b"{}"))

        async with HostileServer(script) as server, own(server.origin) as wire:
            await wire.exchange(GET, 2.0)
            posted = asyncio.create_task(wire.exchange(POST, 2.0))
            await server.wait_received(2)
            await wire.drop_idle()
            go.set()
            assert isinstance(await posted, Answer)
            assert isinstance(await wire.exchange(GET, 2.0), Answer)
            assert server.connections == 3

    asyncio.run(main())


def test_connections_are_bounded():
    async def main():
        async with HostileServer(always(answer(200, b"{}"))) as server, own(server.origin, connections=3) as wire:
            got = await asyncio.gather(*(wire.exchange(GET, 5.0) for _ in range(50)))
            assert all(isinstance(one, Answer) for one in got)
            return server.connections

    assert asyncio.run(main()) <= 3


# --- what is sent ---


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_what_is_asked_for_is_sent_and_nothing_else(method, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    server = HostileServer(always(answer(200, b"{}")))
    head = {"authorization": "Bearer x", "user-agent": "batchrun/1"}
    exchanged(own, server, Request(method, "/v1/x?y=1", head, b""))
    (received,) = server.received
    assert (received.method, received.path, received.body) == (method, "/v1/x?y=1", b"")
    names = {name for name, _ in received.headers}
    assert names - {"content-length"} == {"host", "accept-encoding", "authorization", "user-agent"}
    assert received.header("accept-encoding") == "identity"


def test_a_users_client_adds_its_headers_and_params_but_no_cookies():
    client = httpx.AsyncClient(headers={"x-team": "7"}, params={"tenant": "a"}, cookies={"c": "1"}, trust_env=False)
    server = HostileServer(always(answer(200, b"{}")))

    async def main():
        async with client, server, own(server.origin, client=client) as wire:
            return await wire.exchange(POST, 2.0)

    assert isinstance(asyncio.run(main()), Answer)
    (received,) = server.received
    assert received.path == "/v1/responses?tenant=a"
    assert (received.header("x-team"), received.header("cookie")) == ("7", None)


@pytest.mark.parametrize("package", [httpx, httpx2])
def test_a_client_that_may_send_twice_is_refused(package):
    with pytest.raises(Misuse, match="leave out auth="):
        HttpxWire("http://127.0.0.1:1", client=package.AsyncClient(auth=("user", "password"), trust_env=False))


def test_what_is_no_client_is_refused():
    with pytest.raises(Misuse, match=r"expected an httpx\.AsyncClient"):
        HttpxWire("http://127.0.0.1:1", client=object())


@pytest.mark.parametrize("package", [httpx, httpx2])
def test_a_transport_that_answers_by_itself_is_a_wire_too(package):
    def handle(request):
        assert request.url.path == "/v1/responses"
        return package.Response(200, json={"sent": json.loads(request.content)})

    opened = lambda origin: own(origin, client=package.MockTransport(handle))  # noqa: E731 - one line, used once
    assert json.loads(to_origin(opened, "https://service.example").body) == {"sent": {"model": "m"}}


def test_the_caps_are_the_ones_promised():
    assert Caps() == Caps(body=64 * 2**20, error_body=2**20, header_bytes=65_536, headers=256)
