"""Text from outside, made safe to look at: one line, nothing hidden, nothing that a terminal obeys."""

from __future__ import annotations

import unicodedata

# Besides control characters (Cc): format characters, among them the bidi overrides (Cf), line and
# paragraph separators (Zl, Zp), lone surrogates (Cs), unassigned and private ones (Cn, Co).
_HIDDEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Cn", "Co"})


def visible(text: str, limit: int = 500) -> str:
    """`text` on one line of at most `limit` characters, with every character that hides shown as an escape.

    >>> visible("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    cut = text if len(text) <= limit else text[: limit - 1]
    shown = cut if cut.isascii() and cut.isprintable() else "".join(map(_shown, cut))
    return shown if len(text) <= limit else shown + "…"


def _shown(char: str) -> str:
    if unicodedata.category(char) not in _HIDDEN:
        return char
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
