"""What every HTTP transport shares: one request goes out, and a response or a failure comes back.

Reading order: `reading` (headers and body of a response), `budget` (memory), `redaction`, `environment`
(proxy, certificate authorities).

Invariants of every transport:

1. An exchange has one timeout, for all of it: waiting for a connection, TLS, sending, and the last byte of
   the body. It is a duration in seconds, not a point in time: the caller's clock may count suspension, the loop's
   does not.
2. ``exchange`` raises nothing but the caller's own cancellation. Any other error becomes a ``Failure``.
3. ``Failure.sent`` is false only if no byte of the request can have left. In doubt it is true.
4. Nothing is tried twice, no redirect is followed, no cookie is kept, only ``identity`` is asked for.
5. Lengths that the server states are not trusted; bytes are counted, also after decoding.
6. Secrets are redacted from every response and error.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from batchrun.core.responses.http import Answer, Cause, Failure, Request

MIB = 1024 * 1024
CONNECT_TIMEOUT = 10.0  # seconds
POST_KEEPALIVE = 1.0  # seconds for which a submit may use an idle connection
POLL_KEEPALIVE = 4.0  # seconds; common servers close idle connections after 5
DEFAULT_CONNECTIONS = 100
DEFAULT_BUDGET = 256 * MIB  # of responses in memory


class HttpTransport(Protocol):
    """Carries out exchanges with one origin."""

    async def exchange(self, request: Request, timeout: float) -> Answer | Failure:  # noqa: ASYNC109 - invariant 1
        """The response to `request` within `timeout` seconds, or why there is none."""

    async def drop_idle(self) -> None:
        """Close idle connections, those in use when their exchange ends: after a suspension they are stale."""

    async def aclose(self) -> None:
        """Close every connection; exchanges in flight fail."""


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits of a response: bytes of a body (decoded), of an error's body, and of all headers; number of headers."""

    body: int = 64 * MIB
    error_body: int = MIB
    header_bytes: int = 64 * 1024
    headers: int = 256


def package_of(value: object) -> ModuleType | None:
    """The package whose classes go with `value`: httpx, httpx2 (the same classes), or whatever has their shape."""
    for cls in type(value).__mro__:
        package = sys.modules.get(cls.__module__.partition(".")[0])
        if package is not None and hasattr(package, "AsyncBaseTransport") and hasattr(package, "Request"):
            return package
    return None


class ExchangeError(Exception):
    """Why an exchange cannot be completed; becomes a Failure where the exchange ends."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


def why_no_connection(error: BaseException) -> tuple[Cause, str]:
    """The root cause of a connection error, and its wording."""
    if type(error).__name__ == "ConnectTimeout":
        return Cause.CONNECT, "no connection in time"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Cause.TLS, f"the certificate is refused: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return Cause.TLS, f"no TLS connection: {cause.reason or cause}"
        if isinstance(cause, socket.gaierror):
            return Cause.DNS, f"the host's name was not found: {cause.strerror}"
        if isinstance(cause, OSError) and cause.errno:
            return Cause.CONNECT, f"no connection: {os.strerror(cause.errno).lower()}"
        # A group has one per address; the first address is the preferred one.
        cause = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__ or cause.__context__
    if type(error).__name__ == "ProxyError":
        return Cause.CONNECT, f"the proxy refused to connect: {error}"
    return Cause.CONNECT, f"no connection: {str(error) or 'the other side hung up'}"
