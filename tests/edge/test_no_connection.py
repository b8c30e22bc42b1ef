"""What a person is told where no connection can be made: host, port, the proxy, and the reason in plain words."""

import asyncio
import errno
import os
import socket
import ssl

import pytest

from batchrun.core.responses.http import Cause
from batchrun.edge.exchange import failure_text, host_and_port, why_no_connection
from tests.edge.transports import OURS, POST


def refused_certificate(code, message):
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]")
    error.verify_code, error.verify_message = code, message
    return error


def tls_error(reason):
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "cause", "says"),
    [
        (socket.gaierror(socket.EAI_NONAME, "x"), Cause.DNS, "the name does not exist"),
        (socket.gaierror(socket.EAI_AGAIN, "x"), Cause.DNS, "the name cannot be resolved: no name server responds"),
        (socket.gaierror(socket.EAI_FAIL, "hard"), Cause.DNS, "the name was not found: hard"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), Cause.CONNECT, "connection refused"),
        (
            ExceptionGroup("no address responds", [OSError(errno.EHOSTUNREACH, "x"), OSError(errno.ENETUNREACH, "x")]),
            Cause.CONNECT,
            os.strerror(errno.EHOSTUNREACH).lower(),
        ),
        (refused_certificate(10, "certificate has expired"), Cause.TLS, "the certificate is refused: certificate has expired"),
        (
            refused_certificate(62, "Hostname mismatch, certificate is not valid for 'a.example'."),
            Cause.TLS,
            "the certificate is refused: Hostname mismatch, certificate is not valid for 'a.example'",
        ),
        (
            refused_certificate(18, "self-signed certificate"),
            Cause.TLS,
            "the certificate is refused: self-signed certificate; SSL_CERT_FILE names a private authority",
        ),
        (tls_error("WRONG_VERSION_NUMBER"), Cause.TLS, "the server does not speak TLS at this port"),
        (tls_error("TLSV1_ALERT_INTERNAL_ERROR"), Cause.TLS, "no TLS: tlsv1 alert internal error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)  # fmt: skip
def test_s33_the_reason_in_plain_words(error, cause, says):
    assert why_no_connection(error) == (cause, says)


@pytest.mark.parametrize(
    ("origin", "cause", "why", "proxy", "says"),
    [
        ("https://a.example", Cause.DNS, "x", None, "no connection to a.example:443: x"),
        ("http://[::1]:8000", Cause.CONNECT, "x", None, "no connection to [::1]:8000: x"),
        ("https://a.example", Cause.CONNECT, "x", "http://me:word@p:3128", "no connection to the proxy p:3128: x"),
        ("https://a.example", Cause.DNS, "x", "http://p", "no connection to the proxy p:80: x"),
        ("https://a.example", Cause.TLS, "x", "http://p:1", "no connection to a.example:443 through the proxy p:1: x"),
        (
            "https://a.example",
            Cause.CONNECT,
            "the proxy refused to connect: 403",
            "http://p:1",
            "no connection to a.example:443 through the proxy p:1: the proxy refused to connect: 403",
        ),
        ("https://a.example", Cause.TIMEOUT, "x", None, "https://a.example: x"),
    ],
)
def test_s33_host_port_and_proxy(origin, cause, why, proxy, says):
    assert failure_text(origin, cause, why, sent=False, proxy=proxy) == says


def test_a_failure_after_something_was_sent_names_the_origin():
    assert failure_text("https://a.example", Cause.TLS, "x", sent=True) == "https://a.example: x"
    assert host_and_port("https://me:word@a.example/v1") == "a.example:443"


@pytest.mark.parametrize("transport", OURS.values(), ids=OURS)
def test_s33_a_server_that_does_not_speak_tls_is_named(transport):
    async def refuse(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async def main():
        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with transport(f"https://127.0.0.1:{port}") as http:
                return port, await http.exchange(POST, 30.0)

    port, failure = asyncio.run(main())
    assert (failure.sent, failure.cause) == (False, Cause.TLS)
    assert failure.message == (
        f"no connection to 127.0.0.1:{port}: the server does not speak TLS at this port; nothing was sent"
    )
