import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.text.readable import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("naïve 中文 🎉", "naïve 中文 🎉"),
        ("\x1b]52;c;ZXZpbA==\x07", "\\x1b]52;c;ZXZpbA==\\x07"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\u202ecba", "\\u202ecba"),
        ("\u2028", "\\u2028"),
        ("\x9b31m", "\\x9b31m"),
        ("\ud800", "\\ud800"),
    ],
)
def test_h13_what_hides_is_shown(text, shown):
    assert visible(text) == shown


def test_long_text_is_cut():
    assert visible("x" * 600) == "x" * 499 + "…"


@given(st.text(st.characters(codec=None)), st.integers(1, 100))
def test_nothing_hidden_remains_on_one_line(text, limit):
    shown = visible(text, limit)
    assert all(unicodedata.category(char) not in {"Cc", "Cf", "Zl", "Zp", "Cs"} for char in shown)
    assert len(shown.splitlines()) <= 1
