"""One request and its response, as the pool and the connection see them.

A caller that wants the whole response (``BufferedExchange``) or a stream (``StreamedExchange``) subclasses ``Exchange``.
Nothing here waits: pool and connection call, in this order, ``head_received`` once, ``body_received``
and ``must_wait`` once per piece, and ``completed`` or ``failed`` once.
"""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from batchrun.core.responses.http import Cause
from batchrun.edge.exchange import ExchangeError
from batchrun.edge.exchange.reading import ResponseHead


class ExchangeStage(Enum):
    """How far an exchange got."""

    QUEUED = auto()  # waits for a slot
    DIALING = auto()
    SENT = auto()  # or about to be: a byte of it may have left
    ENDED = auto()


class TimedOut(ExchangeError):
    """A time limit ran out."""


class ConnectionBroke(ExchangeError):
    """The network ended the connection, not the server."""


@dataclass(slots=True, eq=False)
class Slots:
    """How many exchanges of one kind are in flight, and which wait for one of those to end."""

    limit: int
    busy: int = 0
    waiting: deque[Exchange] = field(default_factory=deque)  # some may have been given up


class SendingConnection(Protocol):
    """The connection that an exchange is on."""

    @property
    def unwritten(self) -> int:
        """About how many bytes of the request were not yet handed to the operating system."""

    def resume(self) -> None:
        """Continue reading after `must_wait` returned True."""


class Exchange(ABC):
    """One request and its response."""

    __slots__ = ("bodiless", "body", "connect", "connection", "dial", "head", "needs_fresh", "slots", "stage")

    def __init__(self, slots: Slots, head: bytes, body: bytes, method: str) -> None:
        self.slots = slots
        self.head = head
        self.body = body
        self.needs_fresh = method == "POST"  # a connection that was just used, or a new one
        self.bodiless = method == "HEAD"  # the response has no body, whatever its headers say
        self.connect: float | None = None  # seconds that a new connection may take
        self.stage = ExchangeStage.QUEUED
        self.dial: asyncio.Task[None] | None = None
        self.connection: SendingConnection | None = None

    @abstractmethod
    def head_received(self, status: int, head: ResponseHead, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Status and headers were read. Raises ExchangeError where the response cannot be used."""

    @abstractmethod
    def body_received(self, piece: bytes) -> bool:
        """A piece of the body was read; True when no more is wanted. Raises ExchangeError beyond a cap."""

    @abstractmethod
    def must_wait(self) -> bool:
        """The response is not complete: whether reading has to wait for `SendingConnection.resume`."""

    @abstractmethod
    def completed(self) -> None:
        """The response is complete."""

    @abstractmethod
    def failed(self, error: ExchangeError) -> None:
        """There is no complete response. `stage` still says how far it got."""


_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TARGET = re.compile(rb"/[!-~\x80-\xff]*")
_VALUE = re.compile(rb"[\t -~\x80-\xff]*")
_FRAMING = frozenset({b"content-length", b"host", b"transfer-encoding"})
_BODILESS = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"})


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The lines of `headers` without those that frame the request, which `request_head` writes. Raises ExchangeError.

    What could be read as another line, or as another request, is refused.
    """
    lines = []
    for name, value in headers:
        if _TOKEN.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            shown = name.decode("latin-1")
            raise ExchangeError(Cause.PROTOCOL, f"expected a header of printable characters on one line, got {shown!r}")
        if name.lower() not in _FRAMING:
            lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)


def request_head(method: bytes, target: bytes, host: bytes, lines: bytes, size: int) -> bytes:
    """The head of a request with a body of `size` bytes. Raises ExchangeError for an invalid method or path."""
    if _TARGET.fullmatch(target) is None:
        shown = target.decode("latin-1")
        raise ExchangeError(Cause.PROTOCOL, f"expected a path from the root of {host.decode('latin-1')}, got {shown!r}")
    if _TOKEN.fullmatch(method) is None or method == b"CONNECT":
        raise ExchangeError(Cause.PROTOCOL, f"expected the name of an HTTP method, got {method.decode('latin-1')!r}")
    if size or method not in _BODILESS:
        return b"%b %b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n\r\n" % (method, target, host, lines, size)
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (method, target, host, lines)
