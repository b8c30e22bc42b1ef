"""What is taken of an answer, and where it stops: headers and body, counted as they come.

An answer that breaks a rule ends its exchange with ``Broken``. The body of an error is different: its status
has already said what counts, so it is cut at its cap instead.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from batchrun.core.responses.http import Cause
from batchrun.edge.exchange import Caps
from batchrun.edge.exchange.failures import ExchangeError

# What describes the connection or the coding of the body does not describe the decoded answer; cookies are
# never kept, so they never pass.
_DROPPED = frozenset(
    "connection content-encoding content-length keep-alive proxy-authenticate proxy-connection set-cookie "
    "set-cookie2 te trailer transfer-encoding upgrade".split()
)
_WINDOW = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class ResponseHead(NamedTuple):
    """What the headers of an answer say: by lower-case name, repeated ones joined; and of its body."""

    headers: dict[str, str]
    coding: str  # of the content, "" for none
    is_delimited: bool  # by a length or in chunks; if not, the body goes on to the end of the connection


def read_headers(pairs: Sequence[tuple[bytes, bytes]], caps: Caps) -> ResponseHead:
    """The headers of an answer without those that only concern its transfer.

    Raises Broken for too many, and for lengths that contradict each other (request smuggling lives there).
    """
    if len(pairs) > caps.headers or sum(map(len, chain.from_iterable(pairs))) > caps.header_bytes:
        raise too_many_headers(caps)
    found: dict[str, str] = {}
    transfer: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = _names.get(raw_name) or _name(raw_name)
        value = raw_value.decode("latin-1").strip()
        into = transfer if name in _DROPPED else found
        into[name] = f"{into[name]}, {value}" if name in into else value
    length = transfer.get("content-length")
    chunks = transfer.get("transfer-encoding")
    if length is not None and (chunks is not None or not (length.isascii() and length.isdigit())):
        raise ExchangeError(
            Cause.PROTOCOL, f"expected one length of the body, the answer names several or a wrong one: {length}"
        )
    if chunks is not None and chunks.lower() != "chunked":
        raise ExchangeError(Cause.PROTOCOL, f"expected a body in chunks or of one length, it comes as {chunks}")
    return ResponseHead(found, transfer.get("content-encoding", ""), length is not None or chunks is not None)


_names: dict[bytes, str] = {}  # as services write them; half the cost of a header is its name


def _name(raw: bytes) -> str:
    if len(_names) >= 1_000:
        _names.clear()
    name = _names[raw] = raw.decode("latin-1").lower()
    return name


def too_many_headers(caps: Caps) -> ExchangeError:
    most = f"{caps.headers} headers of {caps.header_bytes:,} bytes in all"
    return ExchangeError(Cause.PROTOCOL, f"expected at most {most}, the answer has more")


class Body:
    """Takes a body chunk by chunk, decoded, within the cap."""

    __slots__ = ("_cap", "_decoder", "_is_error", "_raw_size", "_taken")

    def __init__(self, status: int, coding: str, caps: Caps) -> None:
        self._is_error = status >= 300
        self._cap = caps.error_body if self._is_error else caps.body
        self._taken = bytearray()
        self._raw_size = 0
        self._decoder: _Decoder | None = None
        if not coding or coding.lower() == "identity":
            return
        if coding.lower() in _WINDOW:
            self._decoder = _Decoder(coding.lower())
        else:
            raise ExchangeError(Cause.PROTOCOL, f"asked for an answer without compression, it came as {coding}")

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self._taken)

    def take(self, chunk: bytes) -> bool:
        """Add `chunk`; True when no more is wanted. Raises Broken beyond the cap."""
        self._raw_size += len(chunk)  # an endless coding of nothing would never reach the cap otherwise
        room = self._cap - len(self._taken)
        if self._decoder is None:
            self._taken += chunk[: room + 1]
        else:
            self._taken += self._decoder.decode(chunk, room + 1)
        if len(self._taken) <= self._cap and self._raw_size <= self._cap:
            return False
        if self._is_error:
            del self._taken[self._cap :]
            return True
        raise ExchangeError(
            Cause.TOO_LARGE, f"expected an answer of at most {self._cap:,} bytes; raise --max-body to fetch it"
        )

    def whole(self) -> bytes:
        """The body after its last chunk. Raises Broken where the coding is cut off."""
        if self._decoder is not None and self._raw_size and not self._decoder.complete and not self._is_error:
            raise ExchangeError(Cause.PROTOCOL, "the compressed body is cut off")
        return bytes(self._taken)


class _Decoder:
    """gzip or deflate that came although it was not asked for; never more output than there is room."""

    __slots__ = ("_inflate",)

    def __init__(self, coding: str) -> None:
        self._inflate = zlib.decompressobj(_WINDOW[coding])

    @property
    def complete(self) -> bool:
        return self._inflate.eof

    def decode(self, chunk: bytes, room: int) -> bytes:
        try:
            # What does not fit stays unread: room is one more than allowed, so the cap has been passed then.
            return self._inflate.decompress(chunk, room)
        except zlib.error as error:
            raise ExchangeError(Cause.PROTOCOL, f"the compressed body is damaged: {error}") from None
