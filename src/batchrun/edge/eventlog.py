"""``--log-json FILE``: what happened, for programs; one JSON line per event, appended as it happens.

    {"at": "2026-11-20T08:34:18.120Z", "event": "record", "key": "row-7", "state": "failed", "code": "server_error"}

Events: ``start``, ``record``, ``pause``, ``outage``, ``responds``, ``failing``, ``recovered``, ``halt``, ``stop``, ``end``. The log is not part of the batch: nothing is
read back from it, and where it can no longer be written it ends, reports that once, and the run continues. Text
from outside must already be redacted. A line is printable ASCII, everything else in it is escaped: logs are read in terminals.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any, Literal

import orjson

from batchrun.core.text.readable import utc
from batchrun.edge.append_file import open_append

EventName = Literal["start", "record", "pause", "outage", "responds", "failing", "recovered", "halt", "stop", "end"]


class EventLog:
    """Appends events to the file at `path` (0600). Raises FileRefused where it is not a regular file.

    `failure` is None, or why the log ended; `failed` is called with it, once. `clock` gives seconds since 1970.
    """

    def __init__(
        self, path: str, *, failed: Callable[[str], None] | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self.failure: str | None = None
        self._failed = failed
        self._clock = clock
        self._file = open_append(path)
        self._open = True
        if self._file.size and os.pread(self._file.descriptor, 1, self._file.size - 1) != b"\n":
            self._append(b"\n")  # a torn line of an earlier run stays a line of its own

    def write(self, event: EventName, **facts: Any) -> None:
        """Append an event with its `facts`, all of them JSON."""
        if self._open and self.failure is None:
            self._append(_line({"at": utc(self._clock()), "event": event, **facts}))

    def close(self) -> None:
        """Close the file. May be called again."""
        if self._open:
            self._open = False
            self._file.close()

    def _append(self, line: bytes) -> None:
        rest = line
        try:
            while rest:
                rest = rest[os.write(self._file.descriptor, rest) :]
        except OSError as error:
            self.failure = (
                f"{self.path}: expected to append an event, but: {error.strerror}; the run continues without it"
            )
            if self._failed is not None:
                self._failed(self.failure)


def _line(facts: dict[str, Any]) -> bytes:
    try:
        line = orjson.dumps(facts)
    except TypeError:  # lone surrogates, integers beyond 64 bits
        line = json.dumps(facts, default=str).encode()
    if not line.isascii():
        line = json.dumps(orjson.loads(line), separators=(",", ":")).encode()
    return line.replace(b"\x7f", b"\\u007f") + b"\n"
