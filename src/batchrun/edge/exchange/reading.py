"""Headers and body of a response, counted and limited while they are read.

A response that breaks a rule ends its exchange with ``ExchangeError``. The body of an error is cut at its cap
instead: its status already says what counts.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from batchrun.core.responses.http import Cause
from batchrun.edge.exchange import Caps, ExchangeError

# These describe the connection or the coding of the body, not the decoded response; cookies are dropped.
_DROPPED = frozenset(
    "connection content-encoding content-length keep-alive proxy-authenticate proxy-connection set-cookie "
    "set-cookie2 te trailer transfer-encoding upgrade".split()
)
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class ResponseHead(NamedTuple):
    """The headers of a response by lower-case name, repeated ones joined; and how its body is coded and framed."""

    headers: dict[str, str]
    coding: str  # content-encoding, "" for none
    is_delimited: bool  # by a length or in chunks; if not, the end of the connection ends the body


def read_headers(pairs: Sequence[tuple[bytes, bytes]], caps: Caps) -> ResponseHead:
    """The headers of a response without those that only concern its transfer.

    Raises ExchangeError for too many, and for lengths that contradict each other (request smuggling lives there).
    """
    if len(pairs) > caps.headers or sum(map(len, chain.from_iterable(pairs))) > caps.header_bytes:
        raise too_many_headers(caps)
    found: dict[str, str] = {}
    transfer: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = _name(raw_name)
        value = raw_value.decode("latin-1").strip()
        target = transfer if name in _DROPPED else found
        target[name] = f"{target[name]}, {value}" if name in target else value
    length = transfer.get("content-length")
    chunked = transfer.get("transfer-encoding")
    if length is not None and (chunked is not None or not (length.isascii() and length.isdigit())):
        raise ExchangeError(
            Cause.PROTOCOL, f"expected one length of the body, the answer names several or a wrong one: {length}"
        )
    if chunked is not None and chunked.lower() != "chunked":
        raise ExchangeError(Cause.PROTOCOL, f"expected a body in chunks or of one length, it comes as {chunked}")
    return ResponseHead(found, transfer.get("content-encoding", ""), length is not None or chunked is not None)


@lru_cache(maxsize=1_000)  # half the cost of a header is its name
def _name(raw: bytes) -> str:
    return raw.decode("latin-1").lower()


def too_many_headers(caps: Caps) -> ExchangeError:
    most = f"{caps.headers} headers of {caps.header_bytes:,} bytes in all"
    return ExchangeError(Cause.PROTOCOL, f"expected at most {most}, the answer has more")


class Body:
    """Collects a body chunk by chunk, decoded, within the cap."""

    __slots__ = ("_cap", "_content", "_inflate", "_is_error", "_raw_size")

    def __init__(self, status: int, coding: str, caps: Caps) -> None:
        self._is_error = status >= 300
        self._cap = caps.error_body if self._is_error else caps.body
        self._content = bytearray()
        self._raw_size = 0
        self._inflate = None  # gzip or deflate, sent although it was not asked for
        if not coding or coding.lower() == "identity":
            return
        if coding.lower() in _WINDOW_BITS:
            self._inflate = zlib.decompressobj(_WINDOW_BITS[coding.lower()])
        else:
            raise ExchangeError(Cause.PROTOCOL, f"asked for an answer without compression, it came as {coding}")

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self._content)

    def take(self, chunk: bytes) -> bool:
        """Add `chunk`; True when no more is wanted. Raises ExchangeError beyond the cap."""
        self._raw_size += len(chunk)  # an endless stream that decodes to nothing would never reach the cap otherwise
        limit = self._cap - len(self._content)
        if self._inflate is not None:
            try:
                # What does not fit is not decoded: the limit is one more than allowed, so the cap has been passed then.
                chunk = self._inflate.decompress(chunk, limit + 1)
            except zlib.error as error:
                raise ExchangeError(Cause.PROTOCOL, f"the compressed body is damaged: {error}") from None
        self._content += chunk[: limit + 1]
        if len(self._content) <= self._cap and self._raw_size <= self._cap:
            return False
        if self._is_error:
            del self._content[self._cap :]
            return True
        raise ExchangeError(
            Cause.TOO_LARGE, f"expected an answer of at most {self._cap:,} bytes; raise --max-body to fetch it"
        )

    def complete(self) -> bytes:
        """The body after its last chunk. Raises ExchangeError where the coding is cut off."""
        if self._inflate is not None and self._raw_size and not self._inflate.eof and not self._is_error:
            raise ExchangeError(Cause.PROTOCOL, "the compressed body is cut off")
        return bytes(self._content)
