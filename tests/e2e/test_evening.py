"""An evening at a real terminal: start, look from a second pane, cancel three rows, Ctrl-C, look, go on, look.

Two panes of tmux, typed into as a person does; what stood on the screens is printed, to be looked at (pytest -s).
"""

import shlex
import shutil
import subprocess
import sys

import pytest

from tests.e2e.holding import holding
from tests.e2e.stage import ENVIRONMENT, LONGEST, PATIENT, ROOT, Batch, serving, wait_until

pytestmark = [PATIENT, pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")]
COLUMNS, ROWS = 100, 50


class Terminal:
    """A tmux server of its own with two panes, each a shell in the batch's folder."""

    def __init__(self, folder):
        self._socket = str(folder / "tmux")
        command = f"{shlex.quote(sys.executable)} -m batchrun"
        shell = f"cd {shlex.quote(str(folder))}; batchrun() {{ {command} \"$@\"; }}; PS1='$ '; clear"
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(COLUMNS), "-y", str(2 * ROWS + 1), "sh")
        self._tmux("split-window", "-v", "-l", str(ROWS), "sh")
        for pane in (0, 1):
            self.type(pane, shell)
        self.folder = folder

    def _tmux(self, *words):
        environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT / "src"), "TERM": "xterm-256color"}
        command = ["tmux", "-S", self._socket, *words]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=LONGEST
        ).stdout

    def type(self, pane, line):
        self._tmux("send-keys", "-t", f":0.{pane}", "-l", line)
        self._tmux("send-keys", "-t", f":0.{pane}", "Enter")

    def press(self, pane, key):
        self._tmux("send-keys", "-t", f":0.{pane}", key)

    def screen(self, pane):
        return self._tmux("capture-pane", "-p", "-t", f":0.{pane}").rstrip()

    def wait(self, pane, *texts):
        """The pane as soon as it shows `texts`, spaces and line breaks aside."""

        def shows():
            nonlocal screen
            screen = self.screen(pane)
            return all(text in " ".join(screen.split()) for text in texts)

        screen = ""
        wait_until(shows, lambda: f"{texts}:\n{screen}", pause=0.05)
        return screen

    def clear(self, pane):
        self.type(pane, "clear; printf 'is %s\\n' empty")  # not what is typed, but what is printed then
        self.wait(pane, "is empty")

    def close(self):
        self._tmux("kill-server")


@pytest.fixture
def terminal(tmp_path):
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


def test_an_evening(terminal, tmp_path):
    """No job ends before the person went on to `resume`, so that every screen stays until it was looked at."""
    rows = [{"custom_id": f"row-{n:03}", "body": {"model": "gpt-5", "input": f"say {n}"}} for n in range(90)]
    batch = Batch(tmp_path, rows)
    shown = []

    def look(title, pane, *texts):
        shown.append((title, terminal.wait(pane, *texts)))

    with serving(tmp_path, "[times]\nduration = '500ms..2s'\n") as service, holding(service) as proxy:
        proxy.unfinished = True
        terminal.type(0, f"batchrun batch.jsonl -o batch.out --base-url {proxy.url} --concurrency 30")
        terminal.wait(0, "30 in flight")
        terminal.type(1, "batchrun status batch.out --watch")
        look("status --watch beside the run", 1, "running, process", "of 90 rows done", "in flight 30")
        look("the run", 0, "rows,", "in flight")
        terminal.press(1, "C-c")
        terminal.clear(1)
        terminal.type(1, "batchrun cancel batch.out --id row-031 --id row-085 --id row-089")
        look("cancel", 1, "cancelled", "$ ")
        terminal.press(0, "C-c")
        look(
            "Ctrl-C",
            0,
            "stopped by Ctrl-C",
            "next:",
            f"batchrun cancel batch.out --base-url {proxy.url} --all",
            "resumes this batch",
        )
        terminal.clear(1)
        terminal.type(1, "batchrun status batch.out")
        look(
            "status after Ctrl-C",
            1,
            "stopped by Ctrl-C at",
            "next:",
            "batchrun resume batch.out",
        )
        proxy.let_go()
        terminal.clear(0)
        terminal.type(0, "batchrun resume batch.out")
        look("resume", 0, "complete: 90 of 90 rows done", "cancelled", "records:")
    terminal.clear(1)
    terminal.type(1, "batchrun status batch.out")
    look("status at the end", 1, "complete at", "90 of 90 rows done", "cancelled")
    for title, screen in shown:
        print(f"\n--- {title}\n{screen}")
    records = batch.whole()
    assert {key for key, record in records.items() if record["state"] == "cancelled"} == {
        "row-031",
        "row-085",
        "row-089",
    }
