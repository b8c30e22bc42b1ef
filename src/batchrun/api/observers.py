"""Who is told how a run goes: a program's own observers, and the bar. Nothing that they raise hurts the run."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TextIO

from batchrun.api.wording import halt_in_python, in_python
from batchrun.core.status.snapshot import Snapshot, Throughput
from batchrun.core.text.readable import Text
from batchrun.edge.progress import TqdmBar, fitted, parts
from batchrun.edge.terminal import for_person
from batchrun.results.record import Record
from batchrun.results.run_errors import SettingsError

_LOG = logging.getLogger("batchrun")


class Observer(Protocol):
    """Called during a run; derive from it and write the methods that you need.

    They are called in the run's event loop and must be quick. What they raise is logged (logger `batchrun`, once
    for each method) and does not affect the run.
    """

    def progressed(self, stats: Snapshot) -> None:
        """A few times per second, and once at the end: the counts of the batch."""
        return

    def recorded(self, record: Record) -> None:
        """A row is done, and its record is safe on the disk. Not called for what earlier runs finished."""
        return

    def halted(self, reason: str, message: str) -> None:
        """Nothing more will be submitted, and why."""
        return

    def noted(self, text: str) -> None:
        """Something that a person should know, in a line."""
        return


Observer.__module__ = "batchrun"  # where people find it


_HOOKS = ("progressed", "recorded", "halted", "noted")


def observers_of(given: Any) -> list[Any]:
    """The observers of a call, which may be one or several. Raises SettingsError for what could never be told."""
    several = list(given) if isinstance(given, Iterable) and not isinstance(given, type) else [given]
    for one in several:
        if isinstance(one, type) or not any(callable(getattr(one, hook, None)) for hook in _HOOKS):
            actual = (
                f"the class {one.__name__}: write {one.__name__}()" if isinstance(one, type) else type(one).__name__
            )
            raise SettingsError(
                f"observers: expected a batchrun.Observer or several, with one of {', '.join(_HOOKS)}; got {actual}"
            )
    return several


class Fan:
    """The one observer that the runner knows; tells all others."""

    def __init__(
        self,
        observers: Iterable[Observer],
        folder: Path | None,
        *,
        quiet: bool,
        over: Callable[[str], bool] | None = None,
        news: Callable[[], None] | None = None,
    ) -> None:
        self._observers = list(observers)
        self._folder = folder
        self._quiet = quiet
        self._broken: set[tuple[int, str]] = set()
        self._unsafe: deque[bytes] = deque()
        self._safe = 0
        self.problem: str | None = None
        self._over = over  # the bar, if it is drawn
        self._news = news

    def progressed(self, snapshot: Snapshot) -> None:
        self._tell("progressed", snapshot)

    def halted(self, reason: str, message: str) -> None:
        message = halt_in_python(reason, message)
        if reason == "write failed":
            self.problem = message
        self._tell("halted", reason, message)

    def say(self, text: str) -> None:
        """Tell a person, above the bar where there is one."""
        if not self._quiet and not (self._over is not None and self._over(text)):
            _say(text)

    def noted(self, note: Text) -> None:
        text = in_python(note)
        self.say(text)
        _LOG.info("%s", text)
        self._tell("noted", text)

    def recorded(self, line: bytes) -> None:
        if self._observers:
            self._unsafe.append(line)

    def saved(self, records: int) -> None:
        while self._unsafe and self._safe < records:
            self._safe += 1
            self._tell("recorded", Record(self._unsafe.popleft(), self._folder))
        if self._news is not None:
            self._news()

    def _tell(self, method: str, *arguments: object) -> None:
        for one in self._observers:
            if (call := getattr(one, method, None)) is None:
                continue
            try:
                call(*arguments)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # noqa: BLE001 - law of this file; a CancelledError of its own would end the run
                if (id(one), method) not in self._broken:
                    self._broken.add((id(one), method))
                    _LOG.exception(
                        "%s.%s raised an exception; the run continues, and this is logged once",
                        type(one).__name__,
                        method,
                    )


def _say(text: str) -> None:
    with suppress(OSError, ValueError, AttributeError):  # stderr is closed
        print(for_person(f"batchrun: {text}", person()), file=person(), flush=True)


def person() -> TextIO:
    """Where a person reads: stderr, but in a notebook, which paints that red."""
    return sys.stdout if in_a_notebook() else sys.stderr


def in_a_notebook() -> bool:
    """Whether this process is a kernel; nothing is imported to find that out."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


# --- The bar of a notebook or a terminal. Where neither is there is nothing to draw on, and none is drawn ---


_ROOM = 60
_LAYOUT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
"""As tqdm's own, without its time left and its speed: ours are in the text, and count only the recent past."""


class Bar:
    """An observer that draws a bar; what earlier runs finished is done and no speed."""

    def __init__(self) -> None:
        self._total = 0
        self._bar = TqdmBar(unit="row", bar_format=_LAYOUT)
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
