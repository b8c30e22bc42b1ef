"""Base URLs: where a service lives, and which addresses are refused.

An API key goes to this address, so it must be what it seems: https (or this machine), no user info, nothing
that two parsers could read in two ways. Declined: a general URL parser; it accepts what a base URL never needs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from batchrun.core.settings.usage_error import UsageError
from batchrun.core.text.wording import Option

_BASE = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*\.?|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[a-z0-9._~!$&'()*+,;=:-]+)*)/?",
    re.IGNORECASE | re.ASCII,
)
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}", re.ASCII)
_DEFAULT_PORT = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """An `origin` (``https://host[:port]``, lower-case) and the `path` below which the endpoints stand."""

    origin: str
    path: str = ""
    loopback: bool = False

    def __str__(self) -> str:
        return self.origin + self.path

    @property
    def host(self) -> str:
        """The host's name, without its port."""
        return self.origin.partition("://")[2].partition("/")[0].rsplit(":", 1)[0]


def read_base_url(text: str, where: Option | str, *, allow_http: bool = False) -> BaseUrl:
    """The base URL in `text`. Raises UsageError, naming `where` it stands; what could be a password is not shown."""
    if "@" in text:
        raise UsageError("expected a URL without a user or password, got one with", "set the API key instead", where)
    for mark, name in (("?", "query"), ("#", "fragment")):
        if mark in text:
            raise UsageError(
                f"expected a base URL without a {name}, got {text[:200]!r}", f"cut it at the {mark!r}", where
            )
    found = _BASE.fullmatch(text)
    if found is None:
        raise UsageError(
            f"expected https://HOST[:PORT][/PATH] in plain ASCII, got {text[:200]!r}", "write it so", where
        )
    scheme, host, path = found["scheme"].lower(), found["host"].lower().rstrip("."), found["path"]
    if any(part in (".", "..") for part in path.split("/")):
        raise UsageError(f"expected a path without . and .., got {text[:200]!r}", "write it out", where)
    if not _host_is_plain(host):
        raise UsageError(f"expected a host name or an address, got {host!r}", "write it out", where)
    port = str(int(found["port"])) if found["port"] else _DEFAULT_PORT[scheme]
    if not 0 < int(port) < 65_536:
        raise UsageError(f"expected a port from 1 to 65535, got {port}", "set another", where)
    loopback = _is_loopback(host)
    if scheme == "http" and not loopback and not allow_http:
        raise UsageError(
            f"expected https, got {text[:200]!r}, which sends the API key in the open",
            ("write https://, or pass ", Option("allow_http")),
            where,
        )
    origin = f"{scheme}://{host}" if port == _DEFAULT_PORT[scheme] else f"{scheme}://{host}:{port}"
    return BaseUrl(origin, path, loopback)


def _host_is_plain(host: str) -> bool:
    """No number in disguise: a name whose last part is a number is an address, and then a dotted quad."""
    if host.startswith("["):
        return True
    last = host.rpartition(".")[2]
    if not (last.isdigit() or last.startswith("0x")):
        return True
    return _IPV4.fullmatch(host) is not None and all(
        int(part) < 256 and part == str(int(part)) for part in host.split(".")
    )


def _is_loopback(host: str) -> bool:
    if _IPV4.fullmatch(host):
        return host.startswith("127.")
    return host in ("localhost", "[::1]") or host.endswith(".localhost")
