"""Text from outside: made safe to show (one line, nothing hidden, nothing that a terminal obeys), or safe in a path."""

from __future__ import annotations

import re
import unicodedata

# Besides control characters (Cc): format characters, among them the bidi overrides (Cf), line and
# paragraph separators (Zl, Zp), lone surrogates (Cs), unassigned and private ones (Cn, Co).
_HIDDEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Cn", "Co"})
_MAX_ID = 1_024
_SAFE_ID = re.compile(r"[A-Za-z0-9_.:~=-]{1,1024}", re.ASCII)


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


def is_safe_id(value: object) -> bool:
    """Whether a job id may become a path segment and a file name; checked wherever one is read."""
    if not isinstance(value, str):
        return False
    if len(value) <= _MAX_ID and value.isascii() and value.isidentifier():  # a sixth of the expression's time
        return True
    return value not in (".", "..") and _SAFE_ID.fullmatch(value) is not None
