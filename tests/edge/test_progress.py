"""Progress: what is told, where, how often; and that no stderr can end a run."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from batchrun.core.status.snapshot import Pace, Stalled, Unusual
from batchrun.edge.progress import PLAIN_EVERY, ProgressBar, fitted, line, parts
from tests.core.snapshots import snapshot

ROOT = Path(__file__).parents[2]
PACE = Pace(submits=12.3, polls=98.7, records=3.0, left=(725.0, 725.0))
BUSY = snapshot(
    now=100.0,
    finished_before=20,
    states={"succeeded": 75, "failed": 5},
    with_warnings=3,
    in_flight=40,
    submits=90,
    polls=700,
)


class Broken(io.StringIO):
    """A stream that fails from the `good`-th write on."""

    def __init__(self, good, terminal):
        super().__init__()
        self.good, self.terminal, self.tries = good, terminal, 0

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.tries += 1
        if self.tries > self.good:
            raise BrokenPipeError(32, "gone")
        return super().write(text)


@pytest.fixture
def terminal():
    """A real terminal of 120 columns, and what was printed on it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    stream = os.fdopen(theirs, "w")
    seen = []

    def read():
        try:
            while chunk := os.read(ours, 65536):
                seen.append(chunk)
        except OSError:  # Linux says EIO when the other side closed
            pass

    reader = threading.Thread(target=read)
    reader.start()

    def shown():
        stream.close()
        reader.join()
        return b"".join(seen).decode()

    yield stream, shown
    if not stream.closed:
        stream.close()
    reader.join()
    os.close(ours)


def test_everything_is_told_the_most_important_first():
    assert list(parts(BUSY, PACE)) == [
        "75 ok", "5 failed", "12 min 5 s left", "40 in flight", "3 with warnings", "12 submits/s", "99 polls/s",
    ]  # fmt: skip


@pytest.mark.parametrize(("counts", "says"), [
    ({"paused_until": 112.0}, "submits paused 12 s"),
    ({"outage": True, "paused_until": 112.0}, "outage: submits wait, one probe at a time"),
    ({"outage": True, "halted": ("quota", "used up")}, "halted: quota"),
])  # fmt: skip
def test_what_holds_a_run_up_comes_first(counts, says):
    assert next(parts(snapshot(now=100.0, **counts), PACE)) == says


def test_a_pause_that_is_over_is_not_told():
    assert next(parts(snapshot(now=100.0, paused_until=99.0), PACE)) == "0 ok"


def test_what_is_known_of_polls_is_told_after_the_rest():
    known = snapshot(now=100.0, mean_lag=0.52, polls_per_job=2.94, unusual=Unusual(3, "row-17", 2520.0))
    pace = PACE._replace(left=(712.0, 931.0))
    assert list(parts(known, pace)) == [
        "0 ok", "12 to 16 min left", "0 in flight", "3 unusually long", "12 submits/s", "99 polls/s", "lag 0.5 s",
        "2.9 polls per job",
    ]  # fmt: skip


def test_a_range_of_time_fits_80_columns_with_the_counts():
    shown = line(BUSY, PACE._replace(left=(712.0, 931.0)), 1_234_567, 79)
    for count in ("75 ok", "5 failed", "12 to 16 min left", "40 in flight"):
        assert count in shown


def test_unusual_jobs_are_named_every_ten_minutes():
    stream = io.StringIO()
    progress = ProgressBar(200, stream=stream)
    for now in range(0, 1300, 10):
        unusual = None if now < 100 else Unusual(1 + now // 700, "row-17", 1000.0 + now)
        progress.show(snapshot(now=float(now), in_flight=3, unusual=unusual))
    named = [line for line in stream.getvalue().splitlines() if "batchrun: " not in line]
    assert named == [
        "1 job runs unusually long: row-17, 18 min 20 s",
        "2 jobs run unusually long, the oldest row-17, 28 min 20 s",
    ]
    quiet = ProgressBar(200, quiet=True, stream=(silent := io.StringIO()))
    quiet.show(snapshot(now=0.0, unusual=Unusual(1, "row-17", 1000.0)))
    assert silent.getvalue() == ""
    assert len(str(Unusual(3, "row-b5283b9f9de2a8b3bbf462ca", 3_599.0))) <= 80


def test_jobs_that_have_not_ended_are_named_every_ten_minutes_and_not_twice_with_the_note():
    stream = io.StringIO()
    progress = ProgressBar(200, stream=stream)
    for now in range(0, 2200, 10):
        tried = (now - 900) // 100
        stalled = None if now < 900 else Stalled(15, "row-3", float(now), float(now), min(15, 1 + tried))
        unusual = None if now < 100 else Unusual(15, "row-3", float(now))
        progress.show(snapshot(now=float(now), in_flight=16, unusual=unusual, stalled=stalled))
    assert [line for line in stream.getvalue().splitlines() if "batchrun: " not in line] == [
        "15 jobs run unusually long, the oldest row-3, 1 min 40 s",
        "15 jobs run unusually long, the oldest row-3, 11 min 40 s",
        "15 jobs have not ended in 25 min, the oldest row-3; 7 more are tried instead",
        "15 jobs have not ended in 35 min, the oldest row-3; 13 more are tried instead",
    ]


def test_jobs_that_have_not_ended_in_the_line():
    stuck = snapshot(now=2000.0, in_flight=16, stalled=Stalled(15, "row-3", 1020.0, 1020.0, 1))
    shown = fitted(parts(stuck, PACE._replace(left=None)), 120)
    assert shown.startswith("0 ok, 16 in flight, 15 not ended in 17 min, 1 more tried, ")
    assert fitted(parts(stuck, PACE._replace(left=None)), 50) == "0 ok, 16 in flight, 15 not ended in 17 min"


def test_unusual_jobs_in_words():
    assert str(Unusual(1, "row-17", 2520.0)) == "1 job runs unusually long: row-17, 42 min"
    assert str(Unusual(3, "row-17", 2520.0)) == "3 jobs run unusually long, the oldest row-17, 42 min"
    assert str(Unusual(500, "a\nb", 60.0)) == "500+ jobs run unusually long, the oldest a\\nb, 1 min"


def test_parts_that_do_not_fit_are_left_out():
    assert fitted(iter(["12 min left", "40 in flight", "75 ok"]), 26) == "12 min left, 40 in flight"
    assert fitted(iter(["12 min left"]), 5) == ""


@pytest.mark.parametrize("room", range(20, 121))
@pytest.mark.parametrize("total", [200, None, 1_234_567])
def test_a_line_fits_and_shows_how_far_it_is(total, room):
    shown = line(BUSY, PACE, total, room)
    assert len(re.sub(r"\{bar:([0-9]+)\}", lambda bar: "#" * int(bar[1]), shown)) <= room
    assert shown.startswith("100")
    if room >= 39 and total != 1_234_567:
        assert "75 ok, 5 failed" in shown
    if room >= 79:
        for count in ("75 ok", "5 failed", "12 min 5 s left", "40 in flight"):
            assert count in shown
        assert ("{bar:" in shown) is bool(total)


def test_a_plain_line_every_thirty_seconds():
    stream = io.StringIO()
    progress = ProgressBar(200, stream=stream)
    for tick in range(361):
        now = tick / 4
        progress.show(snapshot(now=now, finished_before=100, states={"succeeded": tick // 8}, polls=tick))
    progress.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == int(90 // PLAIN_EVERY)
    assert lines[0] == "batchrun: 115/200 rows, 57%, 15 ok, 2 min 50 s left, 0 in flight, 0.0 submits/s"


def test_an_input_of_unknown_length():
    stream = io.StringIO()
    progress = ProgressBar(None, stream=stream)
    progress.show(snapshot(now=0.0))
    progress.show(snapshot(now=30.0, states={"failed": 7}))
    assert stream.getvalue() == "batchrun: 7 rows, 0 ok, 7 failed, 0 in flight, 0.0 submits/s, 0.0 polls/s\n"


def test_a_bar_on_a_terminal(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream, shown = terminal
    progress = ProgressBar(200, stream=stream)
    progress.show(snapshot(now=90.0, finished_before=20))
    progress.show(BUSY)
    progress.say("halted: {quota}")
    progress.show(snapshot(now=101.0, finished_before=20, states={"succeeded": 76, "failed": 5}, halted=("a{b", "")))
    progress.close()
    progress.close()
    text = shown()
    assert "100/200 rows, 50% |████████        | 75 ok, 5 failed, 12 s left, 40 in flight, 3 with warnings" in text
    assert "halted: {quota}\r\n" in text
    assert "| halted: a{b, 76 ok" in text
    assert max(len(line.strip("\r\n")) for part in text.split("\r") for line in part.split("\n")) < 120
    assert "\x1b[3" not in text  # nothing is coloured
    assert text.endswith("\r")  # the line is free again


def test_a_narrow_terminal_gets_what_fits(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream, shown = terminal
    fcntl.ioctl(stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    progress = ProgressBar(200, stream=stream)
    progress.show(BUSY)
    progress.close()
    text = shown()
    assert "40 in flight" in text
    assert "polls/s" not in text


def test_a_dumb_terminal_gets_plain_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream, shown = terminal
    ProgressBar(200, stream=stream).show(BUSY)
    assert shown() == ""


def test_quiet_tells_nothing_but_warnings():
    stream = io.StringIO()
    progress = ProgressBar(200, quiet=True, stream=stream)
    progress.show(snapshot(now=0.0))
    progress.show(snapshot(now=60.0))
    progress.say("running")
    assert stream.getvalue() == ""
    progress.warn("disk full")
    assert stream.getvalue() == "disk full\n"


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("good", [0, 1, 2, 3])
def test_o21_a_failing_stderr_costs_the_progress_alone(good, is_terminal, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Broken(good, is_terminal)
    progress = ProgressBar(200, stream=stream)
    for tick in range(10):
        progress.show(snapshot(now=tick * 40.0, states={"succeeded": tick}))
        progress.say("a line")
    tries = stream.tries
    progress.close()
    progress.show(snapshot(now=1000.0))
    assert tries == good + 1  # not tried again


def test_o21_a_closed_stderr():
    stream = io.StringIO()
    progress = ProgressBar(200, stream=stream)
    stream.close()
    progress.show(snapshot(now=0.0))
    progress.show(snapshot(now=60.0))
    progress.say("x")
    progress.close()


def test_o21_no_stderr_at_all():
    code = "from batchrun.edge.progress import ProgressBar\np = ProgressBar(5); p.say('x'); p.close(); print('went on')"
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code],
        capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_drawing_starts_no_thread(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream, _ = terminal
    before = threading.active_count()
    progress = ProgressBar(5, stream=stream)
    progress.show(snapshot(now=0.0))
    assert threading.active_count() == before
    progress.close()
