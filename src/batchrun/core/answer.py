"""What passes the seam between the house and the wire: a request, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request to a service's origin; `path` begins with a slash, header names are lower-case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
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


@dataclass(frozen=True, slots=True)
class Failure:
    """An exchange without a complete answer. `sent` is false only if no byte of the request was written."""

    sent: bool
    cause: Cause
    message: str
