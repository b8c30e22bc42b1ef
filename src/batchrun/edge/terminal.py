"""How wide a terminal is, and texts in lines that fit it.

A terminal gets lines of whole words, at most `WIDEST` columns; where nobody sits (a pipe, a log) a message stays one
line, so that it can be found with ``grep``.
"""

from __future__ import annotations

import os
import textwrap
import unicodedata
from typing import TextIO

WIDEST = 80
"""No text is laid out wider: longer lines are hard to read."""
_NARROWEST = 20
COPIED = "    "
"""A line that begins so is a command, to be copied whole: it is never laid out in several."""


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person reads `stream` on a terminal."""
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError):  # closed
        return False


def columns_of(stream: TextIO | None) -> int:
    """The columns of the terminal behind `stream`; where there is none, what COLUMNS says, else 80."""
    try:
        if stream is not None and (columns := os.get_terminal_size(stream.fileno()).columns):
            return columns
    except (OSError, ValueError):
        pass
    said = os.environ.get("COLUMNS", "")
    return int(said) if said.isdecimal() and len(said) < 6 and int(said) else WIDEST


def text_width(stream: TextIO | None) -> int:
    """The columns in which a text for `stream` is laid out."""
    return max(_NARROWEST, min(WIDEST, columns_of(stream)))


def in_lines(text: str, width: int, indent: str = "") -> str:
    """`text` in lines of at most `width` columns, those after the first of each paragraph indented; words stay whole."""
    return "\n".join(
        line
        if line.startswith(COPIED)
        else textwrap.fill(line, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
        for line in text.split("\n")
    )


def cut(line: str, width: int) -> list[str]:
    """`line` in parts of at most `width` columns, wherever they end: a long id takes two lines and is not shortened."""
    if line.isascii():
        return [line[start : start + width] for start in range(0, len(line), width)] or [""]
    found, taken = [""], 0
    for character in line:
        cells = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if taken + cells > width:
            found.append("")
            taken = 0
        found[-1] += character
        taken += cells
    return found


def for_person(text: str, stream: TextIO | None) -> str:
    """`text` as it is written to `stream`: in lines that fit where that is a terminal, else as it is."""
    return in_lines(text, text_width(stream), "  ") if is_terminal(stream) else text
