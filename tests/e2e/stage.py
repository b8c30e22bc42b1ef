"""What the tests of real processes share: the command in one process, the simulated service in another.

Whatever a test does, at its end the API key stands in no file that was written and in nothing that was printed.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import jsonschema
import pytest

from batchrun.core.records.record import RECORD_SCHEMA

ROOT = Path(__file__).parents[2]
CANARY = "sk-canary-5f0e9d1c7b"
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("OPENAI_", "AZURE_", "BATCHRUN_")) and name.lower() not in ("http_proxy", "https_proxy")
}
ENVIRONMENT = {**CLEAN, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "error", "OPENAI_API_KEY": CANARY}
LONGEST = 240.0
"""Seconds after which waiting fails a test: only what hangs takes as long, however busy the machine is."""
PATIENT = pytest.mark.timeout(300)
"""Of every test that waits for processes."""
_PEAK = """
import os, sys
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w") as file:
    file.write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""
_VALIDATOR = jsonschema.Draft202012Validator(RECORD_SCHEMA)
_CHECKED = 200  # records of a file that are held against the schema; it takes a millisecond each


def wait_until(condition, told=lambda: "", *, pause=0.02):
    """Wait until `condition()` holds; `told()` is what a failure shows."""
    end = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < end, f"waited {LONGEST:g} s in vain: {told()}"
        time.sleep(pause)


class Service:
    """The simulated service in a process of its own."""

    def __init__(self, process, url):
        self.process = process
        self.url = url
        self.origin = url.removesuffix("/v1")

    @property
    def port(self):
        return int(self.origin.rpartition(":")[2])

    def statistics(self):
        return self._ask("/_books")

    def posts(self):
        """POSTs of every row."""
        return self._ask("/_books/rows")["posts"]

    def jobs(self):
        """Jobs of every row."""
        return self._ask("/_books/rows")["jobs"]

    def behave(self, scenario):
        """Go on by another scenario."""
        self._ask("/_scenario", scenario.encode())

    def wait_until(self, condition):
        """The first books of which `condition` holds."""

        def hold():
            nonlocal books
            return condition(books := self.statistics())

        books = None
        wait_until(hold, lambda: books)
        return books

    def _ask(self, path, body=None):
        with urllib.request.urlopen(self.origin + path, data=body, timeout=LONGEST) as answer:
            return json.load(answer)


@contextlib.contextmanager
def serving(folder, scenario="", port=0):
    """A service that behaves by `scenario`, on a free port of this machine unless one is named."""
    file = folder / f"scenario-{time.monotonic_ns()}.toml"
    file.write_text(scenario)
    command = [sys.executable, "-m", "batchrun", "serve", "--port", str(port), "--print-url", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=CLEAN | {"PYTHONPATH": str(ROOT / "src")}) as process:  # fmt: skip
        try:
            yield Service(process, process.stdout.readline().strip())
        finally:
            process.kill()


@dataclasses.dataclass
class Ended:
    """A process that is over."""

    code: int
    said: str
    out: str = ""

    def says(self, *texts):
        told = " ".join(self.said.split())
        for text in texts:
            assert text in told, f"expected {text!r} in what it said:\n{self.said}"


class Batch:
    """One input, its output, and the command that is run on them."""

    def __init__(self, folder, rows, *flags, name="batch"):
        self.folder = folder
        self.input, self.output = folder / f"{name}.jsonl", folder / f"{name}.out"
        self.journal = folder / f"{name}.out.journal"
        self.flags = flags
        self.rows = rows
        self.input.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def start(self, *flags, environment=ENVIRONMENT, under=(), begun=True):
        """The command as a process; what it says goes to a file, as under nohup. Waits until it has begun its rows."""
        command = [*under, sys.executable, "-m", "batchrun", str(self.input), "-o", str(self.output)]
        command += [*self.flags, *flags]
        self.screen = self.folder / f"screen-{time.monotonic_ns()}"
        with self.screen.open("wb") as screen:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=screen, env=environment, cwd=self.folder)
        if begun:
            wait_until(lambda: "limits:" in self.screen.read_text() or process.poll() is not None)
        return process

    def end(self, process, seconds=LONGEST):
        """Wait for the end of `process`."""
        try:
            out, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise AssertionError(f"still running after {seconds:g} s:\n{self.screen.read_text()}") from None
        said = self.screen.read_text()
        assert "Traceback" not in said, said
        self._check_the_canary(said + out.decode())
        return Ended(process.returncode, said, out.decode())

    def run(self, *flags, seconds=LONGEST, **more):
        return self.end(self.start(*flags, begun=False, **more), seconds)

    def start_measured(self, *flags):
        """Start it below a small process that asks for its peak memory: `peak`, in KiB, once it has ended."""
        return self.start(*flags, begun=False, under=(sys.executable, "-c", _PEAK, str(self.folder / "peak")))

    def peak(self):
        return int((self.folder / "peak").read_text())

    def begin(self, name, *flags, environment=ENVIRONMENT):
        """Another command on the output, ``batchrun NAME OUT``, as a process; `told` waits for its end."""
        command = [sys.executable, "-m", "batchrun", name, str(self.output), *flags]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=self.folder)  # fmt: skip

    def told(self, process, seconds=LONGEST):
        """What it came to; stdout is in `out`, all that it said in `said`."""
        try:
            out, said = process.communicate(timeout=seconds)
        finally:
            process.kill()
        assert "Traceback" not in said, said
        self._check_the_canary(said + out)
        return Ended(process.returncode, f"{said}{out}", out)

    def tell(self, name, *flags, **more):
        """Run another command on the output to its end."""
        return self.told(self.begin(name, *flags, **more))

    def _check_the_canary(self, said):
        assert CANARY not in said
        for file in self.folder.iterdir():
            if file.is_file() and file.stat().st_size:
                assert CANARY.encode() not in file.read_bytes(), f"the API key stands in {file}"

    def records(self):
        """The records by row; each row at most once, each line as the schema says."""
        lines = self.output.read_bytes().splitlines() if self.output.exists() else []
        records = [json.loads(line) for line in lines]
        for record in records[:: max(1, len(records) // _CHECKED)]:
            _VALIDATOR.validate(record)
        by_row = {record["custom_id"]: record for record in records}
        assert len(by_row) == len(records), "a row has more than one record"
        return by_row

    def whole(self):
        """The records of a batch that is complete: one for each row."""
        records = self.records()
        assert records.keys() == {row["custom_id"] for row in self.rows}
        return records

    def states(self):
        return Counter(record["state"] for record in self.records().values())


def rows(count, prompt="say hello"):
    """Rows that the service's books name by their custom_id."""
    return [
        {"custom_id": f"row-{n}", "body": {"model": "gpt-5", "input": prompt, "metadata": {"custom_id": f"row-{n}"}}}
        for n in range(count)
    ]
