"""What a machine's environment may say about a connection: a proxy for https, a private certificate authority.

Nothing else is taken from it: no netrc, no proxy for http, no way to switch verification off.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx

from batchrun.core.settings.settings import UsageError


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
