"""The API key of a call: wrapped at once, so that no repr, log or traceback shows it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from batchrun.api.wording import refusals_in_python
from batchrun.core.settings.settings import Secret
from batchrun.edge.credentials import KeyFunction
from batchrun.results.run_errors import SettingsError

_SOURCE = "api_key"
_OTHERS = ("key_file", "token_command")


def key_of(given: Any) -> Secret | KeyFunction | None:
    """The key, or the function that gives it. Raises SettingsError for what can be neither; it is never quoted."""
    if given is None or isinstance(given, Secret | KeyFunction):
        return given
    if isinstance(given, str):
        with refusals_in_python():
            return Secret(given, _SOURCE)
    if callable(given):
        return KeyFunction(given)
    raise SettingsError(f"api_key: expected a string or a function that returns one, got {type(given).__name__}")


def without_other_keys(settings: dict[str, Any], variables: Collection[str]) -> dict[str, Any]:
    """The settings without what the environment says of a key; one that the call names as well is refused."""
    named = [name for name in _OTHERS if name in settings and name not in variables]
    if named:
        raise SettingsError(f"api_key: expected one source of the API key, got {named[0]} too; leave one of them out")
    return {name: value for name, value in settings.items() if name not in _OTHERS}
