"""One request on its way, as the pool and the connection see it: what to send, and whom to tell what came.

Whoever wants an answer whole (``whole``) or piece by piece (``streamed``) inherits from it. Nothing here waits:
the pool and the connection call, in this order, ``headed`` once, ``took`` and ``waits`` as often as there are
pieces, and ``ended`` or ``failed`` once.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

from batchrun.edge.exchange.reading import Broken, ResponseHead


class ExchangeStage(Enum):
    """How far an exchange got."""

    QUEUED = auto()  # as many connections as may be are in use
    DIALING = auto()
    SENT = auto()  # or about to be: a byte of it may have left
    OVER = auto()


class Late(Broken):
    """A limit of time ran out."""


class Torn(Broken):
    """The network took the connection away, not the other side's goodbye."""


class Slots:
    """How many exchanges of one sort are under way, and which wait for one of those to end."""

    __slots__ = ("busy", "most", "waiting")

    def __init__(self, most: int) -> None:
        self.most = most
        self.busy = 0
        self.waiting: deque[Exchange] = deque()  # some may be given up by now


class Carrier(Protocol):
    """The connection that an exchange is on."""

    @property
    def unwritten(self) -> int:
        """How many bytes of the request are not yet the system's; nearly."""

    def resume(self) -> None:
        """Read on, after `waits` said to wait."""


class Exchange(ABC):
    """One request and whoever waits for its answer."""

    __slots__ = ("body", "carrier", "connect", "dial", "fresh", "head", "headless", "lane", "stage")

    def __init__(self, lane: Slots, head: bytes, body: bytes, method: str) -> None:
        self.lane = lane
        self.head = head
        self.body = body
        self.fresh = method == "POST"  # only on a connection that has just been used, or on a new one
        self.headless = method == "HEAD"  # the answer has no body, whatever its head says
        self.connect: float | None = None  # seconds that a new connection may take
        self.stage = ExchangeStage.QUEUED
        self.dial: asyncio.Task[None] | None = None
        self.carrier: Carrier | None = None

    @abstractmethod
    def headed(self, status: int, head: ResponseHead, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """The head of the answer has come. Raises Broken where the answer cannot be taken."""

    @abstractmethod
    def took(self, piece: bytes) -> bool:
        """A piece of its body has come; True when no more is wanted. Raises Broken beyond a cap."""

    @abstractmethod
    def waits(self) -> bool:
        """All that was read is taken, and it is not the end: whether reading has to wait for `Carrier.resume`."""

    @abstractmethod
    def ended(self) -> None:
        """The answer is complete."""

    @abstractmethod
    def failed(self, fault: Broken) -> None:
        """There is no complete answer. `stage` still says how far it got."""
