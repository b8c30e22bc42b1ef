"""The settings as flags and as environment variables, made from their one description.

Laws:

1. A flag outranks its variable, and a variable the default. Only what was given is returned, so that
   defaults may still depend on the input.
2. What is wrong is said in one line: the flag or the variable by its name, what was expected, what came,
   and what to write instead.
3. An empty variable counts as unset; one whose name is nearly that of a setting is refused, since a limit
   that is silently not obeyed costs money.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import Field, fields
from typing import Any

from batchrun.core.settings.parsing import (
    READERS,
    from_variable,
    refuse_near_misses,
    refuse_what_makes_no_sense,
    remedy,
    spelled,
)
from batchrun.core.settings.settings import FlagGroup, SettingKind, Settings
from batchrun.core.text.wording import flag, variable

# What a value is called in the help.
_METAVAR = {
    SettingKind.TEXT: "TEXT", SettingKind.TEXTS: "NAME=VALUE", SettingKind.COUNT: "N", SettingKind.NUMBER: "N", SettingKind.SECONDS: "TIME",
    SettingKind.BYTES: "SIZE", SettingKind.STATES: "STATES",
}  # fmt: skip
_METAVARS = {
    "service": "NAME|FILE", "base_url": "URL", "key_file": "FILE", "token_command": "COMMAND", "artifacts": "DIR",
    "wire": "own|httpx",
}  # fmt: skip


def metavar(setting: Field[Any]) -> str:
    """What the value of a setting is called; empty for a switch."""
    return _METAVARS.get(setting.name) or _METAVAR.get(setting.metadata["kind"], "")


def add_flags(parser: argparse.ArgumentParser, only: Collection[str] | None = None) -> None:
    """A flag for every setting, in the groups of `Settings`; for those alone that are named in `only`, if given."""
    for group in FlagGroup:
        shown = [
            one for one in fields(Settings) if one.metadata["group"] is group and (only is None or one.name in only)
        ]
        if shown:
            of_group = parser.add_argument_group(group.value)
            for setting in shown:
                _add(of_group, setting)


def _add(group: argparse._ArgumentGroup, setting: Field[Any]) -> None:
    kind, name = setting.metadata["kind"], flag(setting.name)
    said = setting.metadata["help"]
    default = spelled(setting)
    common: dict[str, Any] = {"dest": setting.name, "default": argparse.SUPPRESS}
    common["help"] = said if default is None else f"{said}; default {default}"
    if kind is SettingKind.SWITCH:
        group.add_argument(name, action="store_true", **common)
        # So that a flag can outrank a variable here too.
        group.add_argument("--no-" + name[2:], action="store_false", **(common | {"help": argparse.SUPPRESS}))
        return
    common["metavar"] = metavar(setting)
    common["type"] = _typed(setting)
    if kind is SettingKind.TEXTS:
        group.add_argument(name, action="append", **common)
    elif kind is SettingKind.STATES:
        group.add_argument(name, nargs="?", const=(), **common)
    else:
        group.add_argument(name, **common)


def _typed(setting: Field[Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return READERS[setting.metadata["kind"]](text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(
                f"{error}; {remedy(setting, f'{flag(setting.name)} ', str(error))}"
            ) from error

    return read


def given(options: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings that were given by flag or else by variable. Raises UsageError, which names flag or variable, whichever it was."""
    refuse_near_misses(environment)
    found: dict[str, Any] = {}
    for setting in fields(Settings):
        name = setting.name
        if hasattr(options, name):
            value = getattr(options, name)
            found[name] = tuple(value) if setting.metadata["kind"] is SettingKind.TEXTS else value
        elif text := environment.get(variable(name)):
            found[name] = from_variable(setting, text)
    refuse_what_makes_no_sense(found, from_environment(options, found))
    return found


def from_environment(options: argparse.Namespace, given: Iterable[str]) -> list[str]:
    """Those of the settings `given` that came from a variable and not from a flag."""
    return [name for name in given if not hasattr(options, name)]
