"""Progress on stderr: a bar on a terminal, a plain line every 30 s elsewhere, nothing where quiet is wanted.

Invariants:

1. A stderr that is closed or fails costs the progress, never the run.
2. No clock here: a snapshot brings its time. Show one a few times a second.
3. What earlier runs finished counts as done and not as speed.

tqdm draws the bar, here and for the API. Nothing is coloured.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from batchrun.core.status.snapshot import Pace, Snapshot, Stalled, Throughput
from batchrun.core.text.readable import duration, many, time_range, visible
from batchrun.edge.terminal import WIDEST, columns_of, is_terminal

if TYPE_CHECKING:
    from tqdm import tqdm

PLAIN_EVERY = 30.0
"""Seconds between two lines where stderr is no terminal."""
NAMED_EVERY = 600.0
"""Seconds between two lines that name a job which runs unusually long, or may never end."""
Wordings = tuple[str, ...]
"""Ways to say the same, the one with most details first."""
_LONGEST_BAR, _SHORTEST_BAR = 16, 6
_FRAME = len(" |") + len("| ")


class ProgressBar:
    """What a person sees of a run of `total` rows, those of earlier runs included; None where that is unknown.

    `stream` is stderr as it is when this is made.
    """

    def __init__(self, total: int | None, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._throughput = Throughput(total)
        self._stream = sys.stderr if stream is None else stream
        self._quiet = quiet
        self._bar = TqdmBar(self._stream, bar_format=" ", leave=False)
        self._plain_since: float | None = None
        self._named_at = float("-inf")
        self._stalled_named = False
        # A closed descriptor leaves None where stderr should be.
        self._broken = self._stream is None
        self._terminal = not self._broken and not quiet and _can_redraw(self._stream)

    def show(self, snapshot: Snapshot) -> None:
        """Bring what is shown up to date."""
        if self._quiet or self._broken:
            return
        pace = self._throughput.add(snapshot)
        if not snapshot.states and snapshot.done == self._throughput.total:
            return  # this run has nothing to do
        self._name_long_jobs(snapshot)
        try:
            if self._terminal:
                self._draw(snapshot, pace)
            else:
                self._line(snapshot, pace)
        except (OSError, ValueError):  # ValueError: the stream was closed
            self._broken = True

    def _name_long_jobs(self, snapshot: Snapshot) -> None:
        """Jobs that run unusually long, or never end, are named once in a while."""
        if snapshot.stalled is not None and snapshot.stalled.tried and not self._stalled_named:
            self._stalled_named, self._named_at = True, snapshot.now  # a note of the run has just said it
        told = snapshot.stalled or snapshot.unusual
        if told is not None and snapshot.now - self._named_at >= NAMED_EVERY:
            self._named_at = snapshot.now
            self.say(str(told))

    def say(self, text: str) -> None:
        """Print `text`, a line or several, above the bar; not where quiet is wanted."""
        if not self._quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Print `text` above the bar, quiet or not: what must be known."""
        if self._broken:
            return
        try:
            if not self._bar.print(text, self._stream):
                self._stream.write(f"{text}\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._broken = True

    def close(self) -> None:
        """Take the bar away; what was said above it stays. May be called again."""
        try:
            self._bar.close()
        except (OSError, ValueError):
            self._broken = True

    def _draw(self, snapshot: Snapshot, pace: Pace) -> None:
        total = self._throughput.total
        layout = line(snapshot, pace, total, columns_of(self._stream) - 1)
        self._bar.draw(min(snapshot.done, total) if total else 0, total, bar_format=layout)

    def _line(self, snapshot: Snapshot, pace: Pace) -> None:
        if self._plain_since is None:
            self._plain_since = snapshot.now
        if snapshot.now - self._plain_since < PLAIN_EVERY:
            return
        self._plain_since = snapshot.now
        head = f"batchrun: {_far(snapshot, self._throughput.total)}"
        self._stream.write(f"{fitted([head, *parts(snapshot, pace)], WIDEST)}\n")
        self._stream.flush()


class TqdmBar:
    """A bar of tqdm's, from the first `draw` on: without its monitor thread and its lock for processes.

    Without a `stream` tqdm chooses where: a widget in a notebook, else stderr. `options` are tqdm's.
    """

    def __init__(self, stream: TextIO | None = None, **options: Any) -> None:
        self._stream = stream
        self._options = options
        self._bar: tqdm[Any] | None = None

    def draw(
        self, done: int, total: int | None, *, begin: int = 0, text: str | None = None, bar_format: str | None = None
    ) -> None:
        """Draw the bar with `done` of `total`; the first time it begins at `begin`."""
        if self._bar is None:
            self._bar = self._new(total, begin)
        bar = self._bar
        bar.total = total  # tqdm's own way to say so would begin its count again
        widget: Any = getattr(getattr(bar, "container", None), "children", ())
        if len(widget) == 3:  # in a notebook: text, bar, text
            widget[1].max = max(total or 0, 1)
        bar.n = done
        if bar_format is not None:
            bar.bar_format = bar_format
        if text is not None:
            bar.set_postfix_str(text, refresh=False)
        bar.refresh()

    def print(self, text: str, file: TextIO) -> bool:
        """Print a line above the bar; whether there is one."""
        if self._bar is None:
            return False
        self._bar.write(text, file=file)
        return True

    def close(self) -> None:
        """Take the bar away, or leave it as it is, as `options` say. May be called again."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()

    def _new(self, total: int | None, begin: int) -> tqdm[Any]:
        kind: Any
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that ipywidgets are missing is no concern of a batch
            if self._stream is None:
                from tqdm.auto import tqdm as kind  # noqa: PLC0415 - a tenth of a second that only a bar needs
            else:
                from tqdm import tqdm as kind  # noqa: PLC0415 - as above
        quiet: Any = type("Bar", (kind,), {"monitor_interval": 0})
        quiet.set_lock(threading.RLock())
        # A bar that draws itself while it is made and fails is left half made, and tqdm before 4.70 then fails again.
        # Not so in a notebook, whose bar would never be shown.
        delay = {} if self._stream is None else {"delay": 1}
        bar: tqdm[Any] = quiet(
            total=total, initial=begin, file=self._stream, dynamic_ncols=True, mininterval=0, **delay, **self._options
        )
        bar.delay = 0
        return bar


def line(snapshot: Snapshot, pace: Pace, total: int | None, room: int) -> str:
    """tqdm's format of a line in `room` columns: how far it is, the counts, a bar if there is room, then the rates."""
    far = _far(snapshot, total)
    if len(far) > room:
        far = fitted(far.split(", "), room)
    most = list(counts(snapshot, pace))
    text = fitted([far, *most], room)
    bar = min(_LONGEST_BAR, room - (len(text) - len(", ")) - _FRAME) if total else 0
    if bar < _SHORTEST_BAR:
        return _literally(fitted([far, *parts(snapshot, pace)], room))
    beside = fitted(parts(snapshot, pace), room - len(far) - bar - _FRAME)
    return f"{_literally(far)} |{{bar:{bar}}}| {_literally(beside)}"


def _literally(text: str) -> str:
    """`text` within a format of tqdm's."""
    return text.replace("{", "{{").replace("}", "}}")


def waiting(snapshot: Snapshot) -> Wordings:
    """Which rows wait since the service refused some, and until when: with all details, or with fewer."""
    most = max(snapshot.waits, key=lambda one: one.rows)
    rows = sum(one.rows for one in snapshot.waits)
    of_model = f" of {visible(most.model, 30)}" if most.model else ""
    until = duration(max(0.1, min(one.until for one in snapshot.waits) - snapshot.now))
    wait = f"{many(rows, 'row')}{{}} {'waits' if rows == 1 else 'wait'}"
    model = of_model if len(snapshot.waits) == 1 else f", most{of_model},"
    return f"{wait.format(model)}: {most.why}, next in {until}", f"{wait.format('')}: {most.why}", wait.format("")


def failing(snapshot: Snapshot) -> Wordings:
    """Whose jobs fail by the service's own fault, since when, and what happens next: with all details, or with fewer."""
    longest = max(snapshot.failing, key=lambda one: one.lasts)
    more = f", and of {len(snapshot.failing) - 1} other models" if len(snapshot.failing) > 1 else ""
    return f"{longest}{more}", f"jobs fail for {duration(longest.lasts)}: {longest.next}", "jobs fail"


def counts(snapshot: Snapshot, pace: Pace) -> Iterator[str | Wordings]:
    """What must be seen of a run, the most important first."""
    if snapshot.halted is not None:
        yield f"halted: {snapshot.halted[0]}"
    elif snapshot.silent_for is not None:
        yield f"no {'response' if snapshot.connected else 'connection'} for {duration(snapshot.silent_for)}"
    elif snapshot.outage:
        yield "outage: submits wait, one probe at a time"
    elif snapshot.waits:
        yield waiting(snapshot)
    elif snapshot.paused_until is not None and snapshot.paused_until > snapshot.now:
        yield f"submits paused {duration(snapshot.paused_until - snapshot.now)}"
    if snapshot.failing and snapshot.halted is None:
        yield failing(snapshot)
    yield f"{snapshot.succeeded:,} ok"
    failed = sum(snapshot.states.values()) - snapshot.succeeded
    if failed:
        yield f"{failed:,} failed"
    if pace.left and pace.left[1]:
        yield f"{time_range(*pace.left)} left"
    yield f"{snapshot.in_flight:,} in flight"


def not_ended(stalled: Stalled) -> Wordings:
    """How many jobs have not ended for long."""
    text = f"{stalled.jobs:,} not ended in {duration(stalled.least)}"
    more = f"{text}, {stalled.tried:,} more tried"
    return (more, text) if stalled.tried else (text,)


def rates(snapshot: Snapshot, pace: Pace) -> Iterator[str | Wordings]:
    """What may be left out."""
    if snapshot.stalled is not None:
        yield not_ended(snapshot.stalled)
    elif snapshot.unusual is not None:
        yield f"{snapshot.unusual.jobs:,} unusually long"
    if snapshot.with_warnings:
        yield f"{snapshot.with_warnings:,} with warnings"
    yield f"{_speed(pace.submits)} submits/s"
    yield f"{_speed(pace.polls)} polls/s"
    if snapshot.mean_lag is not None:
        yield f"lag {duration(snapshot.mean_lag)}"
    if snapshot.polls_per_job is not None:
        yield f"{snapshot.polls_per_job:.1f} polls per job"


def parts(snapshot: Snapshot, pace: Pace) -> Iterator[str | Wordings]:
    """All parts of a line on a run, the most important first."""
    yield from counts(snapshot, pace)
    yield from rates(snapshot, pace)


def fitted(texts: Iterable[str | Wordings], room: int) -> str:
    """As many of the parts as fit into `room` columns, from the first on, each in its first wording that does."""
    found = ""
    for part in texts:
        wordings = (part,) if isinstance(part, str) else part
        longer = (f"{found}, {wording}" if found else wording for wording in wordings)
        longest = next((text for text in longer if len(text) <= room), None)
        if longest is None:
            break
        found = longest
    return found


def _far(snapshot: Snapshot, total: int | None) -> str:
    if not total:
        return f"{snapshot.done:,} rows"
    return f"{snapshot.done:,}/{total:,} rows, {100 * snapshot.done // total}%"


def _speed(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 9.95 else f"{rate:.1f}"


def _can_redraw(stream: TextIO) -> bool:
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"
