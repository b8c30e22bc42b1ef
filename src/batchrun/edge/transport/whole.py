"""An answer taken whole, within the caps and the budget, by one deadline: a future, and no task."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from batchrun.edge.exchange import Caps
from batchrun.edge.exchange.budget import Budget, BudgetShare
from batchrun.edge.exchange.reading import Body, Broken, ResponseHead
from batchrun.edge.transport.exchange import Exchange, ExchangeStage, Slots

Result = tuple[int, dict[str, str], bytes] | Broken


class Whole(Exchange):
    """One exchange of the seam. `done` ends with its answer as (status, headers, body), or with the fault."""

    __slots__ = ("_body", "_budget", "_caps", "_fields", "_reading", "_status", "done", "sent")

    def __init__(
        self,
        lane: Slots,
        head: bytes,
        body: bytes,
        method: str,
        done: asyncio.Future[Result],
        caps: Caps,
        budget: Budget,
    ) -> None:
        super().__init__(lane, head, body, method)
        self.done = done
        self._caps = caps
        self._budget = budget
        self._reading: BudgetShare | None = None
        self._body: Body | None = None
        self._status = 0
        self._fields: dict[str, str] = {}
        self.sent = False

    def headed(self, status: int, head: ResponseHead, pairs: Sequence[tuple[bytes, bytes]]) -> None:  # noqa: ARG002
        self._status = status
        self._fields = head.fields
        self._body = Body(status, head.coding, self._caps)

    def took(self, piece: bytes) -> bool:
        assert self._body is not None
        return self._body.take(piece)

    def waits(self) -> bool:
        if self._body is None:
            return False
        if self._reading is None:
            self._reading = self._budget.begin(patient=not self.fresh)
        full = self._budget.add(self._reading, self._body.size - self._reading.size)
        if full:
            assert self.carrier is not None
            self._budget.hold(self._reading, self.carrier.resume)
        return full

    def ended(self) -> None:
        assert self._body is not None
        try:
            self._end((self._status, self._fields, self._body.whole()))
        except Broken as fault:
            self._end(fault)

    def failed(self, fault: Broken) -> None:
        self._end(fault)

    def _end(self, result: Result) -> None:
        self.sent = self.stage is ExchangeStage.SENT
        self.stage = ExchangeStage.OVER
        self._body = None
        if self._reading is not None:
            self._reading.end()
        if not self.done.done():
            self.done.set_result(result)
