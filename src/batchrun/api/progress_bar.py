"""The bar of a notebook or a terminal. Where neither is there is nothing to draw on, and none is drawn."""

from __future__ import annotations

import sys

from batchrun.api.observers import in_a_notebook, person
from batchrun.core.status.snapshot import Snapshot, Throughput
from batchrun.edge.progress import TqdmBar, fitted, parts
from batchrun.results.record import Record

_ROOM = 100


class Bar:
    """An observer that draws a bar; what earlier runs finished is done and no speed."""

    def __init__(self) -> None:
        self._total = 0
        self._bar = TqdmBar(unit="row")
        self._throughput: Throughput | None = None
        self._shown = _can_be_seen()

    def grow(self, total: int) -> None:
        """There are so many rows now."""
        self._total = total

    def progressed(self, stats: Snapshot) -> None:
        """Bring the bar up to date."""
        if not self._shown:
            return
        if self._throughput is None:
            self._throughput = Throughput(self._total)
        text = fitted(parts(stats, self._throughput.add(stats)), _ROOM)
        self._bar.draw(stats.done, max(self._total, stats.done), begin=stats.finished_before, text=text)

    def say(self, text: str) -> bool:
        """Print a line above the bar; whether there is one."""
        return self._bar.print(f"batchrun: {text}", person())

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def recorded(self, record: Record) -> None:
        """Shown by the counts."""

    def halted(self, reason: str, message: str) -> None:
        """Shown by the exception."""

    def noted(self, text: str) -> None:
        """Shown above the bar."""


def _can_be_seen() -> bool:
    try:
        return in_a_notebook() or sys.stderr.isatty()
    except (AttributeError, ValueError):  # no stderr, or one that is closed
        return False
