"""What every HTTP transport shares: one request goes out, and a response or a failure comes back.

Invariants of every transport:

1. An exchange has one timeout, for all of it: waiting for a connection, TLS, sending, and the last byte of
   the body. It is a duration in seconds, not a point in time: the caller's clock may count suspension, the loop's
   does not.
2. ``exchange`` raises nothing but the caller's own cancellation. Any other error becomes a ``Failure``.
3. ``Failure.sent`` is false only if no byte of the request can have left. In doubt it is true.
4. Nothing is tried twice, no redirect is followed, no cookie is kept, only ``identity`` is asked for.
5. Lengths that the server states are not trusted; bytes are counted, also after decoding.
6. Secrets are redacted from every response and error.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from types import ModuleType
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import httpx

from batchrun.core.responses.http import Answer, Cause, Failure, Request
from batchrun.core.settings.settings import UsageError

MIB = 1024 * 1024
CONNECT_TIMEOUT = 10.0  # seconds
POST_KEEPALIVE = 1.0  # seconds for which a submit may use an idle connection
POLL_KEEPALIVE = 4.0  # seconds; common servers close idle connections after 5
DEFAULT_CONNECTIONS = 100
DEFAULT_BUDGET = 256 * MIB  # of responses in memory


class HttpTransport(Protocol):
    """Carries out exchanges with one origin."""

    async def exchange(self, request: Request, timeout: float) -> Answer | Failure:  # noqa: ASYNC109 - invariant 1
        """The response to `request` within `timeout` seconds, or why there is none."""

    async def drop_idle(self) -> None:
        """Close idle connections, those in use when their exchange ends: after a suspension they are stale."""

    async def aclose(self) -> None:
        """Close every connection; exchanges in flight fail."""


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits of a response: bytes of a body (decoded), of an error's body, and of all headers; number of headers."""

    body: int = 64 * MIB
    error_body: int = MIB
    header_bytes: int = 64 * 1024
    headers: int = 256


def package_of(value: object) -> ModuleType | None:
    """The package whose classes go with `value`: httpx, httpx2 (the same classes), or whatever has their shape."""
    for cls in type(value).__mro__:
        package = sys.modules.get(cls.__module__.partition(".")[0])
        if package is not None and hasattr(package, "AsyncBaseTransport") and hasattr(package, "Request"):
            return package
    return None


# --- Why an exchange failed, and how that is worded ---


class ExchangeError(Exception):
    """Why an exchange cannot be completed; becomes a Failure where the exchange ends."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


def why_no_connection(error: BaseException) -> tuple[Cause, str]:
    """The root cause of a connection error, and its wording."""
    if type(error).__name__ == "ConnectTimeout":
        return Cause.CONNECT, NO_CONNECTION_IN_TIME
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            private = "; SSL_CERT_FILE names a private authority" if cause.verify_code in _UNKNOWN_AUTHORITY else ""
            return Cause.TLS, f"the certificate is refused: {cause.verify_message.rstrip('.')}{private}"
        if isinstance(cause, ssl.SSLError):
            if cause.reason in _NO_TLS:
                return Cause.TLS, "the server does not speak TLS at this port"
            return Cause.TLS, f"no TLS: {(cause.reason or str(cause)).lower().replace('_', ' ')}"
        if isinstance(cause, socket.gaierror):
            return Cause.DNS, _DNS.get(cause.errno or 0, f"the name was not found: {cause.strerror}")
        if isinstance(cause, OSError) and cause.errno:
            return Cause.CONNECT, os.strerror(cause.errno).lower()
        # A group has one per address; the first address is the preferred one.
        cause = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__ or cause.__context__
    if type(error).__name__ == "ProxyError":
        return Cause.CONNECT, f"the proxy refused to connect: {error}"
    return Cause.CONNECT, str(error) or "the other side closed the connection"


NO_CONNECTION_IN_TIME = "it does not respond in time"
_UNKNOWN_AUTHORITY = frozenset({18, 19, 20, 21})  # of OpenSSL: self-signed, and issuers that are not known
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
_DNS = {
    getattr(socket, "EAI_NODATA", socket.EAI_NONAME): "the name has no address",
    socket.EAI_NONAME: "the name does not exist",
    socket.EAI_AGAIN: "the name cannot be resolved: no name server responds",
}


def host_and_port(url: str) -> str:
    """``api.example.com:443`` of a URL of http or https, without its user info."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{f'[{host}]' if ':' in host else host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def failure_text(origin: str, cause: Cause, why: str, *, sent: bool, proxy: str | None = None) -> str:
    """What a person is told of an exchange with `origin` that failed, over the `proxy` at this URL, if there is one."""
    if sent or cause not in _NOT_CONNECTED:
        return f"{origin}: {why}"
    where = host_and_port(origin)
    if proxy is not None:
        by = f"the proxy {host_and_port(proxy)}"
        at_proxy = why.startswith("the proxy ") or cause is Cause.TLS
        where = f"{where} through {by}" if at_proxy else by
    return f"no connection to {where}: {why}"


_NOT_CONNECTED = frozenset({Cause.CONNECT, Cause.DNS, Cause.TLS})


# --- Headers and body of a response, counted and limited while they are read ---
#
# A response that breaks a rule ends its exchange with ``ExchangeError``. The body of an error is cut at its cap
# instead: its status already says what counts.


# These describe the connection or the coding of the body, not the decoded response; cookies are dropped.
_DROPPED = frozenset(
    "connection content-encoding content-length keep-alive proxy-authenticate proxy-connection set-cookie "
    "set-cookie2 te trailer transfer-encoding upgrade".split()
)
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class ResponseHead(NamedTuple):
    """The headers of a response by lower-case name, repeated ones joined; and how its body is coded and framed."""

    headers: dict[str, str]
    coding: str  # content-encoding, "" for none
    is_delimited: bool  # by a length or in chunks; if not, the end of the connection ends the body


def read_headers(pairs: Sequence[tuple[bytes, bytes]], caps: Caps) -> ResponseHead:
    """The headers of a response without those that only concern its transfer.

    Raises ExchangeError for too many, and for lengths that contradict each other (request smuggling lives there).
    """
    if len(pairs) > caps.headers or sum(map(len, chain.from_iterable(pairs))) > caps.header_bytes:
        raise too_many_headers(caps)
    found: dict[str, str] = {}
    transfer: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = _name(raw_name)
        value = raw_value.decode("latin-1").strip()
        target = transfer if name in _DROPPED else found
        target[name] = f"{target[name]}, {value}" if name in target else value
    length = transfer.get("content-length")
    chunked = transfer.get("transfer-encoding")
    if length is not None and (chunked is not None or not (length.isascii() and length.isdigit())):
        raise ExchangeError(
            Cause.PROTOCOL, f"expected one length of the body, the response gives several or a wrong one: {length}"
        )
    if chunked is not None and chunked.lower() != "chunked":
        raise ExchangeError(Cause.PROTOCOL, f"expected a body in chunks or of one length, got {chunked}")
    return ResponseHead(found, transfer.get("content-encoding", ""), length is not None or chunked is not None)


@lru_cache(maxsize=1_000)  # half the cost of a header is its name
def _name(raw: bytes) -> str:
    return raw.decode("latin-1").lower()


def too_many_headers(caps: Caps) -> ExchangeError:
    most = f"{caps.headers} headers of {caps.header_bytes:,} bytes in all"
    return ExchangeError(Cause.PROTOCOL, f"expected at most {most}, the response has more")


class Body:
    """Collects a body chunk by chunk, decoded, within the cap."""

    __slots__ = ("_cap", "_content", "_inflate", "_is_error", "_raw_size")

    def __init__(self, status: int, coding: str, caps: Caps) -> None:
        self._is_error = status >= 300
        self._cap = caps.error_body if self._is_error else caps.body
        self._content = bytearray()
        self._raw_size = 0
        self._inflate = None  # gzip or deflate, sent although it was not asked for
        if not coding or coding.lower() == "identity":
            return
        if coding.lower() in _WINDOW_BITS:
            self._inflate = zlib.decompressobj(_WINDOW_BITS[coding.lower()])
        else:
            raise ExchangeError(Cause.PROTOCOL, f"expected a response without compression, got {coding}")

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self._content)

    def take(self, chunk: bytes) -> bool:
        """Add `chunk`; True when no more is wanted. Raises ExchangeError beyond the cap."""
        self._raw_size += len(chunk)  # an endless stream that decodes to nothing would never reach the cap otherwise
        limit = self._cap - len(self._content)
        if self._inflate is not None:
            try:
                # What does not fit is not decoded: the limit is one more than allowed, so the cap has been passed then.
                chunk = self._inflate.decompress(chunk, limit + 1)
            except zlib.error as error:
                raise ExchangeError(Cause.PROTOCOL, f"the compressed body is damaged: {error}") from None
        self._content += chunk[: limit + 1]
        if len(self._content) <= self._cap and self._raw_size <= self._cap:
            return False
        if self._is_error:
            del self._content[self._cap :]
            return True
        raise ExchangeError(
            Cause.TOO_LARGE, f"expected a response of at most {self._cap:,} bytes; raise --max-body to fetch it"
        )

    def complete(self) -> bytes:
        """The body after its last chunk. Raises ExchangeError where the coding is cut off."""
        if self._inflate is not None and self._raw_size and not self._inflate.eof and not self._is_error:
            raise ExchangeError(Cause.PROTOCOL, "the compressed body is cut off")
        return bytes(self._content)


# --- How many bytes of responses may be in memory at once, over all exchanges of a transport ---
#
# A reader that would go beyond the budget waits until others have ended; its socket is not read, so the
# server waits too. The oldest reader waits for no other, so that one always progresses;
# it waits while responses that were handed over and are not on the disk yet fill the budget, since those drain anyway.
# The response to a POST never waits: it may hold a result that is paid for and cannot be fetched again.
#
# A coroutine awaits (``add_chunk``); a protocol, which cannot await, is called back (``hold``).


class Budget:
    """Counts the bytes of the responses being read, and holds readers back beyond `limit` of them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self.handed_over = 0
        self._shares: dict[BudgetShare, None] = {}  # in the order in which they began
        self._held: dict[BudgetShare, Callable[[], None]] = {}

    def begin(self, *, can_wait: bool) -> BudgetShare:
        """A new response; one that `can_wait` may be held back."""
        share = BudgetShare(self, can_wait)
        self._shares[share] = None
        return share

    def add(self, share: BudgetShare, size: int) -> bool:
        """Count `size` more bytes of `share`; whether the next ones have to wait."""
        share.size += size
        self.taken += size
        return self._must_wait(share)

    def hold(self, share: BudgetShare, resume: Callable[[], None]) -> None:
        """Call `resume` once the next bytes of `share` may be read."""
        self._held[share] = resume

    def set_handed_over(self, size: int) -> None:
        """Set how many bytes of responses were handed over and are still in memory, waiting for the disk."""
        is_less, self.handed_over = size < self.handed_over, size
        if is_less:
            self._resume_held()

    def end(self, share: BudgetShare) -> None:
        """The response is handed over, or given up."""
        self._held.pop(share, None)
        if self._shares.pop(share, share) is not None:
            return
        self.taken -= share.size
        self._resume_held()

    def _resume_held(self) -> None:
        for held in tuple(self._held):
            if held in self._held and not self._must_wait(held):
                self._held.pop(held)()

    def _must_wait(self, share: BudgetShare) -> bool:
        if not share.can_wait or self.taken + self.handed_over <= self.limit:
            return False
        return self.handed_over > self.limit or next(iter(self._shares)) is not share


@dataclass(slots=True, eq=False)
class BudgetShare:
    """One response that is being read."""

    _budget: Budget
    can_wait: bool
    size: int = 0

    async def add_chunk(self, chunk: bytes) -> None:
        """Count `chunk`; returns once the next one may be read."""
        if self._budget.add(self, len(chunk)):
            may_continue = asyncio.Event()
            self._budget.hold(self, may_continue.set)
            await may_continue.wait()

    def end(self) -> None:
        self._budget.end(self)


# What a machine's environment may say about a connection: a proxy for https, a private certificate authority.
# Nothing else is taken from it: no netrc, no proxy for http, no way to switch verification off.


def tls_context(environment: Mapping[str, str]) -> ssl.SSLContext:
    """A context that trusts the public certificate authorities and those of SSL_CERT_FILE."""
    context = httpx.create_ssl_context(trust_env=False)
    private = environment.get("SSL_CERT_FILE")
    if private:
        try:
            context.load_verify_locations(cafile=private)
        except (OSError, ssl.SSLError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"SSL_CERT_FILE={private}: expected a readable file of certificates in PEM form, got: {reason}"
            ) from None
    return context


def proxy_for(origin: str, environment: Mapping[str, str]) -> str | None:
    """The URL of the proxy to `origin`; only https origins have one (HTTPS_PROXY, NO_PROXY)."""
    target = urlsplit(origin)
    host = (target.hostname or "").rstrip(".")
    proxy = environment.get("https_proxy") or environment.get("HTTPS_PROXY")
    if target.scheme != "https" or not proxy or _is_loopback(host):
        return None
    exempt = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if any(_exempts(entry.strip().lower(), host, target.port or 443) for entry in exempt.split(",")):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        usable = None
    if not usable:
        raise UsageError("HTTPS_PROXY: expected http://HOST:PORT or https://HOST:PORT; set it so, or unset it")
    return proxy


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback)


def _exempts(entry: str, host: str, port: int) -> bool:
    """Whether one entry of NO_PROXY names `host`: `*`, a domain and all below it, an address, a network."""
    if entry == "*":
        return True
    if (address := _address(host)) is not None:
        try:
            return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            return False
    name, _, named_port = entry.partition(":")
    if named_port and named_port != str(port):
        return False
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
