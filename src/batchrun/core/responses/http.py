"""What passes the seam between the house and the wire: a request, and how it ended.

Named tuples: two are made for every poll, and a frozen dataclass costs three times as much to make.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Request(NamedTuple):
    """One HTTP request to a service's origin; `path` begins with a slash, header names are lower-case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


class Answer(NamedTuple):
    """A complete HTTP answer; header names are lower-case, the body is decoded and within the cap."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Cause(StrEnum):
    """Why an exchange ended without a complete answer."""

    CONNECT = "connect"
    DNS = "dns"
    TLS = "tls"
    DROPPED = "dropped"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    TOO_LARGE = "too_large"


class Failure(NamedTuple):
    """An exchange without a complete answer. `sent` is false only if no byte of the request was written."""

    sent: bool
    cause: Cause
    message: str
