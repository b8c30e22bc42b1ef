"""The httpx wire: what left and what did not, where it goes, and what of the machine it heeds."""

import asyncio
import datetime as dt
import json
import socket
import ssl

import httpx
import httpx2
import pytest
import trustme

from batchrun.core.answer import Answer, Cause, Failure, Request
from batchrun.core.misuse import Misuse
from batchrun.core.verdict import Ambiguous, Refused, read_submit
from batchrun.edge import httpx_wire
from batchrun.edge.exchange import Caps
from batchrun.edge.exchange.surroundings import proxy_for, tls_context
from batchrun.edge.httpx_wire import HttpxWire
from tests.edge.hostile_server import HostileServer, always, answer
from tests.edge.wires import GET, POST, WIRES, exchanged, own


@pytest.fixture(params=WIRES)
def wire(request):
    return WIRES[request.param]


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def trusted(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return {"SSL_CERT_FILE": str(path)}


def tls_server(script, certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return HostileServer(script, tls=context)


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


# --- TLS ---


def test_h09_a_private_authority_is_trusted_beside_the_public_ones(authority, trusted):
    certificate = authority.issue_cert("127.0.0.1")
    (got,) = exchanged(own, tls_server(answer(200, b"{}"), certificate), environment=trusted)
    assert isinstance(got, Answer)
    assert tls_context(trusted).cert_store_stats()["x509_ca"] == tls_context({}).cert_store_stats()["x509_ca"] + 1


def test_h09_certificates_that_are_not_good_are_refused_and_it_says_why(authority, trusted):
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    bad = {
        "expired": (
            authority.issue_cert("127.0.0.1", not_before=past, not_after=past + dt.timedelta(1)),
            trusted,
        ),
        "issuer": (trustme.CA().issue_cert("127.0.0.1"), trusted),
        "issuer certificate": (authority.issue_cert("127.0.0.1"), {}),
        "127.0.0.1": (authority.issue_cert("other.example"), trusted),
    }
    for word, (certificate, environment) in bad.items():
        server = tls_server(answer(200, b"{}"), certificate)
        (failure,) = exchanged(own, server, POST, environment=environment)
        assert (failure.sent, failure.cause) == (False, Cause.TLS)
        assert word in failure.message
        assert server.received == []


def test_h09_a_self_signed_certificate_is_refused(tmp_path):
    alone = trustme.CA()  # an authority that serves its own certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    path = tmp_path / "self.pem"
    path.write_bytes(alone.private_key_pem.bytes() + alone.cert_pem.bytes())
    context.load_cert_chain(path)
    (failure,) = exchanged(own, HostileServer(answer(200, b"{}"), tls=context), POST)
    assert (failure.sent, failure.cause) == (False, Cause.TLS)
    assert "self-signed" in failure.message or "self signed" in failure.message


def test_an_authority_that_cannot_be_read_is_refused_at_once(tmp_path):
    (tmp_path / "empty.pem").write_text("nothing")
    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(Misuse, match=f"SSL_CERT_FILE=.*{name}: expected a readable file"):
            HttpxWire("https://service.example", environment={"SSL_CERT_FILE": str(tmp_path / name)})


# --- proxies ---


def tunnel(port, *, status=200, seen=None):
    """A proxy that carries CONNECT to our own `port`, whatever host is asked for."""

    async def pipe(reader, writer):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def script(talk):
        await talk.request()
        if status != 200:
            await talk.send(answer(status, b"no"))
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await talk.send(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(pipe(talk.reader, writer), pipe(reader, talk.writer))

    return script


def through_proxy(service, proxy_of, trusted, timeout=2.0):
    async def main():
        async with service, HostileServer(proxy_of(service.port)) as proxy:
            environment = {**trusted, "HTTPS_PROXY": proxy.origin.replace("http://", "http://user:word@")}
            async with own("https://service.example", environment=environment) as wire:
                request = Request("POST", "/v1/responses", {"authorization": "Bearer key"}, b"{}")
                return await wire.exchange(request, timeout), proxy.received

    return asyncio.run(main())


def test_https_goes_through_a_proxy_by_connect_which_never_sees_the_key(authority, trusted):
    service = tls_server(answer(200, b"{}"), authority.issue_cert("service.example"))
    got, seen = through_proxy(service, tunnel, trusted)
    assert isinstance(got, Answer)
    assert [(one.method, one.path) for one in seen] == [("CONNECT", "service.example:443")]
    assert seen[0].header("proxy-authorization").startswith("Basic ")
    assert seen[0].header("authorization") is None
    assert service.received[0].header("authorization") == "Bearer key"
    assert service.received[0].header("proxy-authorization") is None


@pytest.mark.parametrize(
    ("proxy_of", "cause"),
    [
        (lambda _port: tunnel(0, status=407), Cause.CONNECT),
        (lambda _port: tunnel(0, status=502), Cause.CONNECT),
        (lambda _port: lambda talk: talk.request(), Cause.DROPPED),
        (lambda _port: lambda talk: talk.hold(), Cause.TIMEOUT),
        (lambda _port: lambda talk: talk.send(b"HTTP/1.1 200 Connected\r\n\r\nno tls here" * 9), Cause.TLS),
    ],
    ids=["407", "502", "dropped", "held", "no TLS behind it"],
)
def test_a_proxy_that_fails_before_the_request_sent_nothing(proxy_of, cause, authority, trusted):
    service = tls_server(answer(200, b"{}"), authority.issue_cert("service.example"))
    failure, _ = through_proxy(service, proxy_of, trusted, timeout=0.3)
    assert isinstance(failure, Failure)
    assert not failure.sent
    assert failure.cause in (cause, Cause.CONNECT)
    assert "word" not in failure.message


@pytest.mark.parametrize("package", [httpx, httpx2])
def test_a_users_proxy_that_drops_before_the_request_sent_nothing(package):
    async def main():
        async with HostileServer(lambda talk: talk.request()) as proxy:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            client = package.AsyncClient(proxy=proxy.origin, verify=context, trust_env=False)
            async with client, own("https://service.example", client=client) as wire:
                return await wire.exchange(POST, 2.0)

    failure = asyncio.run(main())
    assert (failure.sent, failure.cause) == (False, Cause.DROPPED)


def test_a_service_that_drops_behind_a_proxy_may_have_been_sent_to(authority, trusted):
    service = tls_server(lambda talk: talk.request(), authority.issue_cert("service.example"))
    failure, _ = through_proxy(service, tunnel, trusted)
    assert failure.sent


@pytest.mark.parametrize(
    ("origin", "environment", "proxy"),
    [
        ("https://a.example", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.example", {"https_proxy": "p:1", "HTTPS_PROXY": "http://q:1"}, "http://p:1"),
        ("http://a.example", {"HTTPS_PROXY": "http://p:1", "HTTP_PROXY": "http://p:1", "ALL_PROXY": "http://p:1"}, None),
        ("https://a.example", {"HTTP_PROXY": "http://p:1", "ALL_PROXY": "http://p:1"}, None),
        ("https://localhost:8000", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://127.0.0.1", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://[::1]:8000", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://a.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "b.example, a.example"}, None),
        ("https://x.a.example", {"HTTPS_PROXY": "http://p:1", "no_proxy": ".a.example"}, None),
        ("https://x.a.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*.a.example"}, None),
        ("https://xa.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.example"}, "http://p:1"),
        ("https://a.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.example:8443"}, "http://p:1"),
        ("https://a.example:8443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.example:8443"}, None),
        ("https://a.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("https://a.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ","}, "http://p:1"),
        ("https://10.1.2.3", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, None),
        ("https://11.1.2.3", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8,a"}, "http://p:1"),
    ],
)  # fmt: skip
def test_the_proxy_of_an_origin(origin, environment, proxy):
    assert proxy_for(origin, environment) == proxy


@pytest.mark.parametrize("proxy", ["socks5://p:1", "http://", "http://p:99999", "ftp://p", "http://user:word@"])
def test_a_proxy_that_cannot_be_is_refused_without_its_password(proxy):
    with pytest.raises(Misuse, match="HTTPS_PROXY: expected http") as caught:
        HttpxWire("https://a.example", environment={"HTTPS_PROXY": proxy})
    assert "word" not in str(caught.value)
