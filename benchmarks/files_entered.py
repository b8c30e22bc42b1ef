"""How many files of batchrun a row, a poll, a resume and a cancel request pass through.

    python benchmarks/files_entered.py [--source DIR] [--python FILE] [--list]

A reader who follows one row has to open so many files. The real command runs in a process of its own against the
simulated service in another, and every call of a function in DIR/batchrun is seen, in all threads (`sys.setprofile`).
A file counts once one of its functions was called; what runs because a module is imported does not count.

* row            a batch of one row: from the call that is given the row that was read (`RowRead`) to the one that is
                 given its record to write (`Emit`)
* poll           a running job: from its due timer (`TimerFired`) to the end of the call that is given the answer
                 (`PollAnswered`) and sets the next timer. What most polls pass: a heartbeat may fall into one
* resume         the same command on a batch that was killed while its job ran: from `open_batch` to the `Emit`
* cancel request from the call that is given the request (`CancelRequested`) to the journal entry (`Cancelling`) as bytes
* whole command  of `row` and of `resume`: from `main` to the exit code, parser, progress and summary included

DIR is this checkout's `src` unless named: an earlier commit's with its own Python. Prints a line of JSON for each, and a
table to stderr; with `--list` the files, in the order in which they were entered.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
POLLS = 8
LONGEST = 120.0
TIMER = frozenset({"TimerFired", "TimeCame"})  # its name, and the one that it had before
# files entered at commit 4def7fb, by the definitions above
BEFORE = {"row": 61, "poll": 22, "resume": 84, "cancel request": 8}
FLAGS = ("--poll-min", "200ms", "--poll-max", "200ms", "--cancel-settle", "50ms", "--quiet")
SCENARIO = "[times]\nduration = '2s'\n"  # so long that all that a heartbeat does falls into a row's time, every time

Files = list[str]  # in the order in which they were entered, each once


# --- the traced process ---


class Trace:
    """Calls of functions below `folder`, and the parts of them that are counted."""

    def __init__(self, folder: str, polled: Callable[[], object] = lambda: None) -> None:
        self._folder = f"{folder}/"
        self._polled = polled  # is called after POLLS polls
        self._from_main: dict[str, None] = {}
        self._from_row: dict[str, None] | None = None
        self._from_opening: dict[str, None] | None = None
        self._from_timer: dict[str, None] | None = None
        self._from_request: dict[str, None] | None = None
        self._answering: FrameType | None = None
        self.counted: dict[str, list[Files]] = {}
        self._lock = threading.Lock()

    def begin(self) -> None:
        threading.setprofile(self._seen)
        sys.setprofile(self._seen)

    def end(self) -> None:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
        self._count("whole command", self._from_main)

    def _count(self, name: str, files: Mapping[str, None]) -> None:
        self.counted.setdefault(name, []).append(list(files))

    def _seen(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "return":
            if frame is self._answering:
                self._answering = None
                if self._from_timer is not None:
                    self._count("poll", self._from_timer)
                    if len(self.counted["poll"]) == POLLS:
                        self._polled()
                    self._from_timer = None
            return
        if event != "call":
            return
        code = frame.f_code
        if not code.co_filename.startswith(self._folder) or code.co_name == "<module>" or _imports(frame):
            return
        with self._lock:
            self._called(frame, code.co_name, code.co_filename.removeprefix(self._folder))

    def _called(self, frame: FrameType, function: str, file: str) -> None:
        arguments = frame.f_locals
        given = {type(value).__name__ for value in arguments.values()}
        if self._from_row is None and "RowRead" in given:
            self._from_row = {}
        if self._from_opening is None and function == "open_batch":
            self._from_opening = {}
        if given & TIMER and not (self._from_timer is not None and _has(frame.f_back, TIMER)):
            self._from_timer = {}
        if self._from_request is None and "CancelRequested" in given and "cancel request" not in self.counted:
            self._from_request = {}
        if "PollAnswered" in given and self._answering is None:
            self._answering = frame
        for files in (self._from_main, self._from_row, self._from_opening, self._from_timer, self._from_request):
            if files is not None:
                files[file] = None
        if "Emit" in given:
            for name, files in (("row", self._from_row), ("resume", self._from_opening)):
                if files is not None and name not in self.counted:
                    self._count(name, files)
        if self._from_request is not None and type(arguments.get("self")).__name__ == "Cancelling":
            self._count("cancel request", self._from_request)
            self._from_request = None


def _imports(frame: FrameType) -> bool:
    """Whether `frame` runs because a module is being imported."""
    above: FrameType | None = frame
    while above is not None:
        if above.f_code.co_filename.startswith("<frozen importlib"):
            return True
        above = above.f_back
    return False


def _has(frame: FrameType | None, names: frozenset[str]) -> bool:
    return frame is not None and any(type(value).__name__ in names for value in frame.f_locals.values())


def traced(result: str, arguments: list[str]) -> int:
    """Run the command in this process, and leave what was counted in the file `result`."""
    folder = next(path for path in sys.path if Path(path, "batchrun", "__init__.py").exists())
    trace = Trace(str(Path(folder, "batchrun")), Path(result).touch)
    trace.begin()
    try:
        from batchrun.cli import main

        return int(main(arguments))
    finally:
        trace.end()
        Path(result).write_text(json.dumps(trace.counted))


# --- who starts it ---


class Runs:
    """Commands on a source tree, against a simulated service."""

    def __init__(self, source: Path, python: str, folder: Path) -> None:
        self._python = python
        self._folder = folder
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "BATCHRUN_"))}
        self._environment = {**clean, "PYTHONPATH": str(source), "OPENAI_API_KEY": "sk-files-entered"}
        self.url = ""

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        scenario = self._folder / "scenario.toml"
        scenario.write_text(SCENARIO)
        command = [self._python, "-m", "batchrun", "serve", "--port", "0", "--print-url", str(scenario)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=self._environment
        ) as process:
            try:
                assert process.stdout is not None
                self.url = process.stdout.readline().strip()
                yield
            finally:
                process.kill()

    def start(self, name: str, prompt: str, *, trace: bool) -> subprocess.Popen[bytes]:
        """The command on a batch of one row called `name`."""
        rows = self._folder / f"{name}.jsonl"
        rows.write_text(json.dumps({"custom_id": "row", "body": {"model": "gpt-5", "input": prompt}}) + "\n")
        command = ["-m", "batchrun"] if not trace else [__file__, "--traced", str(self._folder / f"{name}.json")]
        arguments = [str(rows), "-o", f"{self._folder}/{name}.out", "--base-url", self.url, *FLAGS]
        return subprocess.Popen([self._python, *command, *arguments], env=self._environment, cwd=self._folder)

    def counted(self, name: str, process: subprocess.Popen[bytes]) -> dict[str, list[Files]]:
        code = process.wait(LONGEST)
        if code not in (0, 1):
            raise RuntimeError(f"the traced command ended with {code}")
        return dict(json.loads((self._folder / f"{name}.json").read_text()))

    def wait_for(self, name: str, tag: str) -> None:
        journal = self._folder / f"{name}.out.journal"
        _until(lambda: journal.exists() and f'{{"{tag}":'.encode() in journal.read_bytes())

    def cancel(self, name: str) -> None:
        command = [self._python, "-m", "batchrun", "cancel", f"{self._folder}/{name}.out", "--all"]
        subprocess.run(command, env=self._environment, check=True, capture_output=True)


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONGEST
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {LONGEST:g} s in vain")
        time.sleep(0.02)


def entered(source: Path = ROOT / "src", python: str = sys.executable) -> dict[str, Files]:
    """The files that each scenario enters."""
    with tempfile.TemporaryDirectory() as name:
        runs = Runs(source, python, Path(name))
        with runs.serving():
            row = runs.counted("row", runs.start("row", "hello", trace=True))

            killed = runs.start("resume", "hello", trace=False)
            runs.wait_for("resume", "submitted")
            killed.send_signal(signal.SIGKILL)
            killed.wait(LONGEST)
            resume = runs.counted("resume", runs.start("resume", "hello", trace=True))

            polled = runs.start("polled", "[[sleep 600]]", trace=True)
            _until((Path(name) / "polled.json").exists)
            runs.cancel("polled")
            polls = runs.counted("polled", polled)
    [(usual, _)] = Counter(tuple(files) for files in polls["poll"]).most_common(1)
    return {
        "row": row["row"][0],
        "poll": list(usual),
        "resume": resume["resume"][0],
        "cancel request": polls["cancel request"][0],
        "row, whole command": row["whole command"][0],
        "resume, whole command": resume["whole command"][0],
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, default=ROOT / "src", help="the folder that holds `batchrun`")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--list", action="store_true", help="name the files as well")
    options = parser.parse_args(arguments)
    found = entered(options.source.resolve(), options.python)
    print(f"{'':24}{'files':>6}{'before':>8}", file=sys.stderr)
    for name, files in found.items():
        print(json.dumps({"name": f"files entered: {name}", "value": len(files), "unit": "files"}))
        print(f"{name:24}{len(files):>6}{BEFORE.get(name, ''):>8}", file=sys.stderr)
        if options.list:
            for folder, count in Counter(file.rpartition("/")[0] or "." for file in files).items():
                here = [file.rpartition("/")[2] for file in files if (file.rpartition("/")[0] or ".") == folder]
                print(f"    {folder} ({count}): {', '.join(here)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--traced"]:
        raise SystemExit(traced(sys.argv[2], sys.argv[3:]))
    raise SystemExit(main(sys.argv[1:]))
