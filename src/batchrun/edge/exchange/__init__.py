"""What every HTTP transport shares: one request goes out, and a response or a failure comes back.

Reading order: `reading` (headers and body of a response), `failures`, `budget` (memory), `redaction`, `environment`
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

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from batchrun.core.responses.http import Answer, Failure, Request

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
