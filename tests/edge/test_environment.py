"""What a transport takes from the machine: authorities for TLS, proxies for https, and nothing else."""

import asyncio
import datetime as dt
import ssl

import httpx
import httpx2
import pytest
import trustme

from batchrun.core.responses.http import Answer, Cause, Failure, Request
from batchrun.core.settings.settings import UsageError
from batchrun.edge.exchange import proxy_for, tls_context
from batchrun.edge.httpx_transport import HttpxTransport
from batchrun.edge.transport import OwnTransport
from tests.edge.hostile_server import HostileServer, answer
from tests.edge.transports import OURS, POST, by_httpx, exchanged


@pytest.fixture(params=OURS)
def ours(request):
    return OURS[request.param]


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


# --- TLS ---


def test_h09_a_private_authority_is_trusted_beside_the_public_ones(ours, authority, trusted):
    certificate = authority.issue_cert("127.0.0.1")
    (got,) = exchanged(ours, tls_server(answer(200, b"{}"), certificate), environment=trusted)
    assert isinstance(got, Answer)
    assert tls_context(trusted).cert_store_stats()["x509_ca"] == tls_context({}).cert_store_stats()["x509_ca"] + 1


def test_h09_certificates_that_are_not_good_are_refused_and_it_says_why(ours, authority, trusted):
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
        (failure,) = exchanged(ours, server, POST, environment=environment)
        assert (failure.sent, failure.cause) == (False, Cause.TLS)
        assert word in failure.message
        assert server.received == []


def test_h09_a_self_signed_certificate_is_refused(ours, tmp_path):
    alone = trustme.CA()  # an authority that serves its own certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    path = tmp_path / "self.pem"
    path.write_bytes(alone.private_key_pem.bytes() + alone.cert_pem.bytes())
    context.load_cert_chain(path)
    (failure,) = exchanged(ours, HostileServer(answer(200, b"{}"), tls=context), POST)
    assert (failure.sent, failure.cause) == (False, Cause.TLS)
    assert "self-signed" in failure.message or "self signed" in failure.message


@pytest.mark.parametrize("kind", [OwnTransport, HttpxTransport])
def test_an_authority_that_cannot_be_read_is_refused_at_once(kind, tmp_path):
    (tmp_path / "empty.pem").write_text("nothing")
    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(UsageError, match=f"SSL_CERT_FILE=.*{name}: expected a readable file"):
            kind("https://service.example", environment={"SSL_CERT_FILE": str(tmp_path / name)})


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


def through_proxy(service, proxy_of, trusted, timeout=30.0):
    async def main():
        async with service, HostileServer(proxy_of(service.port)) as proxy:
            environment = {**trusted, "HTTPS_PROXY": proxy.origin.replace("http://", "http://user:word@")}
            async with by_httpx("https://service.example", environment=environment) as transport:
                request = Request("POST", "/v1/responses", {"authorization": "Bearer key"}, b"{}")
                return await transport.exchange(request, timeout), proxy.received

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
    failure, _ = through_proxy(service, proxy_of, trusted, timeout=0.3 if cause is Cause.TIMEOUT else 30.0)
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
            async with client, by_httpx("https://service.example", client=client) as transport:
                return await transport.exchange(POST, 30.0)

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
    with pytest.raises(UsageError, match="HTTPS_PROXY: expected http") as caught:
        HttpxTransport("https://a.example", environment={"HTTPS_PROXY": proxy})
    assert "word" not in str(caught.value)
