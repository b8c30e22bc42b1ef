"""Our transport in the hands of plain clients of httpx and httpx2, and of the openai SDK."""

import asyncio
import gzip
import json
import ssl
import time

import httpx
import httpx2
import openai
import pytest
import trustme

from batchrun.edge.transport import httpx_adapter
from batchrun.simulator import Scenario, Simulator
from batchrun.transport import Transport
from tests.edge.hostile_server import HostileServer, always, answer
from tests.edge.test_transports import free_port

PACKAGES = {"httpx": httpx, "httpx2": httpx2}


@pytest.fixture(params=PACKAGES)
def package(request):
    return PACKAGES[request.param]


class Loop(asyncio.SelectorEventLoop):
    """Its clock can be moved on."""

    ahead = 0.0

    def time(self):
        return super().time() + self.ahead

    async def pass_by(self, seconds):
        """As if they were over; what the sockets hold is read before and after, and what is due is done."""
        await asyncio.sleep(0.02)
        self.ahead += seconds
        await asyncio.sleep(0.02)


def in_its_time(main):
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main())


def fetch(package, script, *, path="/v1/x", method="GET", tls=None, transport=None, origin=None, **options):
    """The answer to one request by a client of `package` on our transport; and the server."""
    request_options = {name: options.pop(name) for name in ("content", "headers", "json") if name in options}

    async def main():
        server = HostileServer(script, tls=tls)
        made = transport or Transport()
        options.setdefault("timeout", 50.0)
        async with server, package.AsyncClient(transport=made, base_url=origin or server.origin, **options) as client:
            return await client.request(method, path, **request_options), server

    return in_its_time(main)


# --- what passes ---


def test_an_answer_comes_in_the_package_of_its_request(package):
    got, server = fetch(package, always(answer(200, {"a": 1}, x_more="y")), path="/v1/x?q=%2F&b=1")
    assert type(got) is package.Response
    assert (got.status_code, got.json(), got.headers["x-more"]) == (200, {"a": 1}, "y")
    assert (got.http_version, got.extensions["http_version"]) == ("HTTP/1.1", b"HTTP/1.1")
    assert (server.received[0].method, server.received[0].path) == ("GET", "/v1/x?q=%2F&b=1")
    assert server.received[0].header("host") == server.origin.removeprefix("http://")


def test_bodies_are_sent_with_a_length_also_those_that_are_made_while_they_are_read(package):
    async def pieces():
        yield b"one "
        yield b"two"

    for content in (b"one two", pieces()):
        _, server = fetch(package, always(answer(200)), method="POST", content=content)
        assert server.received[0].body == b"one two"
        assert server.received[0].header("transfer-encoding") is None


def test_headers_that_are_repeated_stay_apart_and_cookies_are_the_clients_business(package):
    raw = b"HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 0\r\n\r\n"
    got, _ = fetch(package, raw)
    assert got.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert dict(got.cookies) == {"a": "1", "b": "2"}


def test_auth_hooks_redirects_and_decoding_are_the_clients_and_work(package):
    seen = []

    async def hook(response):
        seen.append(response.status_code)

    async def script(talk):
        while received := await talk.request():
            if received.path == "/from":
                await talk.send(answer(307, location="/to"))
            else:
                await talk.send(answer(200, gzip.compress(b"squeezed"), content_encoding="gzip"))

    got, server = fetch(
        package, script, path="/from", auth=("user", "word"), follow_redirects=True, event_hooks={"response": [hook]}
    )
    assert (got.text, seen) == ("squeezed", [307, 200])
    assert [one.header("authorization") for one in server.received] == ["Basic dXNlcjp3b3Jk"] * 2
    assert server.connections == 1


@pytest.mark.parametrize(
    ("method", "raw", "body"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n", b""),
        ("HEAD", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 204 No\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 304 No\r\ncontent-length: 999\r\n\r\n", b""),
        (
            "GET",
            b"HTTP/1.1 100 Go on\r\n\r\n" * 50 + b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" + answer(200, b"x"),
            b"x",
        ),
        ("GET", b"HTTP/1.1 200 OK\r\nupgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 1\r\n\r\nx", b"x"),
        ("GET", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;ext=y\r\nx\r\n0\r\nt: 1\r\n\r\n", b"x"),
    ],
    ids=["HEAD", "HEAD in chunks", "204", "304", "1xx first", "an upgrade offered", "chunks"],
)
def test_answers_of_odd_forms_leave_the_connection_in_use(package, method, raw, body):
    async def main():
        async with (
            HostileServer(always(raw)) as server,
            package.AsyncClient(transport=Transport(), timeout=50.0) as client,
        ):
            for _ in range(2):
                got = await client.request(method, server.origin)
                assert (got.content, got.headers.get("t")) == (body, None)
            return server.connections

    assert asyncio.run(main()) == 1


def test_an_answer_to_the_end_of_its_connection(package):
    got, _ = fetch(package, b"HTTP/1.1 200 OK\r\n\r\nall there is")
    assert got.text == "all there is"


@pytest.mark.parametrize("status", [101, 199])
def test_a_switch_of_protocol_that_was_not_asked_for(package, status):
    raw = f"HTTP/1.1 {status} X\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n".encode()
    with pytest.raises(package.RemoteProtocolError):
        fetch(package, raw)


# --- streams ---


def test_a_body_is_read_while_it_comes(package):
    async def main():
        go = asyncio.Event()

        async def script(talk):
            await talk.request()
            await talk.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\none")
            await go.wait()
            await talk.send(b"two")

        async with HostileServer(script) as server, package.AsyncClient(transport=Transport(), timeout=50.0) as client:  # noqa: SIM117
            async with client.stream("GET", server.origin) as got:
                read = got.aiter_raw()
                assert await anext(read) == b"one"
                go.set()
                assert b"".join([piece async for piece in read]) == b"two"

    asyncio.run(main())


def test_a_reader_that_waits_holds_the_sender_back_and_loses_nothing(package):
    size = 32 << 20

    async def main():
        sent = 0

        async def script(talk):
            nonlocal sent
            await talk.request()
            await talk.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
            for _ in range(size // 65_536):
                await talk.send(b"x" * 65_536)
                sent += 65_536

        async with HostileServer(script) as server, package.AsyncClient(transport=Transport(), timeout=50.0) as client:  # noqa: SIM117
            async with client.stream("GET", server.origin) as got:
                before = -1
                while sent > before:  # it sends what the system's buffers and ours take
                    before = sent
                    await asyncio.get_running_loop().pass_by(60.0)  # the reader's time, and not the sender's fault
                assert sent < size / 2
                return sum([len(piece) async for piece in got.aiter_raw()])

    assert in_its_time(main) == size


def test_who_does_not_wait_for_a_piece_is_not_late_for_it(package):
    async def main():
        go = asyncio.Event()

        async def script(talk):
            await talk.request()
            await talk.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n")
            await go.wait()
            await talk.send(b"onetwo")

        async with HostileServer(script) as server, package.AsyncClient(transport=Transport(), timeout=50.0) as client:  # noqa: SIM117
            async with client.stream("GET", server.origin) as got:
                for _ in range(3):
                    await asyncio.get_running_loop().pass_by(60.0)
                go.set()
                return await got.aread()

    assert in_its_time(main) == b"onetwo"


def test_a_stream_that_is_left_closes_its_connection(package):
    async def main():
        ended = asyncio.Event()

        async def script(talk):
            await talk.request()
            await talk.send(b"HTTP/1.1 200 OK\r\ncontent-length: 60\r\n\r\none")
            await talk.reader.read()
            ended.set()

        async with HostileServer(script) as server, package.AsyncClient(transport=Transport(), timeout=50.0) as client:
            async with client.stream("GET", server.origin) as got:
                assert got.status_code == 200
            await asyncio.wait_for(ended.wait(), 30)

    asyncio.run(main())


def test_an_answer_that_nobody_reads_can_be_closed(package):
    async def main():
        async with HostileServer(always(answer(200, b"x"))) as server:
            client = package.AsyncClient(transport=Transport(), timeout=50.0)
            async with client.stream("GET", server.origin):
                pass
            await client.aclose()

    asyncio.run(main())


# --- errors ---


async def _hold(talk):
    await talk.hold()


async def _reset(talk):
    await talk.request()
    talk.reset()


async def _half(talk):
    await talk.request()
    await talk.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx")


async def _silent_in_the_body(talk):
    await talk.request()
    await talk.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx")
    await talk.hold()


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (_hold, "ReadTimeout"),
        (_silent_in_the_body, "ReadTimeout"),
        (_reset, "ReadError"),
        (_half, "RemoteProtocolError"),
        (lambda talk: talk.request(), "RemoteProtocolError"),
        (b"SSH-2.0-OpenSSH\r\n", "RemoteProtocolError"),
        (b"HTTP/1.1 099 Low\r\ncontent-length: 5\r\n\r\nfirst" + answer(200, b"second"), "RemoteProtocolError"),
        (b"HTTP/1.1 103 Early\r\ncontent-length: 5\r\n\r\nfirst" + answer(200, b"second"), "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", "RemoteProtocolError"),
    ],
    ids=["silent", "silent in the body", "reset", "cut off", "closed", "no HTTP", "h17-099", "h17-103", "coded"],
)
def test_what_goes_wrong_is_raised_as_the_package_raises_it(package, script, error):
    with pytest.raises(getattr(package, error)) as caught:
        fetch(package, script, timeout=package.Timeout(50.0, read=0.1 if error == "ReadTimeout" else 50.0))
    assert type(caught.value) is getattr(package, error)
    assert caught.value.request.method == "GET"


def test_the_limit_of_reading_counts_from_the_last_byte_also_within_the_head(package):
    async def script(talk):
        await talk.request()
        for piece in (b"HTTP/1.1 200 OK\r\nx-", b"a: 1\r\n", b"content-length", b": 1\r\n", b"\r\nx"):
            await talk.send(piece)
            await asyncio.get_running_loop().pass_by(20.0)

    got, _ = fetch(package, script, timeout=50.0)
    assert (got.text, got.headers["x-a"]) == ("x", "1")
    for head in (b"", b"HTTP/1.1 200 OK\r\nx-"):

        async def silent(talk, head=head):
            await talk.request()
            await talk.send(head)
            await talk.hold()

        with pytest.raises(package.ReadTimeout, match=r"nothing happened within 0\.1 s"):
            fetch(package, silent, timeout=package.Timeout(50.0, read=0.1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"connections": 0}, "connections: expected 1 or more, got 0"),
        ({"connections": -1}, "connections: expected 1 or more, got -1"),
        ({"connections": 2.5}, r"connections: expected a whole number, got 2\.5"),
        ({"connections": "9"}, "connections: expected a whole number, got '9'"),
        ({"connections": True}, "connections: expected a whole number, got True"),
        ({"verify": False}, r"verify: expected an ssl\.SSLContext or None, got False; .*cafile="),
        ({"verify": "ca.pem"}, r"verify: expected an ssl\.SSLContext or None, got 'ca\.pem'"),
    ],
)
def test_a_transport_that_could_not_work_is_not_made(given, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Transport(**given)


def test_no_connection_no_name_no_tls(package, monkeypatch):
    with pytest.raises(package.ConnectError, match="refused"):
        fetch(package, b"", origin=f"http://127.0.0.1:{free_port()}")
    for script in (lambda talk: talk.send(b"no tls here"), _hold):

        async def main(script=script):
            async with (
                HostileServer(script) as server,
                package.AsyncClient(
                    transport=Transport(), timeout=package.Timeout(50.0, connect=0.1 if script is _hold else 50.0)
                ) as client,
            ):
                await client.get(server.origin.replace("http:", "https:"))

        with pytest.raises(package.ConnectTimeout if script is _hold else package.ConnectError):
            asyncio.run(main())


def test_waiting_for_a_place_in_the_pool_has_a_limit_of_its_own(package):
    async def main():
        async with HostileServer(_hold) as server:
            timeout = package.Timeout(50.0, pool=0.05)
            async with package.AsyncClient(transport=Transport(connections=1), timeout=timeout) as client:
                first = asyncio.create_task(client.get(server.origin))
                await server.wait_connected(1)
                with pytest.raises(package.PoolTimeout):
                    await client.get(server.origin)
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)

    asyncio.run(main())


def test_a_request_that_is_not_taken_ends_by_the_limit_of_writing(package):
    async def main():
        async def script(talk):
            talk.writer.transport.pause_reading()
            await asyncio.Event().wait()

        async with HostileServer(script) as server:
            timeout = package.Timeout(50.0, write=0.2)
            async with package.AsyncClient(transport=Transport(), timeout=timeout) as client:
                with pytest.raises(package.WriteTimeout):
                    await client.post(server.origin, content=b"x" * (64 << 20))

    asyncio.run(main())


def test_no_timeouts_at_all(package):
    got, _ = fetch(package, answer(200, b"x"), timeout=None)
    assert got.text == "x"


def test_what_is_no_web_address_or_has_lines_in_its_headers_goes_nowhere(package):
    with pytest.raises(package.UnsupportedProtocol):
        fetch(package, b"", origin="ftp://127.0.0.1")
    server = HostileServer(b"")

    async def main():
        async with server, package.AsyncClient(transport=Transport(), timeout=50.0) as client:
            for headers in ({"x-a": "1\r\nx-b: 2"}, {"x-a": "1\nb"}, {"x-a\r\nx-b": "1"}, {"host": "a\r\nb: c"}):
                request = package.Request("GET", server.origin, headers=headers)
                with pytest.raises(package.LocalProtocolError):
                    await client.send(request)
            with pytest.raises(package.LocalProtocolError):
                await client.request("GET / HTTP/1.1\r\nx:", server.origin)

    asyncio.run(main())
    assert server.connections == 0


# --- places, TLS, others ---


def test_each_origin_has_its_own_pool_and_host_is_named_as_it_should_be(package):
    async def main():
        async with (
            HostileServer(always(answer(200))) as one,
            HostileServer(always(answer(200)), host="::1") as two,
            package.AsyncClient(transport=Transport(), timeout=50.0) as client,
        ):
            six = f"http://[::1]:{two.port}"
            for origin in (one.origin, six, one.origin, six):
                await client.get(origin)
            await client.get(one.origin, headers={"host": "virtual.example"})
            assert (one.connections, two.connections) == (1, 1)
            return (
                [server.received[-1].header("host") for server in (one, two)],
                one.received[0].header("host") == one.origin[7:],
                two.port,
            )

    named, plain, port = asyncio.run(main())
    assert plain
    assert named == ["virtual.example", f"[::1]:{port}"]


def test_tls_by_a_context_of_the_users_own(package):
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    got, _ = fetch(package, always(answer(200, b"x")), tls=server, transport=Transport(verify=client))
    assert got.text == "x"
    with pytest.raises(package.ConnectError, match="certificate is refused"):
        fetch(package, always(answer(200, b"x")), tls=server)


def test_many_at_once_within_the_bound(package):
    async def main():
        async with HostileServer(always(answer(200, b"x"))) as server:
            async with package.AsyncClient(transport=Transport(connections=4), timeout=50.0) as client:
                got = await asyncio.gather(*(client.get(server.origin) for _ in range(100)))
            assert {one.text for one in got} == {"x"}
            return server.connections

    assert asyncio.run(main()) <= 4


def test_a_cancelled_request_closes_its_connection(package):
    async def main():
        ended = asyncio.Event()

        async def script(talk):
            await talk.request()
            await talk.reader.read()
            ended.set()

        async with HostileServer(script) as server, package.AsyncClient(transport=Transport(), timeout=50.0) as client:
            task = asyncio.create_task(client.get(server.origin))
            await server.wait_received(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(ended.wait(), 30)

    asyncio.run(main())


def test_the_openai_sdk_takes_it():
    """Version 3.51 of the SDK runs on httpx2, and takes a client of that package with any transport."""

    async def main():
        async with Simulator(Scenario(seed=1)) as simulator:
            http = openai.DefaultAsyncHttpxClient(transport=Transport())
            async with openai.AsyncOpenAI(base_url=simulator.base_url, api_key="any", http_client=http) as client:
                job = await client.responses.create(model="gpt-5", input="[[sleep 0.01]] hello", background=True)
                end = time.monotonic() + 50.0
                while job.status in ("queued", "in_progress") and time.monotonic() < end:
                    await asyncio.sleep(0.02)
                    job = await client.responses.retrieve(job.id)
                with pytest.raises(openai.NotFoundError):
                    await client.responses.retrieve("resp_unknown")
                stream = await client.chat.completions.with_raw_response.create(
                    model="gpt-5", messages=[{"role": "user", "content": "hello"}]
                )
                assert json.loads(stream.content)["object"] == "chat.completion"
            return job.status

    assert asyncio.run(main()) == "completed"


def test_the_bound_of_what_waits_is_the_one_promised():
    assert httpx_adapter.HIGH == 262_144
