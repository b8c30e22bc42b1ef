"""Which service a run uses, at which address and with which API key: from flags and environment variables.

Nothing is guessed where a guess could send a key to the wrong address: variables of two services at once are
refused without `--service`.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from batchrun.core.settings.settings import Secret, UsageError
from batchrun.core.text.readable import Option, without_keys
from batchrun.services.address import BaseUrl, checked_headers, custom_headers, read_base_url
from batchrun.services.profile import AZURE, BEARER, COMPATIBLE, KNOWN, OPENAI, PROXYAPI, Auth, Profile
from batchrun.services.service import Service

_OPENAI_NAMES = ("OPENAI_API_KEY", "OPENAI_BASE_URL")
_AZURE_NAMES = ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "AZURE_OPENAI_ENDPOINT")


# An API key of theirs is never one of these; others may want any key at all.
_NEED_A_REAL_KEY = (OPENAI, AZURE, PROXYAPI)
_VARIABLE_OF = {"openai-organization": "OPENAI_ORG_ID", "openai-project": "OPENAI_PROJECT_ID"}


def choose(
    environment: Mapping[str, str],
    *,
    service: str | Profile | None = None,
    base_url: str | None = None,
    key: Secret | None = None,
    token: Secret | None = None,
    allow_http: bool = False,
) -> Service:
    """The service that flags and `environment` name.

    `key` is an API key from a file, `token` a bearer token from `--token-command`; each outranks the
    environment. Empty variables count as unset. Raises UsageError with the variables and flags concerned.
    """
    environment = {name: value for name, value in environment.items() if value}
    profile = service if isinstance(service, Profile) else _named(service, environment)
    base = _base(profile, environment, base_url, allow_http=allow_http)
    if profile is OPENAI and service is None and not f".{base.host}".endswith(".api.openai.com"):
        profile = COMPATIBLE
    headers = _headers(profile, environment)
    secret, auth = _key(profile, environment, key, token)
    if secret is None and profile.key_required and not base.loopback:
        names = " or ".join((*profile.token_names, *profile.key_names))
        raise UsageError(
            f"no API key for {profile.name}: {names} is not set",
            (
                "export it, give ",
                Option("key_file"),
                " or ",
                Option("token_command"),
                ", or simulate with ",
                Option("demo"),
            ),
        )
    chosen = Service(profile, base, secret, headers, auth=auth, key_renews=token is not None)
    account = {variable: headers[name] for name, variable in _VARIABLE_OF.items() if name in headers}
    expect_no_key(chosen, {"the base URL": str(base), **account})
    if secret is not None and secret.is_placeholder and profile in _NEED_A_REAL_KEY and not base.loopback:
        raise UsageError(
            f"expected an API key for {profile.name}, got a placeholder", "set a key of yours", secret.source
        )
    return chosen


def expect_no_key(service: Service, texts: Mapping[Any, str]) -> None:
    """Refuse `texts` that are journaled or shown, by where they were set, if an API key is in one of them."""
    known = [secret.reveal() for secret in service.secrets if secret.is_searched_for]
    for where, text in texts.items():
        if without_keys(text) != text or any(value in text for value in known):
            raise UsageError("expected no API key, got one", "the API key goes into a variable of its own", where)


def _named(service: str | None, environment: Mapping[str, str]) -> Profile:
    if service is not None:
        if service in KNOWN:
            return KNOWN[service]
        near = get_close_matches(service, KNOWN, 1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(KNOWN)}, or a file FILE.toml"
        raise UsageError(f"there is no service {service[:100]!r}", hint, Option("service"))
    of_openai = [name for name in _OPENAI_NAMES if name in environment]
    of_azure = [name for name in _AZURE_NAMES if name in environment]
    if of_openai and of_azure:
        raise UsageError(
            f"{', '.join(of_openai)} and {', '.join(of_azure)} are set, which point to two services",
            ("pass ", Option("service", "openai"), " or ", Option("service", "azure")),
        )
    return AZURE if of_azure else OPENAI


def _base(profile: Profile, environment: Mapping[str, str], flag: str | None, *, allow_http: bool) -> BaseUrl:
    from_environment = environment.get(profile.base_name)
    where: Option | str
    if flag is not None:
        text, where = flag, Option("base_url")
    elif from_environment is not None:
        text, where = from_environment, profile.base_name
    elif profile.base_url is not None:
        text, where = profile.base_url, profile.name
    else:
        names = (Option("base_url"), f" or {profile.base_name}" if profile.base_name else "")
        raise UsageError((f"no address for {profile.name}: expected ", *names), "pass one")
    base = read_base_url(text, where, allow_http=allow_http)
    for done in range(len(profile.path), -1, -1):  # with or without what is appended
        if profile.path[done : done + 1] in ("/", "") and base.path.endswith(profile.path[:done]):
            return BaseUrl(base.origin, base.path + profile.path[done:], base.loopback)
    return base


def _headers(profile: Profile, environment: Mapping[str, str]) -> dict[str, str]:
    if not profile.sends_organisation:
        return {}
    headers: dict[str, str] = {}
    for header, name in _VARIABLE_OF.items():
        if name in environment:
            headers |= checked_headers({header: environment[name]}, name)
    if "OPENAI_CUSTOM_HEADERS" in environment:
        headers |= custom_headers(environment["OPENAI_CUSTOM_HEADERS"], "OPENAI_CUSTOM_HEADERS")
    return headers


def _key(
    profile: Profile, environment: Mapping[str, str], key: Secret | None, token: Secret | None
) -> tuple[Secret | None, Auth]:
    """The key and its header. A token is a bearer token, unless the profile has a header of its own."""
    bearer = BEARER if profile.token_names else profile.auth
    if token is not None:
        return token, bearer
    if key is not None:
        return key, profile.auth
    for names, auth in ((profile.token_names, bearer), (profile.key_names, profile.auth)):
        for name in names:
            if name in environment:
                return Secret(environment[name], name), auth
    return None, profile.auth
