"""Every HTTP transport: what left and what did not, over which connection, and what is sent."""

import asyncio
import socket

import pytest
import uvloop

from batchrun.core.responses.http import Answer, Cause, Request
from batchrun.core.responses.verdict import Ambiguous, Refused, read_submit
from batchrun.edge import httpx_transport as httpx_module
from batchrun.edge.exchange import Caps
from batchrun.edge.transport import pool
from tests.edge.hostile_server import HostileServer, always, answer
from tests.edge.transports import GET, OURS, POST, TRANSPORTS, exchanged, to_origin


@pytest.fixture(params=TRANSPORTS)
def transport(request):
    return TRANSPORTS[request.param]


@pytest.fixture(params=OURS)
def ours(request):
    return OURS[request.param]


# --- what left ---


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_s01_a_refused_connection_sent_nothing(transport):
    failure = to_origin(transport, f"http://127.0.0.1:{free_port()}")
    assert (failure.sent, failure.cause) == (False, Cause.CONNECT)
    assert failure.message.endswith("; nothing was sent")
    assert isinstance(read_submit(failure, 0.0), Refused)


def test_s01_a_name_that_is_not_found_sent_nothing(transport, monkeypatch):
    def unknown(*_args, **_kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    failure = to_origin(transport, "https://service.example", environment={})
    assert (failure.sent, failure.cause) == (False, Cause.DNS)


def test_s01_a_server_without_tls_was_sent_nothing(transport):
    async def plain(talk):
        await talk.reader.read(10)
        await talk.send(b"HTTP/1.1 400 No\r\n\r\n")

    async def main():
        async with HostileServer(plain) as server, transport(server.origin.replace("http:", "https:")) as opened:
            return await opened.exchange(POST, 30.0)

    failure = asyncio.run(main())
    assert (failure.sent, failure.cause) == (False, Cause.TLS)


@pytest.mark.parametrize(("connect", "timeouts"), [(0.1, [30.0]), (60.0, [0.1, 1.0, 10.0])])
def test_s01_a_tls_handshake_that_hangs_sent_nothing(transport, connect, timeouts):
    async def main():
        async with HostileServer(lambda talk: talk.hold()) as server:
            origin = server.origin.replace("http:", "https:")
            async with transport(origin, connect_timeout=connect) as opened:
                for timeout in timeouts:  # the next one where this machine was too slow to end it by the first limit
                    failure = await opened.exchange(POST, timeout)
                    assert not failure.sent
                    if failure.cause is Cause.CONNECT:
                        break
                return failure

    assert asyncio.run(main()).cause is Cause.CONNECT


def test_s01_waiting_for_a_connection_of_the_pool_sent_nothing(ours):
    async def main():
        for limit in (0.3, 3.0, 30.0):  # the next one where this machine was too slow to send the first one in time
            async with (
                HostileServer(lambda talk: talk.hold()) as server,
                ours(server.origin, connections=1) as transport,
            ):
                waiting = [transport.exchange(POST, timeout) for timeout in (limit, limit / 3)]
                ended = await asyncio.gather(*waiting)
                if server.bytes_seen:
                    break
        return ended, server.connections

    (first, second), connections = asyncio.run(main())
    assert connections == 1
    assert (first.sent, first.cause) == (True, Cause.TIMEOUT)
    assert (second.sent, second.cause) == (False, Cause.TIMEOUT)


def test_s02_a_post_that_was_read_in_part_may_have_been_sent(transport):
    async def script(talk):
        await talk.reader.readexactly(10)
        talk.reset()

    (failure,) = exchanged(transport, HostileServer(script), POST)
    assert failure.sent
    assert isinstance(read_submit(failure, 0.0), Ambiguous)


def test_s02_a_large_post_that_is_refused_while_it_is_sent_has_its_answer(transport):
    async def script(talk):
        await talk.reader.readexactly(1000)
        await talk.send(answer(413, b"too large", connection="close"))
        await asyncio.sleep(0.05)

    request = Request("POST", "/v1/responses", {}, b"x" * 4_000_000)
    (got,) = exchanged(transport, HostileServer(script), request)
    assert got.status == 413 if isinstance(got, Answer) else got.sent


def test_a_path_without_a_root_goes_nowhere(transport):
    server = HostileServer(b"")
    (failure,) = exchanged(transport, server, Request("POST", "@elsewhere.example/", {}, b"{}"))
    assert (failure.sent, server.connections) == (False, 0)


def test_a_cancelled_exchange_raises_and_closes_its_connection(transport):
    async def main():
        ended = asyncio.Event()

        async def script(talk):
            await talk.request()
            await talk.reader.read()
            ended.set()

        async with HostileServer(script) as server, transport(server.origin) as opened:
            task = asyncio.create_task(opened.exchange(POST, 30.0))
            await server.wait_received(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(ended.wait(), 30)

    asyncio.run(main())


# --- which connection ---


def connections_of(ours, monkeypatch, requests, pause, keepalive=None):
    if keepalive is not None:
        for module in (pool, httpx_module):
            monkeypatch.setattr(module, "POST_KEEPALIVE", keepalive)

    async def main():
        async with HostileServer(always(answer(200, b"{}"))) as server, ours(server.origin) as transport:
            for request in requests:
                assert isinstance(await transport.exchange(request, 30.0), Answer)
                await asyncio.sleep(pause)
            return server.connections

    return asyncio.run(main())


def test_a_submit_goes_over_a_connection_used_within_the_last_second_or_a_fresh_one(ours, monkeypatch):
    assert httpx_module.POST_KEEPALIVE == pool.POST_KEEPALIVE == 1.0
    assert connections_of(ours, monkeypatch, [POST] * 3, pause=0.0, keepalive=60.0) == 1
    assert connections_of(ours, monkeypatch, [POST] * 3, pause=0.03, keepalive=0.01) == 3
    assert connections_of(ours, monkeypatch, [GET] * 3, pause=0.03, keepalive=0.01) == 1


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\n", Cause.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\ncontent-encoding: br\r\n\r\n", Cause.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n" + b"x" * 20, Cause.TOO_LARGE),
    ],
    ids=["no length", "coded", "too large"],
)
def test_a_connection_whose_answer_was_refused_is_not_used_again(ours, raw, cause):
    """What is left of that answer would be read as the next one."""

    async def main():
        async def script(talk):
            if server.connections == 1:
                await talk.request()
                await talk.send(raw)
            await always(answer(200, b"x"))(talk)

        async with HostileServer(script) as server, ours(server.origin, caps=Caps(body=10)) as transport:
            ended = [await transport.exchange(POST, 2.0) for _ in range(2)]
            return *ended, server.connections

    failure, following, connections = asyncio.run(main())
    assert (failure.sent, failure.cause) == (True, cause)
    assert isinstance(following, Answer), following
    assert (following.body, connections) == (b"x", 2)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine on one of both loops."""

    def runs(work):
        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(work)

    return runs


@pytest.mark.parametrize("then", ["stays", "closes", "interim"])
def test_an_answer_that_comes_before_its_request_is_sent_is_read_and_its_connection_not_used_again(ours, run, then):
    """The rest of the request and the next one would reach the service as one: the next one's answer would be no answer to it."""

    async def main():
        async def script(talk):
            if server.connections == 1:
                await talk.reader.readuntil(b"\r\n\r\n")
                if then == "interim":
                    await talk.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                    await talk.reader.readexactly(64 << 20)
                await talk.send(answer(413, b"too large"))
                if then == "stays":
                    await asyncio.Event().wait()
            else:
                await always(answer(200, b"x"))(talk)

        async with HostileServer(script) as server, ours(server.origin) as transport:
            large = await transport.exchange(Request("POST", "/", {}, bytes(64 << 20)), 30.0)
            following = await transport.exchange(POST, 30.0)
            return large, following, server.connections

    large, following, connections = run(main())
    assert isinstance(large, Answer), large
    assert (large.status, large.body) == (413, b"too large")
    assert isinstance(following, Answer), following
    assert (following.status, connections) == (200, 2)


@pytest.mark.parametrize("pause", [None, 0.01])
def test_an_empty_line_after_an_answer_harms_no_later_exchange(ours, run, pause):
    async def main():
        async def script(talk):
            while await talk.request():
                if pause is None:
                    await talk.send(answer(200, b"x") + b"\r\n")
                else:
                    await talk.send(answer(200, b"x"))
                    await asyncio.sleep(pause)
                    await talk.send(b"\r\n")

        async with HostileServer(script) as server, ours(server.origin) as transport:
            return [await transport.exchange(request, 30.0) for request in (POST, POST, GET, GET, POST)]

    ended = run(main())
    assert [one.status if isinstance(one, Answer) else one for one in ended] == [200] * 5


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 099 Low\r\ncontent-length: 5\r\n\r\nfirst",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP/1.1 000 None\r\ncontent-length: 5\r\n\r\nfirst",
        b"HTTP/1.1 103 Early\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n",
    ],
    ids=["099", "099 without a body", "000", "103 with a body"],
)
@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
def test_h17_what_comes_before_an_answer_is_never_joined_with_it(ours, run, raw, request_):
    async def main():
        script = always(raw + answer(200, b"second"))
        async with HostileServer(script) as server, ours(server.origin) as transport:
            return [await transport.exchange(request_, 30.0) for _ in range(2)]

    for ended in run(main()):
        assert not isinstance(ended, Answer), ended
        assert (ended.sent, ended.cause) == (True, Cause.PROTOCOL)


def test_idle_connections_can_be_dropped_without_harm_to_those_in_use(ours):
    async def main():
        go = asyncio.Event()

        async def script(talk):
            while received := await talk.request():
                if received.method == "POST":
                    await go.wait()
                await talk.send(answer(200, b"{}"))

        async with HostileServer(script) as server, ours(server.origin) as transport:
            await transport.exchange(GET, 30.0)
            posted = asyncio.create_task(transport.exchange(POST, 30.0))
            await server.wait_received(2)
            await transport.drop_idle()
            go.set()
            assert isinstance(await posted, Answer)
            assert isinstance(await transport.exchange(GET, 30.0), Answer)
            assert server.connections == (2 if ours is OURS["own"] else 3), (
                "httpx's submits share no connection with looks"
            )

    asyncio.run(main())


def test_connections_are_bounded(ours):
    async def main():
        async with HostileServer(always(answer(200, b"{}"))) as server, ours(server.origin, connections=3) as transport:
            got = await asyncio.gather(*(transport.exchange(GET, 30.0) for _ in range(50)))
            assert all(isinstance(one, Answer) for one in got)
            return server.connections

    assert asyncio.run(main()) <= 3


# --- what is sent ---


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_what_is_asked_for_is_sent_and_nothing_else(ours, method, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    server = HostileServer(always(answer(200, b"{}")))
    head = {"authorization": "Bearer x", "user-agent": "batchrun/1"}
    exchanged(ours, server, Request(method, "/v1/x?y=1", head, b""))
    (received,) = server.received
    assert (received.method, received.path, received.body) == (method, "/v1/x?y=1", b"")
    names = {name for name, _ in received.headers}
    assert names - {"content-length"} == {"host", "accept-encoding", "authorization", "user-agent"}
    assert received.header("accept-encoding") == "identity"


def test_the_caps_are_the_ones_promised():
    assert Caps() == Caps(body=64 * 2**20, error_body=2**20, header_bytes=65_536, headers=256)
