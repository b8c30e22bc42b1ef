"""The head of a request as bytes. What could be read as another line, or another request, is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable

from batchrun.core.responses.http import Cause
from batchrun.edge.exchange.reading import Broken

_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TARGET = re.compile(rb"/[!-~\x80-\xff]*")
_VALUE = re.compile(rb"[\t -~\x80-\xff]*")
_OURS = frozenset({b"content-length", b"host", b"transfer-encoding"})
_BODILESS = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"})


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The lines of `headers`, without those that frame the request: they are written with it. Raises Broken."""
    lines = []
    for name, value in headers:
        if _TOKEN.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            shown = name.decode("latin-1")
            raise Broken(Cause.PROTOCOL, f"expected a header of printable characters on one line, got {shown!r}")
        if name.lower() not in _OURS:
            lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)


def written(method: bytes, target: bytes, host: bytes, lines: bytes, size: int) -> bytes:
    """The head of a request with a body of `size` bytes. Raises Broken for what is no method or no path."""
    if _TARGET.fullmatch(target) is None:
        shown = target.decode("latin-1")
        raise Broken(Cause.PROTOCOL, f"expected a path from the root of {host.decode('latin-1')}, got {shown!r}")
    if _TOKEN.fullmatch(method) is None or method == b"CONNECT":
        raise Broken(Cause.PROTOCOL, f"expected the name of an HTTP method, got {method.decode('latin-1')!r}")
    if size or method not in _BODILESS:
        return b"%b %b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n\r\n" % (method, target, host, lines, size)
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (method, target, host, lines)
