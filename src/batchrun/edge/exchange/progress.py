"""How far an exchange got, as httpcore reports it while it happens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from batchrun.core.responses.http import Cause
from batchrun.edge.exchange.reading import Broken


class ExchangeProgress:
    """How far one exchange got, as the transport reports it."""

    __slots__ = ("_turned", "answered", "connecting", "exact", "writing")

    def __init__(self) -> None:
        self.exact = True  # all is reported, so silence means that nothing was written; not so in a user's hands
        self.connecting = False
        self.writing = False
        self.answered = False
        self._turned = False

    async def observe(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith((".connect_tcp.started", ".start_tls.started")):
            self.connecting = True
        elif event.endswith("send_request_headers.started"):
            if info["request"].method != b"CONNECT":
                self.writing = True
        elif event.endswith("receive_response_headers.started"):
            self._turned = False
            asyncio.get_running_loop().call_soon(self._turn)
        elif event.endswith("receive_response_headers.complete") and not self._turned:
            # Bytes left over from the answer before would be taken for the answer to this request, and one
            # job's result for another's. Whoever reads from the network lets the loop turn; this did not.
            raise Broken(Cause.PROTOCOL, "the answer was there before its request; the connection is closed")

    def sent(self, *, known_unsent: bool) -> bool:
        """Whether a byte of the request may have left."""
        if self.writing or self.answered:
            return True
        return not (self.exact or self.connecting or known_unsent)

    def _turn(self) -> None:
        self._turned = True
