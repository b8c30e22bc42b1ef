"""Whom a run talks to, and by what: the service and its key, the HTTP transport, as many connections as files may be open."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from batchrun.core.journal.entries import Header
from batchrun.core.settings.settings import Secret, Settings, UsageError
from batchrun.core.text.readable import Option, Text
from batchrun.edge.append_file import BatchFilesError
from batchrun.edge.credentials import KeySource, TokenCommand, read_key_file
from batchrun.edge.exchange import Budget, Caps, HttpTransport, proxy_for
from batchrun.edge.httpx_transport import HttpxTransport
from batchrun.edge.redaction import Redactor
from batchrun.edge.transport import OwnTransport
from batchrun.services.choice import choose, expect_no_key
from batchrun.services.custom import read_profile
from batchrun.services.of_batch import begun_with
from batchrun.services.service import Service

SPARE_DESCRIPTORS = 64
LEAST_DESCRIPTORS = 32
"""A run of one connection has 24 files open at once: stdio, loop, journal, output, input, copy, locks, logs, name lookups."""
_RAISE = "raise it, for example with `ulimit -n 1024`, or ask who runs this machine"
_OPTION = Option("service")


async def service_of(
    settings: Settings,
    environment: Mapping[str, str],
    demo: str | None,
    header: Header | None = None,
    api_key: Secret | KeySource | None = None,
) -> tuple[Service, KeySource | None]:
    """The service that settings and environment name, or the demo service at `demo`; and what renews its key.

    With the `header` of a batch, settings that name none mean the service that it was started with. `api_key` is a key, or
    its source, that the program gives itself, in place of those of the settings.

    Raises Misuse.
    """
    profile: Any = settings.service
    if profile is not None and profile.endswith(".toml"):
        profile = read_profile(_toml(profile), profile)
    if demo is not None:
        if settings.service is not None or settings.base_url is not None:
            named = Option("service") if settings.service is not None else Option("base_url")
            raise UsageError("the demo runs on a service of its own", ("leave out ", named, ", or the demo"))
        return choose({"OPENAI_API_KEY": "sk-demo-needs-no-key"}, service="compatible", base_url=demo), None
    key = read_key_file(settings.key_file) if settings.key_file else None
    renewed: KeySource | None = TokenCommand(settings.token_command) if settings.token_command else None
    if isinstance(api_key, Secret):
        key = api_key
    elif api_key is not None:
        renewed = api_key
    token = None if renewed is None else await renewed.current()
    if header is not None and profile is None and settings.base_url is None:
        service = begun_with(header, environment, key=key, token=token, allow_http=settings.allow_http)
    else:
        service = choose(
            environment,
            service=profile,
            base_url=settings.base_url,
            key=key,
            token=token,
            allow_http=settings.allow_http,
        )
    journaled = {"model": settings.model, "set": "\n".join(settings.set), "artifacts": settings.artifacts}
    expect_no_key(service, {Option(name): text for name, text in journaled.items() if text})
    return service, renewed


def _toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the profile {path}: {error.strerror}", "give a TOML file", _OPTION) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}", "see samples/profile.toml", _OPTION) from error


def transport_to(
    origin: str, settings: Settings, environment: Mapping[str, str], redactor: Redactor, budget: Budget
) -> HttpTransport:
    """The HTTP transport to `origin`. Our own knows no proxies."""
    proxied = proxy_for(origin, environment) is not None
    kind: type[OwnTransport | HttpxTransport] = (
        OwnTransport if settings.transport == "own" and not proxied else HttpxTransport
    )
    return kind(
        origin,
        redactor=redactor,
        connections=settings.connections,
        connect_timeout=settings.connect_timeout,
        caps=Caps(body=settings.max_body),
        budget=budget,
        environment=environment,
    )


def expect_descriptors() -> None:
    """Raise BatchFilesError where this process may open too few files for a run, even one of few connections.

    To be called before there is an event loop, which cannot be made with so few.
    """
    limit, least = _file_limit(), LEAST_DESCRIPTORS
    if limit > 1 << 10:
        return
    with suppress(OSError):
        least += max(0, len(os.listdir("/dev/fd")) - 4)  # noqa: PTH208 - names; 0, 1, 2 and the folder itself are ours
    if limit < least:
        raise BatchFilesError(f"expected to open {least} files at once, found a limit of {limit}", _RAISE)


def within_the_file_limit(settings: Settings) -> Settings:
    """As many connections as files may be open; the soft limit is raised to the hard one first."""
    limit = _file_limit()
    most = max(8, (limit - SPARE_DESCRIPTORS) // 2)  # submits and polls have a pool each
    return replace(settings, connections=min(settings.connections, most), submits=min(settings.submits, most))


def _file_limit() -> int:
    """How many files may be open, once the soft limit is raised to the hard one."""
    import resource  # noqa: PLC0415 - not on every system

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < hard:
        wanted = min(hard, 1 << 16) if hard != resource.RLIM_INFINITY else 1 << 16
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
            soft = max(soft, wanted)
        except (ValueError, OSError):
            pass
    return soft


class KeyRenewal:
    """Renews a token that was refused, once for all who were refused with it; says why where that fails."""

    def __init__(self, command: KeySource, redactor: Redactor, noted: Callable[[Text], None]) -> None:
        self._noted = noted
        self._command = command
        self._redactor = redactor

    async def renewed_service(self, service: Service) -> Service:
        if service.key is None:
            return service
        try:
            key = await self._command.renewed(service.key)
        except UsageError as error:  # the answer that asked for it stands: 401, which halts the run in good order
            self._noted(error.text)
            return service
        if key == service.key:
            return service
        self._redactor.learn(key)
        return service.with_key(key)
