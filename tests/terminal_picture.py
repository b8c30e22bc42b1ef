"""The picture in the README: a real terminal of 80 columns in which a run is interrupted and resumed, as SVG.

    python -m tests.terminal_picture

types the commands into tmux and draws what the screen then shows. Needs tmux.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "samples" / "pictures" / "run.svg"
COMMAND = "batchrun rows.jsonl -o out.jsonl --demo --concurrency 100"
COLUMNS, LINES = 80, 40
ROWS = 600
LONGEST = 120.0

CHAR, LINE, SIZE, EDGE = 8.4, 19, 14, 16
PAPER, INK, PROMPT, BAR, KEY = "#0f172a", "#e2e8f0", "#7dd3fc", "#86efac", "#fca5a5"


def screen() -> list[str]:
    """The lines of the terminal, once the second run is more than half done."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "batchrun").write_text(
            f'#!/bin/sh\nPYTHONPATH={ROOT / "src"} exec {sys.executable} -m batchrun "$@"\n'
        )
        (folder / "batchrun").chmod(0o755)
        rows = (
            {"custom_id": f"row-{n}", "model": "gpt-5-mini", "input": f"Name a city, but not {n}"} for n in range(ROWS)
        )
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        terminal = _Terminal(folder)
        try:
            terminal.wait(lambda lines: lines[-1] == "$")
            terminal.keys(COMMAND, "Enter")
            terminal.wait(lambda lines: any("| " in line and _done(line) >= 0.25 for line in lines))
            terminal.keys("C-c")
            terminal.wait(lambda lines: lines[-1] == "$")
            terminal.keys(COMMAND, "Enter")
            terminal.wait(lambda lines: "| " in lines[-1] and _done(lines[-1]) >= 0.6)
            return [line.replace(str(folder.resolve()), "/home/me") for line in terminal.lines()]
        finally:
            terminal.close()


def _done(line: str) -> float:
    share = line.partition("%")[0].rpartition(" ")[2]
    return int(share) / 100 if share.isdigit() else 0.0


class _Terminal:
    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "tmux")
        shell = f"cd {folder} && clear && exec env -u OPENAI_BASE_URL PATH={folder}:$PATH PS1='$ ' sh"
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(COLUMNS), "-y", str(LINES), shell)

    def _tmux(self, *arguments: str) -> str:
        return subprocess.run(
            ["tmux", "-S", self._socket, *arguments], check=True, capture_output=True, text=True
        ).stdout

    def keys(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def lines(self) -> list[str]:
        return self._tmux("capture-pane", "-p").rstrip().splitlines() or [""]

    def wait(self, condition: Callable[[list[str]], bool]) -> None:
        end = time.monotonic() + LONGEST
        while not condition(self.lines()):
            assert time.monotonic() < end, "\n".join(self.lines())
            time.sleep(0.05)

    def close(self) -> None:
        self._tmux("kill-server")


def svg(lines: list[str]) -> str:
    """The lines as a picture; characters keep their columns in whatever font is there."""
    width, height = round(COLUMNS * CHAR + 2 * EDGE), len(lines) * LINE + 2 * EDGE
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
            f"<style>text {{ font: {SIZE}px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace }}</style>",
            f"<title>{escape(COMMAND)}: interrupted and resumed</title>",
            f'<rect width="{width}" height="{height}" rx="8" fill="{PAPER}"/>',
            *_drawn(lines),
            "</svg>",
            "",
        ]
    )


def _drawn(lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        text = line.rstrip()
        if text:
            colour = (
                PROMPT
                if text.startswith("$ ")
                else BAR
                if "| " in text and "%" in text
                else KEY
                if "^C" in text
                else INK
            )
            yield (
                f'<text x="{EDGE}" y="{EDGE + number * LINE + SIZE}" fill="{colour}" xml:space="preserve" '
                f'textLength="{len(text) * CHAR:.1f}" lengthAdjust="spacingAndGlyphs">{escape(text)}</text>'
            )


if __name__ == "__main__":
    if shutil.which("tmux") is None:
        sys.exit("needs tmux")
    PICTURE.write_text(svg(screen()), encoding="utf-8")
    print(PICTURE)
