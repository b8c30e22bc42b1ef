"""How llhttp's calls become an answer: the half of a connection that knows HTTP and no socket.

What a call raises stops llhttp; why it was stopped is kept in `_fault`, and nothing of llhttp's passes on.
"""

from __future__ import annotations

import httptools

from batchrun.core.responses.http import Cause
from batchrun.edge.exchange import Caps
from batchrun.edge.exchange.reading import Broken, read_headers, too_many_headers
from batchrun.edge.transport.exchange import Exchange


class Enough(Exception):
    """Stops llhttp: the rest of what was read is of no interest."""


class Answering:
    """Reads one answer after the other for the exchange that is on."""

    __slots__ = (
        "_barren", "_caps", "_exchange", "_fault", "_first", "_headed", "_interim", "_keep", "_measured", "_moved", "_pairs",
        "_parser", "_whole",
    )  # fmt: skip

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._reset()

    def _reset(self) -> None:
        """Ready for the next answer."""
        self._pairs: list[tuple[bytes, bytes]] = []
        self._barren = 0  # bytes since the last piece of a body: of headers, of chunks' lengths, of trailers
        self._first = True  # nothing of the answer was read
        self._headed = self._measured = self._interim = False
        self._whole = self._keep = False
        self._fault: Broken | None = None

    def _read(self, data: memoryview) -> Broken | None:
        """Take `data`, whatever it is. `_whole` says whether the answer is complete; else a fault ends it."""
        self._moved = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._whole:
                return self._fault or self._unreadable(data, error)
            self._keep = False  # there is more than the answer
        self._first = False
        self._barren = 0 if self._moved else self._barren + len(data)
        if self._barren > 2 * self._caps.header_bytes and not self._whole:
            return too_many_headers(self._caps)
        return None

    # llhttp; what is raised here stops it

    def on_message_begin(self) -> None:
        if self._whole:
            raise Enough

    def on_header(self, name: bytes, value: bytes) -> None:
        self._pairs.append((name, value))  # trailers too, which nobody reads; `feed` bounds both

    def on_headers_complete(self) -> None:
        exchange, status = self._exchange, self._parser.get_status_code()
        assert exchange is not None
        if status < 200:
            if status == 101:
                raise self._stop(Broken(Cause.PROTOCOL, "it turned to another protocol, which nobody asked for"))
            self._interim = True
            return
        try:
            head = read_headers(self._pairs, self._caps)
            exchange.headed(status, head, self._pairs)
        except Broken as fault:
            raise self._stop(fault) from None
        self._headed = True
        self._measured = head.measured
        if exchange.headless:
            self._keep = self._parser.should_keep_alive()
            self._whole = True

    def on_body(self, piece: bytes) -> None:
        self._moved = True
        exchange = self._exchange
        if self._whole or exchange is None:
            raise Enough
        try:
            if exchange.took(piece):
                self._whole = True
                raise Enough
        except Broken as fault:
            raise self._stop(fault) from None

    def on_message_complete(self) -> None:
        if self._interim:
            self._reset()
        elif not self._whole:
            self._whole = True
            self._keep = self._parser.should_keep_alive()

    def _stop(self, fault: Broken) -> Enough:
        self._fault = fault.with_traceback(None)  # its frames hold what was read so far
        return Enough()

    def _unreadable(self, data: memoryview, error: Exception) -> Broken:
        """An answer that is not HTTP; quoted only where the whole first line is at hand: half a secret has no form."""
        said = str(error).lower() or "not to be read"
        line, end, _ = bytes(data).partition(b"\n")
        quoted = f": {line.decode('latin-1').rstrip()}" if self._first and end and not self._headed else ""
        return Broken(Cause.PROTOCOL, f"the answer is no HTTP/1.1, {said}{quoted}")
