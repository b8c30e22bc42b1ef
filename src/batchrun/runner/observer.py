"""Who is told how a run goes."""

from __future__ import annotations

from typing import Protocol

from batchrun.core.status.snapshot import Snapshot


class RunObserver(Protocol):
    """Who is told how the run goes; nothing that it does may raise."""

    def progressed(self, snapshot: Snapshot) -> None: ...
    def halted(self, reason: str, message: str) -> None: ...
    def recorded(self, line: bytes) -> None: ...
    def saved(self, records: int) -> None: ...  # so many records of this run are on the disk
    def noted(self, text: str) -> None: ...
