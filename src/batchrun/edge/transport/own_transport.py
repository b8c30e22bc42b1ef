"""batchrun's own HTTP transport to one origin: each response is read whole, within its caps, the budget and one deadline.

On the hot path an exchange costs a future and a write; no task, no lock, no object of an HTTP library.
Submits and polls have their own slots, so that hanging polls cannot keep submits from going; they share the
connections. A POST goes over a connection that was used within the last second, or over a new one.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from batchrun.core.responses.http import NOTHING_SENT, Answer, Cause, Failure, Request
from batchrun.edge.exchange import (
    CONNECT_TIMEOUT,
    DEFAULT_BUDGET,
    DEFAULT_CONNECTIONS,
    NO_CONNECTION_IN_TIME,
    Body,
    Budget,
    BudgetShare,
    Caps,
    ExchangeError,
    ResponseHead,
    failure_text,
    tls_context,
)
from batchrun.edge.redaction import Redactor
from batchrun.edge.transport.connection import Exchange, ExchangeStage, Slots, TimedOut, header_lines, request_head
from batchrun.edge.transport.pool import ConnectionPool, ResumingContext, parse_origin, shared_buffer

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Deadlines of many exchanges, with one timer of the loop for all that have the same timeout.

    One timer per exchange costs 2.5 µs on asyncio and 3 on uvloop, a tenth of the whole exchange, to be cancelled in
    nearly every case. Exchanges with one timeout end in the order in which they began, so that an ordered dict of
    them and a timer for its first member do the same; and there are few timeouts: one per kind of request.

    Calls `late` with each item that was not removed within its timeout, and with that timeout.
    """

    def __init__(self, late: Callable[[T, float], None]) -> None:
        self._late = late
        self._due: dict[float, dict[T, float]] = {}  # by timeout, each in order of due time
        self._timers: dict[float, asyncio.TimerHandle] = {}

    def add(self, item: T, timeout: float, loop: asyncio.AbstractEventLoop) -> None:
        due = self._due.get(timeout)
        if due is None:
            due = self._due[timeout] = {}
            self._timers[timeout] = loop.call_later(timeout, self._expire, timeout, loop)
        due[item] = loop.time() + timeout

    def remove(self, item: T, timeout: float) -> None:
        due = self._due.get(timeout)
        if due is not None:
            due.pop(item, None)

    def clear(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._due.clear()

    def _expire(self, timeout: float, loop: asyncio.AbstractEventLoop) -> None:
        """Report what is due, and set the timer for the next."""
        due = self._due[timeout]
        now = loop.time()
        late = []
        for item, due_at in due.items():
            if due_at > now:
                break
            late.append(item)
        for item in late:
            due.pop(item, None)
        following = next(iter(due.values()), None)
        if following is None:
            del self._due[timeout], self._timers[timeout]
        else:
            self._timers[timeout] = loop.call_at(following, self._expire, timeout, loop)
        for item in reversed(late):  # else a queued one would start when an older one ends, although it is late itself
            self._late(item, timeout)


Result = tuple[int, dict[str, str], bytes] | ExchangeError


class BufferedExchange(Exchange):
    """One exchange, read whole. `done` gets its response as (status, headers, body), or the error."""

    __slots__ = ("_body", "_budget", "_caps", "_headers", "_share", "_status", "done", "sent")

    def __init__(
        self,
        slots: Slots,
        head: bytes,
        body: bytes,
        method: str,
        done: asyncio.Future[Result],
        caps: Caps,
        budget: Budget,
    ) -> None:
        super().__init__(slots, head, body, method)
        self.done = done
        self._caps = caps
        self._budget = budget
        self._share: BudgetShare | None = None
        self._body: Body | None = None
        self._status = 0
        self._headers: dict[str, str] = {}
        self.sent = False

    def head_received(self, status: int, head: ResponseHead, pairs: Sequence[tuple[bytes, bytes]]) -> None:  # noqa: ARG002
        self._status = status
        self._headers = head.headers
        self._body = Body(status, head.coding, self._caps)

    def body_received(self, piece: bytes) -> bool:
        if self._body is None:
            raise _no_head()
        return self._body.take(piece)

    def must_wait(self) -> bool:
        if self._body is None:
            return False
        if self._share is None:
            self._share = self._budget.begin(can_wait=not self.needs_fresh)
        full = self._budget.add(self._share, self._body.size - self._share.size)
        if not full or self.connection is None:
            return False
        self._budget.hold(self._share, self.connection.resume)
        return True

    def completed(self) -> None:
        if self._body is None:
            self._end(_no_head())
            return
        try:
            self._end((self._status, self._headers, self._body.complete()))
        except ExchangeError as error:
            self._end(error)

    def failed(self, error: ExchangeError) -> None:
        self._end(error)

    def _end(self, result: Result) -> None:
        self.sent = self.stage is ExchangeStage.SENT
        self.stage = ExchangeStage.ENDED
        self._body = None
        if self._share is not None:
            self._share.end()
        if not self.done.done():
            self.done.set_result(result)


def _no_head() -> ExchangeError:
    return ExchangeError(Cause.PROTOCOL, "expected the status and headers of the response before its body")


_IDENTITY = {"accept-encoding": "identity"}


class OwnTransport:
    """An HTTP transport to one `origin` (``https://host[:port]``), without a proxy.

    `connections` limits submits and polls in flight, each. SSL_CERT_FILE is read from `environment`, once, here.
    Raises UsageError where it cannot be used.
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
        self._address = parse_origin(origin)
        self._origin = origin
        self._redactor = redactor or Redactor()
        self._caps = caps or Caps()
        self._budget = budget or Budget(DEFAULT_BUDGET)
        self._connect_timeout = connect_timeout
        tls: ssl.SSLContext | None = None
        if self._address.secure:
            tls = ResumingContext.convert(tls_context(os.environ if environment is None else environment))
            tls.set_alpn_protocols(["http/1.1"])
        self._submit_slots, self._poll_slots = Slots(connections), Slots(connections)
        self._pool = ConnectionPool(self._address, tls, self._caps, max_open=2 * connections, view=shared_buffer())
        self._deadlines = Deadlines(self._timed_out)
        self._encoded_headers: dict[tuple[tuple[str, str], ...], bytes] = {}  # cache of encoded headers

    async def exchange(self, request: Request, timeout: float) -> Answer | Failure:  # noqa: ASYNC109 - invariant 1 of `exchange`
        """The response to `request` within `timeout` seconds; raises nothing but cancellation."""
        try:
            head = self._head(request)
        except ExchangeError as error:
            return self._failure(error, sent=False)
        loop = asyncio.get_running_loop()
        slots = self._submit_slots if request.method == "POST" else self._poll_slots
        exchange = BufferedExchange(
            slots, head, request.body, request.method, loop.create_future(), self._caps, self._budget
        )
        exchange.connect = min(self._connect_timeout, timeout * 0.9)  # a handshake then ends by its own timeout
        self._deadlines.add(exchange, timeout, loop)
        try:
            self._pool.begin(exchange)
            result = await exchange.done
        finally:
            self._deadlines.remove(exchange, timeout)
            if exchange.stage is not ExchangeStage.ENDED:  # cancelled
                self._pool.give_up(exchange, ExchangeError(Cause.DROPPED, "given up"))
        if isinstance(result, ExchangeError):
            return self._failure(result, sent=exchange.sent)
        status, headers, body = result
        return Answer(status, self._redactor.headers(headers), self._redactor.raw(body))

    async def drop_idle(self) -> None:
        self._pool.drop_idle()

    async def aclose(self) -> None:
        await self._pool.aclose()
        self._deadlines.clear()

    def __repr__(self) -> str:
        return f"<OwnTransport to {self._origin}>"

    def _timed_out(self, exchange: BufferedExchange, timeout: float) -> None:
        if exchange.stage is ExchangeStage.DIALING:
            self._pool.give_up(exchange, TimedOut(Cause.CONNECT, NO_CONNECTION_IN_TIME))
        elif exchange.stage is not ExchangeStage.ENDED:
            self._pool.give_up(exchange, TimedOut(Cause.TIMEOUT, f"no complete response within {timeout:g} s"))

    def _head(self, request: Request) -> bytes:
        headers = tuple(request.headers.items())
        lines = self._encoded_headers.get(headers)
        if lines is None:
            try:
                lines = header_lines(
                    (name.encode("ascii"), value.encode("latin-1"))
                    for name, value in {**_IDENTITY, **request.headers}.items()
                )
            except UnicodeEncodeError:
                raise ExchangeError(Cause.PROTOCOL, "expected headers of Latin-1 characters") from None
            if len(self._encoded_headers) >= 8:  # more than a service has kinds of requests
                self._encoded_headers.clear()
            self._encoded_headers[headers] = lines
        try:
            method, target = request.method.encode("ascii"), request.path.encode("ascii")
        except UnicodeEncodeError:
            raise ExchangeError(Cause.PROTOCOL, f"expected a path of ASCII characters, got {request.path!r}") from None
        return request_head(method, target, self._address.host_header, lines, len(request.body))

    def _failure(self, error: ExchangeError, *, sent: bool) -> Failure:
        text = failure_text(self._origin, error.cause, str(error), sent=sent)
        return Failure(sent, error.cause, self._redactor.shown(text) + ("" if sent else NOTHING_SENT))
