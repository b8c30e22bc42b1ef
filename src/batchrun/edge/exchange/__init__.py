"""The seam of the wire: one request goes out, and an answer or a failure comes back.

Laws of every wire:

1. An exchange has one timeout, for all of it: waiting for a connection, TLS, sending, and the last byte of
   the body. It is a duration in seconds, not a moment: the caller's clock may count suspension, the loop's
   does not.
2. ``exchange`` raises nothing but the caller's own cancellation. Whatever went wrong is a ``Failure``.
3. ``Failure.sent`` is false only if no byte of the request can have left. In doubt it is true: a submit that
   may have left is never called unsent.
4. Nothing is tried twice, no redirect is followed, no cookie is kept, only ``identity`` is asked for.
5. Lengths that the other side names are not believed; bytes are counted, also after decoding.
6. A secret that comes back in an answer or an error does not pass the seam.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from batchrun.core.responses.http import Answer, Failure, Request

MIB = 1024 * 1024
CONNECT_TIMEOUT = 10.0
POST_KEEPALIVE = 1.0  # seconds that an idle connection may still carry a submit
POLL_KEEPALIVE = 4.0  # below the 5 s after which common servers close idle connections
DEFAULT_CONNECTIONS = 100
DEFAULT_BUDGET = 256 * MIB


class HttpTransport(Protocol):
    """Carries exchanges out with one origin."""

    async def exchange(self, request: Request, timeout: float) -> Answer | Failure:  # noqa: ASYNC109 - law 1
        """What became of `request` within `timeout` seconds."""

    async def drop_idle(self) -> None:
        """Leave the connections at hand to end with their exchanges: after a suspension they are stale."""

    async def aclose(self) -> None:
        """Close every connection; exchanges that are still on their way fail."""


@dataclass(frozen=True, slots=True)
class Caps:
    """How much of an answer is taken: bytes of a body (decoded), of an error's body, of all headers; headers."""

    body: int = 64 * MIB
    error_body: int = MIB
    header_bytes: int = 64 * 1024
    headers: int = 256
