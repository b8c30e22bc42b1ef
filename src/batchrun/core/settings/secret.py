"""An API key that does not show itself.

A `Secret` cannot get into a log, a traceback, a pickle or an f-string: only `reveal()` returns the value, and
only the code that puts it into a header calls it. A key with a line break or a stray character is refused
at once, because later an HTTP library would quote the whole header in its error.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NoReturn, Self

from batchrun.core.settings.usage_error import UsageError
from batchrun.core.text.readable import Option

MAX_LENGTH = 16_384


class Secret:
    """The value of an API key or token; `source` is where it came from and may be shown."""

    __slots__ = ("_value", "source")

    def __init__(self, value: str, source: Option | str) -> None:
        if fault := _fault(value):
            raise UsageError(f"expected an API key of printable ASCII characters, {fault}", "set it again", source)
        self._value = value
        self.source = source

    def reveal(self) -> str:
        return self._value

    def fingerprint(self, salt: bytes) -> str:
        """The same for the same value and `salt`; the value cannot be derived from it."""
        return blake2b(self._value.encode(), key=salt[:64], digest_size=16).hexdigest()

    def __repr__(self) -> str:
        return f"<secret from {self.source}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is never pickled")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


class SecretHeaders(dict[str, str]):
    """The headers of a request, whose repr shows the names only: values may be secret."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<headers {', '.join(self)}>"


def _fault(value: str) -> str | None:
    if not value:
        return "it is empty"
    if len(value) > MAX_LENGTH:
        return f"it has {len(value):,}, more than {MAX_LENGTH:,}"
    for position, char in enumerate(value, 1):
        if not "!" <= char <= "~":
            kind = {"\n": "a line break", "\r": "a line break", " ": "a space"}.get(char, "another character")
            return f"but character {position} of {len(value)} is {kind}"
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return "but it stands in quotes"
    return None
