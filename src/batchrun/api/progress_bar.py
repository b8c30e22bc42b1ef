"""The bar of a notebook or a terminal, drawn by tqdm. Where neither is there is nothing to draw on, and none is drawn."""

from __future__ import annotations

import sys
import threading
import warnings
from typing import Any

from batchrun.api.observers import in_a_notebook, person
from batchrun.core.status.snapshot import Snapshot, Throughput
from batchrun.edge.progress import fitted, parts
from batchrun.results.record import Record

_ROOM = 100


class Bar:
    """An observer that draws a bar. `total` may grow; an earlier run's rows are done and no speed."""

    def __init__(self) -> None:
        self.total = 0
        self._bar: Any = None
        self._rhythm: Throughput | None = None
        self._shown = _can_be_seen()

    def progressed(self, stats: Snapshot) -> None:
        """Bring the bar up to date."""
        if not self._shown:
            return
        if self._bar is None or self._rhythm is None:
            self._bar = _new_bar(self.total, stats.finished_before)
            self._rhythm = Throughput(self.total)
        bar = self._bar
        _stretch(bar, max(self.total, stats.done))
        bar.n = stats.done
        bar.set_postfix_str(fitted(parts(stats, self._rhythm.add(stats)), _ROOM), refresh=True)

    def say(self, text: str) -> bool:
        """Print a line above the bar; whether there is one."""
        if self._bar is None:
            return False
        self._bar.write(f"batchrun: {text}", file=person())
        return True

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def recorded(self, record: Record) -> None:
        """Told by the counts."""

    def halted(self, reason: str, message: str) -> None:
        """Told by the exception."""

    def noted(self, text: str) -> None:
        """Told above the bar."""


def _stretch(bar: Any, total: int) -> None:
    """A bar that is so long: tqdm's own way to say so begins the count anew."""
    bar.total = total
    parts_of: Any = getattr(getattr(bar, "container", None), "children", ())
    if len(parts_of) == 3:  # in a notebook: text, bar, text
        parts_of[1].max = max(total, 1)


def _can_be_seen() -> bool:
    try:
        return in_a_notebook() or sys.stderr.isatty()
    except (AttributeError, ValueError):  # no stderr, or one that is closed
        return False


def _new_bar(total: int, done: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that ipywidgets are missing is no concern of a batch
        from tqdm.auto import tqdm  # noqa: PLC0415 - a tenth of a second that only a bar needs

    class Quiet(tqdm):  # type: ignore[type-arg] # tqdm is generic for type checkers alone
        monitor_interval = 0  # no thread of its own

    Quiet.set_lock(threading.RLock())
    return Quiet(total=total, initial=done, unit="row", mininterval=0, dynamic_ncols=True)
