"""The settings as flags and as environment variables, made from their one description.

1. A flag outranks its variable, and a variable the default. Only settings that were given are returned, so that
   defaults may still depend on the input.
2. An error is one line: the flag or the variable by its name, what was expected, what was found, and what to write.
3. An empty variable counts as unset; one whose name is nearly that of a setting is refused.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import Field, fields
from typing import Any

from batchrun.core.settings.parsing import (
    READERS,
    from_variable,
    refuse_contradictions,
    refuse_near_misses,
    remedy,
    spelled,
)
from batchrun.core.settings.settings import FlagGroup, SettingKind, Settings
from batchrun.core.text.readable import flag, variable

_METAVAR = {
    SettingKind.TEXT: "TEXT", SettingKind.TEXTS: "NAME=VALUE", SettingKind.COUNT: "N", SettingKind.NUMBER: "N", SettingKind.SECONDS: "TIME",
    SettingKind.BYTES: "SIZE", SettingKind.STATES: "STATES",
}  # fmt: skip
_METAVARS = {
    "service": "NAME|FILE", "base_url": "URL", "key_file": "FILE", "token_command": "COMMAND", "artifacts": "DIR",
    "wire": "own|httpx",
}  # fmt: skip


def metavar(setting: Field[Any]) -> str:
    """What the value of a setting is called in the help; empty for a switch."""
    return _METAVARS.get(setting.name) or _METAVAR.get(setting.metadata["kind"], "")


def add_flags(parser: argparse.ArgumentParser, only: Collection[str] | None = None) -> None:
    """Add a flag for every setting, or for those in `only`, in the groups of `Settings`."""
    for group in FlagGroup:
        shown = [
            one for one in fields(Settings) if one.metadata["group"] is group and (only is None or one.name in only)
        ]
        if shown:
            flags = parser.add_argument_group(group.value)
            for setting in shown:
                _add(flags, setting)


def _add(group: argparse._ArgumentGroup, setting: Field[Any]) -> None:
    kind, name = setting.metadata["kind"], flag(setting.name)
    default = spelled(setting)
    common: dict[str, Any] = {"dest": setting.name, "default": argparse.SUPPRESS}
    common["help"] = setting.metadata["help"] + ("" if default is None else f"; default {default}")
    if kind is SettingKind.SWITCH:
        group.add_argument(name, action="store_true", **common)
        # So that a flag can outrank a variable that turns it on.
        group.add_argument("--no-" + name[2:], action="store_false", **(common | {"help": argparse.SUPPRESS}))
        return
    common["metavar"] = metavar(setting)
    common["type"] = _reader(setting)
    if kind is SettingKind.TEXTS:
        group.add_argument(name, action="append", **common)
    elif kind is SettingKind.STATES:
        group.add_argument(name, nargs="?", const=(), **common)
    else:
        group.add_argument(name, **common)


def _reader(setting: Field[Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return READERS[setting.metadata["kind"]](text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(
                f"{error}; {remedy(setting, f'{flag(setting.name)} ', str(error))}"
            ) from error

    return read


def read_settings(options: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings that were given, by flag or else by variable. Raises UsageError."""
    refuse_near_misses(environment)
    found: dict[str, Any] = {}
    for setting in fields(Settings):
        name = setting.name
        if hasattr(options, name):
            value = getattr(options, name)
            found[name] = tuple(value) if setting.metadata["kind"] is SettingKind.TEXTS else value
        elif text := environment.get(variable(name)):
            found[name] = from_variable(setting, text)
    refuse_contradictions(found, from_environment(options, found))
    return found


def from_environment(options: argparse.Namespace, names: Iterable[str]) -> list[str]:
    """The settings among `names` that came from a variable and not from a flag."""
    return [name for name in names if not hasattr(options, name)]
