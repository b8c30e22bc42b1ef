"""Texts in lines that fit: whole words, nothing cut."""

import fcntl
import io
import os
import pty
import struct
import termios

import pytest

from batchrun.edge.terminal import columns_of, cut, for_person, in_lines, is_terminal, text_width


def test_words_stay_whole_and_paragraphs_apart():
    assert in_lines("a long-winded text\nand another one", 12, "  ") == "a\n  long-winded\n  text\nand another\n  one"
    assert in_lines("/a/path/that/is/long", 10) == "/a/path/that/is/long", "to be copied"
    assert (
        in_lines("convert it:\n    a command to copy\nthen run it", 12)
        == "convert it:\n    a command to copy\nthen run it"
    )


@pytest.mark.parametrize(
    ("line", "parts"),
    [("", [""]), ("abcd", ["abcd"]), ("abcdefghij", ["abcd", "efgh", "ij"]), ("a世界b", ["a世", "界b"])],
)
def test_a_long_line_is_cut_into_parts_and_loses_nothing(line, parts):
    found = cut(line, 4)
    assert "".join(found) == line
    assert found == parts


@pytest.fixture
def terminal():
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        yield stream
    os.close(ours)


@pytest.mark.parametrize(("said", "columns", "width"), [("40", 40, 40), ("200", 200, 80), ("0", 80, 80), ("wide", 80, 80), ("", 80, 80), ("7", 7, 20)])  # fmt: skip
def test_without_a_terminal_columns_says_how_wide(said, columns, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", said)
    for stream in (io.StringIO(), None):
        assert (columns_of(stream), text_width(stream), is_terminal(stream)) == (columns, width, False)


def test_a_terminal_knows_its_own_width(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    fcntl.ioctl(terminal.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 24, 33, 0, 0))
    assert (columns_of(terminal), text_width(terminal), is_terminal(terminal)) == (33, 33, True)
    assert for_person("an error in a line of more than 33 columns", terminal).count("\n") == 1


def test_in_a_log_a_message_is_one_line():
    assert for_person("x " * 100, io.StringIO()) == "x " * 100


def test_a_closed_stream_is_no_terminal():
    stream = io.StringIO()
    stream.close()
    assert not is_terminal(stream)
    assert text_width(stream) > 0
