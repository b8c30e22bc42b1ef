"""What a user sets of a request's target: the base URL, and headers. Checked before anything is sent.

An API key goes to this address, so it must be what it seems: https (or this machine), no user info, nothing
that two parsers could read in two ways. Declined: a general URL parser; it accepts what a base URL never needs.
No header may change where a request goes or whose key it carries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batchrun.core.settings.settings import UsageError
from batchrun.core.text.readable import Option

_BASE = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*\.?|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[a-z0-9._~!$&'()*+,;=:-]+)*)/?",
    re.IGNORECASE | re.ASCII,
)
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}", re.ASCII)
_DEFAULT_PORT = {"http": "80", "https": "443"}

_LONGEST_HOST = 24  # characters, of one that is shown although it has no scheme: localhost:8000/v1

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)
_VALUE = re.compile(r"[ -~\t]{0,4000}", re.ASCII)
_TRANSPORT = frozenset(
    "accept accept-encoding connection content-encoding content-length content-type cookie expect host "
    "keep-alive proxy-authorization proxy-connection te trailer transfer-encoding upgrade".split()
)
_AUTH = frozenset({"authorization", "api-key"})
_SECRET = re.compile(r"auth|key|token|secret|passw|credential|session", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """An `origin` (``https://host[:port]``, lower-case) and the `path` below which the endpoints are."""

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
    """The base URL in `text`. Raises UsageError with `where` it was set; what could be a password is not shown."""
    if "@" in text:
        raise UsageError("expected a URL without a user or password, got one with", "set the API key instead", where)
    for mark, name in (("?", "query"), ("#", "fragment")):
        if mark in text:
            start = text.partition(mark)[0]  # what follows may be a key
            raise UsageError(
                f"expected a base URL without a {name}, got {start[:200]!r} and more", f"cut it at the {mark!r}", where
            )
    found = _BASE.fullmatch(text)
    if found is None and "://" not in text and len(text) > _LONGEST_HOST:  # an API key, perhaps
        raise UsageError(
            "expected https://HOST[:PORT][/PATH], got a long text without ://", "write it in this form", where
        )
    if found is None:
        whole = f"https://{text}"
        remedy = f"write {whole}, or http:// for this machine" if _BASE.fullmatch(whole) else "write it in this form"
        raise UsageError(f"expected https://HOST[:PORT][/PATH] in plain ASCII, got {text[:200]!r}", remedy, where)
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
    """A name whose last part is a number must be an address, written as a dotted quad."""
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
    # Not api.localhost: a resolver may look it up as it does any name, and find another machine.
    return host in ("localhost", "[::1]")


def checked_headers(headers: Mapping[str, Any], where: str) -> dict[str, str]:
    """`headers` by lower-case name. Raises UsageError, which shows names but never values."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        if _NAME.fullmatch(name) is None:
            raise UsageError(f"{where}: expected the name of a header, got {name[:100]!r}")
        lower = name.lower()
        if lower in _TRANSPORT:
            raise UsageError(f"{where}: the header {name} is batchrun's own; leave it out")
        if lower in _AUTH:
            raise UsageError(f"{where}: the header {name} carries the API key; set the variable of the API key instead")
        if not isinstance(value, str) or _VALUE.fullmatch(value) is None:
            raise UsageError(
                f"{where}: expected a value of printable ASCII characters for the header {name}; change it"
            )
        found[lower] = value.strip()
    return found


def custom_headers(text: str, where: str) -> dict[str, str]:
    """The headers of OPENAI_CUSTOM_HEADERS: one ``Name: value`` per line."""
    headers: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            name, colon, value = line.partition(":")
            if not colon:
                raise UsageError(f"{where}: expected NAME: VALUE on each line, line {number} has no colon")
            headers[name.strip()] = value.strip()
    return checked_headers(headers, where)


def is_secret(name: str) -> bool:
    """Whether a header of this name is likely to hold a secret."""
    return _SECRET.search(name) is not None
