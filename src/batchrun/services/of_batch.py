"""Which service a batch was started with, by the header of its journal, so that later commands need no flags for it.

A journal is a file, and files come from anywhere. A crafted header could name any host, and whoever resumes that batch
would send it the API key. So the header is believed in three cases only:

1. Flags and environment name the same service: nothing new is learned from the header.
2. The service is on this machine, and the batch was started without an API key: one of the environment is left out.
3. The header's fingerprint fits the API key at hand, and the run id fits the address. This machine is no exception:
   on a shared one, a port may be anybody's.

The fingerprint is salted with the run id, which stands in the same header: it cannot be made without the key. It could
be copied, from another journal of the same user; with another address in its header, that journal would send the key
there. So the second half of a run id is a hash of its first half, the service and the address: another address needs
another run id, and for that no fingerprint is known. Run ids of older releases have no such half: their batches need
the flags, as does one without a fingerprint (no API key, or one that a command renews).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import NoReturn

import orjson

from batchrun.core.journal.entries import Header
from batchrun.core.settings.settings import Secret, UsageError
from batchrun.core.text.readable import Option, Part
from batchrun.services.address import read_base_url
from batchrun.services.choice import choose
from batchrun.services.profile import KNOWN
from batchrun.services.service import Service

DEMO = "demo"
_FIRST_HALF = 16
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@%+=,-]+", re.ASCII)


def run_id_for(first_half: str, service: str, origin: str) -> str:
    """A run id, from 16 random characters, that fits no other service and address."""
    bound = orjson.dumps([first_half, service, origin])
    return first_half + blake2b(bound, digest_size=16).hexdigest()


def address_of(service: Service) -> str:
    """The address of a service as headers have it."""
    return f"{service.origin}{service.base.path}"


def flags_of(header: Header) -> tuple[Option, ...]:
    """The flags that name the service of a batch; none for the one that is used without any."""
    of_openai = header.service == "openai" and header.origin == KNOWN["openai"].base_url
    return () if of_openai else explicit_flags(header)


def explicit_flags(header: Header) -> tuple[Option, ...]:
    """The flags that name the service of a batch, whatever the environment names."""
    if header.service == DEMO:
        return (Option("demo"),)
    if header.service not in KNOWN:
        return (Option("service", "FILE.toml"),)
    return Option("service", header.service), Option("base_url", header.origin)


def spelled(options: Iterable[Option]) -> tuple[Part, ...]:
    """Options as part of a message, to be typed."""
    found: list[Part] = []
    for option in options:
        found += [" "] if found else []
        found.append(option if option.value is None else replace(option, value=quoted(option.value)))
    return tuple(found)


def quoted(value: str) -> str:
    """A value as a shell takes it: the path of an address may hold what a shell would obey."""
    return value if _PLAIN.fullmatch(value) else "'" + value.replace("'", "'\"'\"'") + "'"


def is_found(header: Header) -> bool:
    """Whether the API key that the batch was started with is all that `begun_with` needs."""
    if header.service == DEMO or not flags_of(header):
        return True
    if header.service not in KNOWN:
        return False
    return _is_bound(header) if header.key_fingerprint else _is_loopback(header.origin)


def begun_with(
    header: Header,
    environment: Mapping[str, str],
    *,
    key: Secret | None = None,
    token: Secret | None = None,
    allow_http: bool = False,
) -> Service:
    """The service that the batch was started with. Raises UsageError where the header is not to be believed."""
    try:
        by_default = choose(environment, key=key, token=token, allow_http=allow_http)
    except UsageError:
        by_default = None
    if by_default is not None and (by_default.name, address_of(by_default)) == (header.service, header.origin):
        return by_default
    if header.service not in KNOWN:
        _refuse(header, "a service with a profile of its own")
    if _is_loopback(header.origin) and not header.key_fingerprint:
        profile = KNOWN[header.service]
        names = {*profile.key_names, *profile.token_names}
        environment = {name: value for name, value in environment.items() if name not in names}
    service = choose(
        environment, service=header.service, base_url=header.origin, key=key, token=token, allow_http=allow_http
    )
    if service.base.loopback and (service.key is None or not header.key_fingerprint):
        return service
    if not (header.key_fingerprint and _is_bound(header)):
        _refuse(header, "which nothing in its journal ties to your API key")
    if service.key_fingerprint(header.run_id.encode()) != header.key_fingerprint:
        _refuse(header, "and was started with another API key than yours")
    return service


def _is_bound(header: Header) -> bool:
    return header.run_id == run_id_for(header.run_id[:_FIRST_HALF], header.service, header.origin)


def _is_loopback(origin: str) -> bool:
    try:
        return read_base_url(origin, "the journal", allow_http=True).loopback
    except UsageError:
        return False


def _refuse(header: Header, why: str) -> NoReturn:
    found = f"this batch runs on {header.service} at {header.origin}, {why}"
    raise UsageError(found, ("if your API key may go there, add ", *spelled(explicit_flags(header))))
