"""Where a wire leads: scheme, host and port, and how they are named to the other side."""

from __future__ import annotations

from typing import NamedTuple

import httpx

from batchrun.core.settings.usage_error import UsageError

_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """One origin."""

    scheme: str
    host: str  # a name in ASCII, or an address without brackets
    port: int
    named: bytes  # the value of the Host header

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.named.decode('ascii')}"


def place_of(origin: str) -> Address:
    """The place that ``https://host[:port]`` names. Raises Misuse for anything else."""
    try:
        url = httpx.URL(origin)
        plain = not url.userinfo and url.raw_path == b"/" and not url.fragment
    except httpx.InvalidURL:
        plain = False
    if not plain or url.scheme not in _PORTS or not url.host:
        raise UsageError(f"expected an origin such as https://host or http://host:port, got {origin!r}")
    return place_at(url.scheme, url.raw_host, url.port)


def place_at(scheme: str, raw_host: bytes, port: int | None) -> Address:
    """The place of the parts of a URL; `raw_host` is ASCII without brackets, no `port` means the usual one."""
    host = raw_host.decode("ascii")
    usual = _PORTS[scheme]
    named = f"[{host}]" if ":" in host else host
    if port is not None and port != usual:
        named = f"{named}:{port}"
    return Address(scheme, host, port or usual, named.encode("ascii"))
