"""An HTTP request and how it ended: what core and the HTTP transport exchange.

Named tuples: every poll creates two, and a frozen dataclass takes three times as long to create.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from batchrun.core.text.json_text import NOT_READ, ParsedJson


class Request(NamedTuple):
    """One HTTP request to a service's origin; `path` begins with a slash, header names are lower-case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


class Answer(NamedTuple):
    """A complete HTTP response; header names are lower-case, the body is decoded and within the cap.

    `reading` is of a body that orjson refuses, where that took too long to be done at once.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    reading: ParsedJson | None = NOT_READ


class Cause(StrEnum):
    """Why an exchange ended without a complete response."""

    CONNECT = "connect"
    DNS = "dns"
    TLS = "tls"
    DROPPED = "dropped"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    TOO_LARGE = "too_large"


class Failure(NamedTuple):
    """An exchange without a complete response. `sent` is false only if no byte of the request was written."""

    sent: bool
    cause: Cause
    message: str


NOTHING_SENT = "; nothing was sent"
"""How the message of a failure ends of which no byte was sent."""
