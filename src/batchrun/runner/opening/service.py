"""Whom a run talks to, and by what: the service and its key, the wire, as many connections as files may be open."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from batchrun.core.settings.settings import Settings, UsageError
from batchrun.core.text.readable import Option, Text
from batchrun.edge.credentials import TokenCommand, read_key_file
from batchrun.edge.exchange import Budget, Caps, HttpTransport, proxy_for
from batchrun.edge.httpx_transport import HttpxTransport
from batchrun.edge.redaction import Redactor
from batchrun.edge.transport import OwnTransport
from batchrun.services.choice import choose, expect_no_key
from batchrun.services.custom import read_profile
from batchrun.services.service import Service

SPARE_DESCRIPTORS = 64
_OPTION = Option("service")


async def service_of(
    settings: Settings, environment: Mapping[str, str], demo: str | None
) -> tuple[Service, TokenCommand | None]:
    """The service that settings and environment name, or the demo service at `demo`; and what renews its key.

    Raises Misuse.
    """
    profile: Any = settings.service
    if profile is not None and profile.endswith(".toml"):
        profile = read_profile(_toml(profile), profile)
    if demo is not None:
        return choose({"OPENAI_API_KEY": "sk-demo-needs-no-key"}, service="compatible", base_url=demo), None
    key = read_key_file(settings.key_file) if settings.key_file else None
    command = TokenCommand(settings.token_command) if settings.token_command else None
    token = None if command is None else await command.current()
    service = choose(
        environment, service=profile, base_url=settings.base_url, key=key, token=token, allow_http=settings.allow_http
    )
    journaled = {"model": settings.model, "set": "\n".join(settings.set), "artifacts": settings.artifacts}
    expect_no_key(service, {Option(name): text for name, text in journaled.items() if text})
    return service, command


def _toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the profile {path}: {error.strerror}", "name a TOML file", _OPTION) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML: {error}", "see samples/profile.toml", _OPTION) from error


def wire_to(
    origin: str, settings: Settings, environment: Mapping[str, str], redactor: Redactor, budget: Budget
) -> HttpTransport:
    """What carries requests to `origin`. Our own wire knows no proxies."""
    proxied = proxy_for(origin, environment) is not None
    kind: type[OwnTransport | HttpxTransport] = (
        OwnTransport if settings.wire == "own" and not proxied else HttpxTransport
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


def within_the_file_limit(settings: Settings) -> Settings:
    """As many connections as files may be open; the soft limit is raised to the hard one first."""
    import resource  # noqa: PLC0415 - not on every system

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < hard:
        wanted = min(hard, 1 << 16) if hard != resource.RLIM_INFINITY else 1 << 16
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
            soft = max(soft, wanted)
        except (ValueError, OSError):
            pass
    most = max(8, (soft - SPARE_DESCRIPTORS) // 2)  # submits and polls have a pool each
    return replace(settings, connections=min(settings.connections, most), submits=min(settings.submits, most))


class KeyRenewal:
    """Renews a token that was refused, once for all who were refused with it; says why where that fails."""

    def __init__(self, command: TokenCommand, redactor: Redactor, noted: Callable[[Text], None]) -> None:
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
