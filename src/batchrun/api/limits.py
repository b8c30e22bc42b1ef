"""Limits that several batches of one program have together."""

from __future__ import annotations

import asyncio

from batchrun.api.wording import refusals_in_python
from batchrun.core.limits.gate import Shared
from batchrun.core.settings.parsing import from_arguments
from batchrun.results.run_errors import SettingsError
from batchrun.runner.loop.exchanges import submit_ceiling
from batchrun.runner.session import Sharing


class Limits:
    """Limits for all batches that are given the same object, together::

        limits = batchrun.Limits(rpm=600, concurrency=200)
        await asyncio.gather(*(batchrun.run(rows, limits=limits) for rows in parts))

    `rpm` is submits per minute, spread evenly; `concurrency` is jobs in flight, first come first served. A batch's
    own settings apply as well. All batches must run in one event loop at a time.
    """

    __module__ = "batchrun"

    def __init__(self, *, rpm: float | None = None, concurrency: int | None = None) -> None:
        with refusals_in_python():
            given, _ = from_arguments({"rpm": rpm, "concurrency": concurrency}, {})
        self.rpm: float | None = given.get("rpm")
        self.concurrency: int | None = given.get("concurrency")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sharing: Sharing | None = None

    def sharing(self) -> Sharing:
        """What the runs of this loop share. Raises SettingsError while batches of another loop use these limits."""
        loop = asyncio.get_running_loop()
        if self._sharing is not None and self._loop is not loop and self._sharing.shared.members:
            raise SettingsError(
                "limits: batches of another event loop use them now; run all of them in one loop, or give each its own Limits"
            )
        if self._sharing is None or self._loop is not loop:
            ceiling = None if self.rpm is None else submit_ceiling(self.rpm)
            self._loop = loop
            self._sharing = Sharing(Shared(rpm=self.rpm, concurrency=self.concurrency), ceiling)
        return self._sharing

    def __repr__(self) -> str:
        jobs = 0 if self._sharing is None else self._sharing.shared.jobs
        return f"<Limits rpm={self.rpm} concurrency={self.concurrency}: {jobs:,} jobs in flight>"
