"""The wire of batchrun's own: exchanges of the seam, carried out by the pool of one origin.

On the hot lane an exchange costs a future and a write; no task, no lock, no object of an HTTP library.
Submits and looks have a lane each, so that looks which hang cannot keep submits from going; the connections they
use are the same ones. A POST goes over a connection that was used within the last second, or over a fresh one.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping

from batchrun.core.responses.http import Answer, Cause, Failure, Request
from batchrun.edge.exchange import (
    CONNECT_TIMEOUT,
    DEFAULT_BUDGET,
    DEFAULT_CONNECTIONS,
    LOOK_KEEPALIVE,
    POST_KEEPALIVE,
    Caps,
)
from batchrun.edge.exchange.budget import Budget
from batchrun.edge.exchange.reading import Broken
from batchrun.edge.exchange.redaction import Redactor
from batchrun.edge.exchange.surroundings import tls_context
from batchrun.edge.transport.address import place_of
from batchrun.edge.transport.deadlines import Deadlines
from batchrun.edge.transport.exchange import ExchangeStage, Late, Slots
from batchrun.edge.transport.pool import ConnectionPool, shared_buffer
from batchrun.edge.transport.sessions import Remembering
from batchrun.edge.transport.whole import Whole
from batchrun.edge.transport.writing import lines_of, written

_IDENTITY = {"accept-encoding": "identity"}


class OwnTransport:
    """A wire to one `origin` (``https://host[:port]``); no proxy is asked.

    `connections` bounds the exchanges of each of the two lanes. `environment` is asked for SSL_CERT_FILE, once,
    here. Raises Misuse where that cannot work.
    """

    def __init__(
        self,
        origin: str,
        *,
        redactor: Redactor | None = None,
        connections: int = DEFAULT_CONNECTIONS,
        connect_timeout: float = CONNECT_TIMEOUT,
        caps: Caps | None = None,
        budget: Budget | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._place = place_of(origin)
        self._origin = origin
        self._redactor = redactor or Redactor()
        self._caps = caps or Caps()
        self._budget = budget or Budget(DEFAULT_BUDGET)
        self._connect_timeout = connect_timeout
        tls: ssl.SSLContext | None = None
        if self._place.secure:
            tls = Remembering.made_of(tls_context(os.environ if environment is None else environment))
            tls.set_alpn_protocols(["http/1.1"])
        self._submits, self._looks = Slots(connections), Slots(connections)
        self._pool = ConnectionPool(
            self._place,
            tls,
            self._caps,
            most=2 * connections,
            post_keepalive=POST_KEEPALIVE,
            keepalive=LOOK_KEEPALIVE,
            view=shared_buffer(),
        )
        self._deadlines = Deadlines(self._too_late)
        self._lines: dict[tuple[tuple[str, str], ...], bytes] = {}  # of the headers seen last

    async def exchange(self, request: Request, timeout: float) -> Answer | Failure:  # noqa: ASYNC109 - the seam's law 1
        """What became of `request` within `timeout` seconds; never an exception but cancellation."""
        try:
            head = self._head(request)
        except Broken as fault:
            return self._failure(fault, sent=False)
        loop = asyncio.get_running_loop()
        lane = self._submits if request.method == "POST" else self._looks
        exchange = Whole(lane, head, request.body, request.method, loop.create_future(), self._caps, self._budget)
        exchange.connect = min(self._connect_timeout, timeout * 0.9)  # a handshake then ends by its own rule
        self._deadlines.add(exchange, timeout, loop)
        try:
            self._pool.begin(exchange)
            result = await exchange.done
        finally:
            self._deadlines.remove(exchange, timeout)
            if exchange.stage is not ExchangeStage.OVER:  # cancelled
                self._pool.give_up(exchange, Broken(Cause.DROPPED, "given up"))
        if isinstance(result, Broken):
            return self._failure(result, sent=exchange.sent)
        status, fields, body = result
        return Answer(status, self._redactor.headers(fields), self._redactor.raw(body))

    async def drop_idle(self) -> None:
        self._pool.drop_idle()

    async def aclose(self) -> None:
        await self._pool.aclose()
        self._deadlines.clear()

    def __repr__(self) -> str:
        return f"<OwnWire to {self._origin}>"

    def _too_late(self, exchange: Whole, timeout: float) -> None:
        if exchange.stage is ExchangeStage.DIALING:
            self._pool.give_up(exchange, Late(Cause.CONNECT, "no connection in time"))
        elif exchange.stage is not ExchangeStage.OVER:
            self._pool.give_up(exchange, Late(Cause.TIMEOUT, f"no complete answer within {timeout:g} s"))

    def _head(self, request: Request) -> bytes:
        headers = tuple(request.headers.items())
        lines = self._lines.get(headers)
        if lines is None:
            try:
                lines = lines_of(
                    (name.encode("ascii"), value.encode("latin-1"))
                    for name, value in {**_IDENTITY, **request.headers}.items()
                )
            except UnicodeEncodeError:
                raise Broken(Cause.PROTOCOL, "expected headers of Latin-1 characters") from None
            if len(self._lines) >= 8:  # more than a service has sorts of requests
                self._lines.clear()
            self._lines[headers] = lines
        try:
            method, target = request.method.encode("ascii"), request.path.encode("ascii")
        except UnicodeEncodeError:
            raise Broken(Cause.PROTOCOL, f"expected a path of ASCII characters, got {request.path!r}") from None
        return written(method, target, self._place.named, lines, len(request.body))

    def _failure(self, fault: Broken, *, sent: bool) -> Failure:
        where = "" if sent else "; nothing was sent"
        return Failure(sent, fault.cause, self._redactor.shown(f"{self._origin}: {fault}") + where)
