"""Headers that a user may add: checked, and never one that would change where a request goes or who asks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from batchrun.core.settings.usage_error import UsageError

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)
_VALUE = re.compile(r"[ -~\t]{0,4000}", re.ASCII)
_WIRE = frozenset(
    "accept accept-encoding connection content-encoding content-length content-type cookie expect host "
    "keep-alive proxy-authorization proxy-connection te trailer transfer-encoding upgrade".split()
)
_AUTH = frozenset({"authorization", "api-key"})
_SECRET = re.compile(r"auth|key|token|secret|passw|credential|session", re.IGNORECASE)


def checked_headers(headers: Mapping[str, Any], where: str) -> dict[str, str]:
    """`headers` by lower-case name. Raises Misuse, showing names but never values."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        if _NAME.fullmatch(name) is None:
            raise UsageError(f"{where}: expected the name of a header, got {name[:100]!r}")
        lower = name.lower()
        if lower in _WIRE:
            raise UsageError(f"{where}: the header {name} is batchrun's own; leave it out")
        if lower in _AUTH:
            raise UsageError(f"{where}: the header {name} carries the API key; set the variable of the API key instead")
        if not isinstance(value, str) or _VALUE.fullmatch(value) is None:
            raise UsageError(
                f"{where}: expected a value of printable ASCII characters for the header {name}; write it so"
            )
        found[lower] = value.strip()
    return found


def custom_headers(text: str, where: str) -> dict[str, str]:
    """The headers of OPENAI_CUSTOM_HEADERS: one ``Name: value`` a line."""
    return checked_headers(dict(_lines(text, where)), where)


def is_secret(name: str) -> bool:
    """Whether a header of this name is likely to hold a secret."""
    return _SECRET.search(name) is not None


def _lines(text: str, where: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise UsageError(f"{where}: expected NAME: VALUE on each line, line {number} has no colon")
        yield name.strip(), value.strip()
