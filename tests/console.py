"""Screens in the documentation: each command is typed, and what it prints is held against what the page shows.

In a ```console block a line `$ command` is typed in a folder that holds `samples/`, `rows.jsonl` and `covers.jsonl`, where stderr is no terminal and
80 columns wide; standard output and standard error are one. A service that completes every job stands at
OPENAI_BASE_URL, so that commands without --demo run as they are printed. In what a page shows

- a line `…` stands for any number of lines;
- a line `^C` is Ctrl-C, pressed once some records are written;
- numbers, ids and line breaks may differ, words may not.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HOME = "/home/me"
"""The folder, as pages show it."""
SERVICE = "openai at https://api.openai.com/v1"
"""The service, as pages show it."""
ENDED_WELL = (0, 1, 3, 128 + signal.SIGINT)
ROWS = [{"custom_id": f"row-{n}", "model": "gpt-5-mini", "prompt": f"Name city {n}"} for n in range(1, 6)]
COVER = {
    "custom_id": "cover",
    "url": "/v1/images/generations",
    "body": {"model": "gpt-image-1", "prompt": "A lighthouse"},
}
SOME_RECORDS = 3
LONGEST = 240.0

_NUMBER = re.compile(r"\d[\d.,:]*\d|\d")
_TIME = re.compile(r"#( (ms|s|min|h))?( # (s|min))?(?= |$|[,;.)])")
_ID = re.compile(r"\b(resp_|rec_|req_)\w+…?")


def is_missing(command):
    """Whether the command needs a tool that is not installed here: what it prints is then not compared."""
    return command.startswith("jq ") and shutil.which("jq") is None


def commands_in(block):
    """Each command of a screen, with what it is to print."""
    found = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return [(command, "\n".join(shown).rstrip()) for command, shown in found]


def same(shown, actual):
    """Whether the page shows what was printed."""
    wanted = ".*".join(re.escape(_normal(part)) for part in re.split(r"^…$", shown, flags=re.MULTILINE))
    return re.fullmatch(wanted, _normal(actual), re.DOTALL) is not None


def _shortened(shown, actual):
    """What was printed, cut as the page cuts it: between its first and its last lines, or after `^C` and a line."""
    if "…" not in shown.splitlines():
        return actual
    first, _, last = (part.strip("\n").splitlines() for part in (*shown.partition("\n…\n"),))
    lines = actual.splitlines()
    head = lines.index("^C") + len(first) - first.index("^C") if "^C" in first else len(first)
    return "\n".join([*lines[:head], "…", *([""] if last else []), *lines[len(lines) - len(last) :]])


def _normal(text):
    text = " ".join(_NUMBER.sub("#", _ID.sub("ID", text)).split())
    return re.sub(r" ?(ID|…) ?", r"\1", _TIME.sub("#", text))


class Shell:
    """A folder in which commands are typed."""

    def __init__(self, folder: Path, samples: Path, url: str) -> None:
        self.folder = folder
        tools = folder.parent / "bin"
        tools.mkdir()
        (tools / "batchrun").write_text(f'#!/bin/sh\nexec {sys.executable} -W error -m batchrun "$@"\n')
        (tools / "batchrun").chmod(0o755)
        shutil.copytree(samples, folder / "samples", ignore=shutil.ignore_patterns("__pycache__", "pictures"))
        (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
        (folder / "covers.jsonl").write_text(f"{json.dumps(COVER)}\n")
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OPENAI_", "AZURE_", "BATCHRUN_", "COV"))
        }
        self.environment = {
            **clean,
            "PATH": f"{tools}:{clean.get('PATH', '')}",
            "PYTHONPATH": str(samples.parent / "src"),
            "COLUMNS": "80",
            "OPENAI_BASE_URL": url,
            "OPENAI_API_KEY": "sk-test",
        }

    def type(self, command, *, interrupted=False):
        """What the command prints, and its exit code."""
        log = self.folder.parent / "printed"
        with log.open("wb") as printed:
            process = subprocess.Popen(
                ["sh", "-c", f"exec {command}" if interrupted else command],
                cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT,
            )  # fmt: skip
            before = self._interrupt(process, command, log) if interrupted else None
            code = process.wait(LONGEST)
        text = log.read_text()
        if before is not None:
            text = f"{text[:before]}^C\n{text[before:]}"
        for actual, shown in (
            (str(self.folder.resolve()), HOME),
            (str(self.folder), HOME),
            (f"compatible at {self.environment['OPENAI_BASE_URL']}", SERVICE),
        ):
            text = text.replace(actual, shown)
        return text.rstrip(), code

    def _interrupt(self, process, command, log):
        words = command.split()
        output = self.folder / words[words.index("-o") + 1]
        end = time.monotonic() + LONGEST
        earlier = output.read_bytes().count(b"\n") if output.exists() else 0
        while not output.exists() or output.read_bytes().count(b"\n") < earlier + SOME_RECORDS:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end
            time.sleep(0.02)
        before = len(log.read_text())
        process.send_signal(signal.SIGINT)
        return before

    def play(self, block):
        """The screen as it is now: commands, and what they print."""
        shown = []
        for command, wanted in commands_in(block):
            actual, code = (
                (wanted, 0) if is_missing(command) else self.type(command, interrupted="^C" in wanted.splitlines())
            )
            assert code in ENDED_WELL, f"{command} ended with {code}:\n{actual}"
            text = wanted if same(wanted, actual) else _shortened(wanted, actual)
            gap = [""] if shown and text and len(shown) > 1 else []
            shown += [*gap, f"$ {command}", *([text] if text else [])]
        return "\n".join(shown)
