"""Job ids: which of them may be used."""

from __future__ import annotations

import re

_SAFE_ID = re.compile(r"[A-Za-z0-9_.:~=-]{1,1024}", re.ASCII)


def is_safe_id(value: object) -> bool:
    """Whether a job id may become a path segment and a file name; every id is checked by this rule."""
    return isinstance(value, str) and value not in (".", "..") and _SAFE_ID.fullmatch(value) is not None
