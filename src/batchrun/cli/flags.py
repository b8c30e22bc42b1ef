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
import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, fields
from typing import Any

from batchrun.core.quantities import (
    read_bytes,
    read_count,
    read_number,
    read_seconds,
    spelled_bytes,
    spelled_seconds,
)
from batchrun.core.settings import Group, Kind, Settings, SettingsError
from batchrun.core.states import State
from batchrun.core.visible import visible

PREFIX = "BATCHRUN_"
_ALL = "all"
_YES, _NO = frozenset({"1", "yes", "true", "on"}), frozenset({"0", "no", "false", "off"})
_RETRIED = tuple(state.value for state in State if state is not State.SUCCEEDED)

# What a value is called in the help, and one that could be typed.
_METAVAR = {
    Kind.TEXT: "TEXT", Kind.TEXTS: "NAME=VALUE", Kind.COUNT: "N", Kind.NUMBER: "N", Kind.SECONDS: "TIME",
    Kind.BYTES: "SIZE", Kind.STATES: "STATES",
}  # fmt: skip
_METAVARS = {
    "service": "NAME|FILE",
    "base_url": "URL",
    "key_file": "FILE",
    "token_command": "COMMAND",
    "wire": "own|httpx",
}
_EXAMPLES = {
    "rpm": "600", "tpm": "200000", "poll_rate": "50", "limit": "10", "retry_budget": "200", "max_wait": "8h",
    "set": "temperature=0.2", "retry_failed": "blocked_budget", "service": "azure", "model": "gpt-5", "wire": "httpx",
    "base_url": "https://api.example.com/v1", "key_file": "key.txt", "token_command": "'az account get-access-token'",
}  # fmt: skip


class FlagError(ValueError):
    """A flag or variable that cannot be obeyed; its text is one line for the user."""


def flag(name: str) -> str:
    """``poll_max`` as the command spells it: ``--poll-max``."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """``poll_max`` as the environment spells it: ``BATCHRUN_POLL_MAX``."""
    return PREFIX + name.upper()


def spelled(setting: Field[Any]) -> str | None:
    """The default of a setting as it could be typed; None where it is no value."""
    default: Any = setting.default
    if default is None or setting.metadata["kind"] in (Kind.SWITCH, Kind.TEXTS):
        return None
    match setting.metadata["kind"]:
        case Kind.SECONDS:
            return spelled_seconds(default)
        case Kind.BYTES:
            return spelled_bytes(default)
        case _:
            return f"{default:g}" if isinstance(default, float) else str(default)


def example(setting: Field[Any]) -> str:
    """A value of a setting that could be typed."""
    return _EXAMPLES.get(setting.name) or spelled(setting) or "1"


def metavar(setting: Field[Any]) -> str:
    """What the value of a setting is called; empty for a switch."""
    return _METAVARS.get(setting.name) or _METAVAR.get(setting.metadata["kind"], "")


def add_flags(parser: argparse.ArgumentParser, only: Collection[str] | None = None) -> None:
    """A flag for every setting, in the groups of `Settings`; for those alone that are named in `only`, if given."""
    for group in Group:
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
    if kind is Kind.SWITCH:
        group.add_argument(name, action="store_true", **common)
        # So that a flag can outrank a variable here too.
        group.add_argument("--no-" + name[2:], action="store_false", **(common | {"help": argparse.SUPPRESS}))
        return
    common["metavar"] = metavar(setting)
    common["type"] = _typed(setting)
    if kind is Kind.TEXTS:
        group.add_argument(name, action="append", **common)
    elif kind is Kind.STATES:
        group.add_argument(name, nargs="?", const=(), **common)
    else:
        group.add_argument(name, **common)


def _typed(setting: Field[Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return _READERS[setting.metadata["kind"]](text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(
                f"{error}; {_remedy(setting, f'{flag(setting.name)} ', str(error))}"
            ) from error

    return read


def _remedy(setting: Field[Any], spelling: str, said: str) -> str:
    if setting.metadata["kind"] is Kind.STATES and "did you mean" in said:
        return "if it is the INPUT, put that first" if spelling.startswith("--") else "batchrun explain lists them"
    return f"write {spelling}{example(setting)}"


def given(options: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings that were given by flag or else by variable. Raises FlagError for a bad variable."""
    _refuse_near_misses(environment)
    found: dict[str, Any] = {}
    for setting in fields(Settings):
        name = setting.name
        if hasattr(options, name):
            value = getattr(options, name)
            found[name] = tuple(value) if setting.metadata["kind"] is Kind.TEXTS else value
        elif text := environment.get(variable(name)):
            found[name] = _from_variable(setting, text)
    return found


def settings_of(
    options: argparse.Namespace, environment: Mapping[str, str], *, at_once: bool = False, **more: Any
) -> Settings:
    """The settings as a whole; `more` overrides. Raises FlagError, which names flag or variable, whichever it was."""
    chosen = {**given(options, environment), **more}
    try:
        return Settings.of(chosen, at_once=at_once)
    except SettingsError as error:
        said = str(error)
        for setting in fields(Settings):
            spelling, name = variable(setting.name), flag(setting.name)
            if said.startswith(f"{name}:"):
                if hasattr(options, setting.name) or not environment.get(spelling):
                    raise FlagError(f"{said}; write {name} {example(setting)}") from error
                raise FlagError(
                    f"{spelling}{said.removeprefix(name)}; write {spelling}={example(setting)}, or unset it"
                ) from error
        raise FlagError(said) from error


def _from_variable(setting: Field[Any], text: str) -> Any:
    spelling = variable(setting.name)
    try:
        if setting.metadata["kind"] is Kind.TEXTS:
            return tuple(line for line in text.splitlines() if line.strip())
        return _READERS[setting.metadata["kind"]](text)
    except ValueError as error:
        remedy = _remedy(setting, f"{spelling}=", str(error))
        raise FlagError(f"{spelling}: {error}; {remedy}, or unset it") from error


def _refuse_near_misses(environment: Mapping[str, str]) -> None:
    known = [variable(setting.name) for setting in fields(Settings)]
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known and environment[name]:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.9)
            if near:
                raise FlagError(f"{visible(name, 80)} is no setting; did you mean {near[0]}? rename it, or unset it")


def read_switch(text: str) -> bool:
    """``yes`` or ``no``, in the usual spellings."""
    word = text.strip().lower()
    if word in _YES or word in _NO:
        return word in _YES
    raise ValueError(f"expected yes or no, got {visible(text, 40)!r}")


def read_states(text: str) -> tuple[str, ...]:
    """``failed,timeout`` as states; ``all`` is the empty tuple: every state but `succeeded`."""
    words = [word.strip().lower().replace("-", "_") for word in text.split(",")]
    words = [word for word in words if word]
    if words == [_ALL]:
        return ()
    for word in words:
        if word == State.SUCCEEDED:
            raise ValueError("expected states that did not succeed, got 'succeeded'")
        if word not in _RETRIED:
            near = difflib.get_close_matches(word, _RETRIED, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"expected states with commas between, got {visible(word, 60)!r}, which is none; did you mean {near}"
            )
    if not words:
        raise ValueError(f"expected states with commas between, or {_ALL}; got {visible(text, 40)!r}")
    return tuple(dict.fromkeys(words))


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError(f"expected a text, got {text!r}")
    return text


_READERS: dict[Kind, Callable[[str], Any]] = {
    Kind.TEXT: _text,
    Kind.TEXTS: _text,
    Kind.COUNT: read_count,
    Kind.NUMBER: read_number,
    Kind.SECONDS: read_seconds,
    Kind.BYTES: read_bytes,
    Kind.SWITCH: read_switch,
    Kind.STATES: read_states,
}
