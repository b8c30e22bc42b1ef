"""Reads the values of settings from the command line, the environment and calls, and refuses all of them alike.

A value is text on the command line and in the environment; a call may pass text or the value itself. A refusal names
the setting as it was given, what was expected, what was found, and what to write instead.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, fields
from typing import Any

from batchrun.core.settings.settings import SettingKind, Settings, UsageError, read_lag
from batchrun.core.settings.unknown import SUGGESTED_NEVER, answer
from batchrun.core.taxonomy.rules import State
from batchrun.core.text.readable import (
    PREFIX,
    Option,
    Text,
    as_given,
    read_bytes,
    read_count,
    read_number,
    read_seconds,
    spelled_bytes,
    spelled_seconds,
    value_shown,
    variable,
    visible,
    worded,
)

_ALL = "all"
_YES, _NO = frozenset({"1", "yes", "true", "on"}), frozenset({"0", "no", "false", "off"})
_RETRIED = tuple(state.value for state in State if state is not State.SUCCEEDED)

_NO_STATES = "expected states with commas between, got "

_EXAMPLES = {
    "rpm": "600", "tpm": "200000", "poll_rate": "50", "poll_min": "1s", "poll_max": "30s", "limit": "10", "retry_budget": "200", "max_wait": "8h",
    "set": "temperature=0.2", "retry_failed": "blocked_budget", "service": "azure", "model": "gpt-5", "transport": "httpx", "rate": "fixed",
    "base_url": "https://api.example.com/v1", "key_file": "key.txt", "artifacts": "images", "token_command": "'az account get-access-token'",
}  # fmt: skip


def spelled(setting: Field[Any]) -> str | None:
    """The default of a setting as it could be typed; None for a switch, a list and no default."""
    default: Any = setting.default
    if default is None or setting.metadata["kind"] in (SettingKind.SWITCH, SettingKind.TEXTS):
        return None
    match setting.metadata["kind"]:
        case SettingKind.SECONDS:
            return spelled_seconds(default)
        case SettingKind.BYTES:
            return spelled_bytes(default)
        case _:
            return f"{default:g}" if isinstance(default, float) else str(default)


def example(setting: Field[Any]) -> str:
    """A value of a setting that could be typed."""
    return _EXAMPLES.get(setting.name) or spelled(setting) or "1"


def remedy(setting: Field[Any], spelling: str, problem: str) -> str:
    """What to write instead."""
    if setting.metadata["kind"] is SettingKind.STATES and problem.startswith(_NO_STATES):
        return "if it is the INPUT, put that first" if spelling.startswith("--") else "batchrun explain lists them"
    return f"write {spelling}{example(setting)}"


FORMER_NAMES = {one.metadata["former"]: one.name for one in fields(Settings) if one.metadata["former"]}
"""Settings by their earlier names, which still work."""


def from_environment(setting: Field[Any], environment: Mapping[str, str]) -> Any:
    """The value of a setting from its variable, else from that of its earlier name; None for neither. Raises UsageError."""
    for name in (setting.name, setting.metadata["former"]):
        if name and (text := environment.get(variable(name))):
            return _from_variable(setting, variable(name), text)
    return None


def _from_variable(setting: Field[Any], name: str, text: str) -> Any:
    try:
        if setting.metadata["kind"] is SettingKind.TEXTS:
            return tuple(line for line in text.splitlines() if line.strip())
        return READERS[setting.metadata["kind"]](text)
    except ValueError as error:
        raise UsageError(str(error), f"{remedy(setting, f'{name}=', str(error))}, or unset it", name) from error


def refuse_contradictions(found: Mapping[str, Any], variables: Collection[str]) -> None:
    """Refuse values that are out of range or exclude each other; settings in `variables` came from the environment."""
    try:
        Settings.of(found)
    except UsageError as error:
        problem, remedy = as_given(error.problem, variables), error.remedy
        name = error.about.name if isinstance(error.about, Option) else ""
        setting = next((one for one in fields(Settings) if one.name == name), None)
        if setting is not None and _example_helps(found, setting):
            value = example(setting)
            remedy = (
                f"write {variable(name)}={value}, or unset it" if name in variables else ("write ", Option(name, value))
            )
        raise UsageError(problem, remedy) from error


def _example_helps(found: Mapping[str, Any], setting: Field[Any]) -> bool:
    """Whether the example of a setting would be valid together with all others as they are."""
    try:
        Settings.of({**found, setting.name: READERS[setting.metadata["kind"]](example(setting))})
    except UsageError:
        return False
    return True


def refuse_near_misses(environment: Mapping[str, str]) -> None:
    """Refuse a variable whose name is nearly that of a setting: a limit that is ignored costs money."""
    known = [variable(name) for name in (*(setting.name for setting in fields(Settings)), *FORMER_NAMES)]
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known and environment[name]:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.9)
            if near:
                risky = near[0].removeprefix(PREFIX).lower() in SUGGESTED_NEVER
                remedy = "unset it" if risky else f"did you mean {near[0]}? rename it, or unset it"
                raise UsageError(f"unknown setting {visible(name, 80)}", remedy)


def read_switch(text: str) -> bool:
    """``yes`` or ``no``, in the usual spellings."""
    word = text.strip().lower()
    if word in _YES or word in _NO:
        return word in _YES
    raise ValueError(f"expected yes or no, got {value_shown(text)}")


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
            near = difflib.get_close_matches(word, _RETRIED, n=1, cutoff=0.7)
            hint = f"; did you mean {near[0]}" if near else ""
            raise ValueError(f"{_NO_STATES}{value_shown(word)}{hint}")
    if not words:
        raise ValueError(f"expected states with commas between, or {_ALL}; got {value_shown(text)}")
    return tuple(dict.fromkeys(words))


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError(f"expected a text, got {text!r}")
    return text


def _lag(text: str) -> str:
    read_lag(text)
    return text


READERS: dict[SettingKind, Callable[[str], Any]] = {
    SettingKind.TEXT: _text,
    SettingKind.TEXTS: _text,
    SettingKind.COUNT: read_count,
    SettingKind.NUMBER: read_number,
    SettingKind.SECONDS: read_seconds,
    SettingKind.BYTES: read_bytes,
    SettingKind.SWITCH: read_switch,
    SettingKind.STATES: read_states,
    SettingKind.LAG: _lag,
}


def from_arguments(
    arguments: Mapping[str, Any],
    environment: Mapping[str, str],
    more_names: Collection[str] = (),
    spelling: Callable[[Text], str] = worded,
    body_fields: Collection[str] = (),
) -> tuple[dict[str, Any], frozenset[str]]:
    """The settings of a call, and the names of those that came from the environment; an argument outranks its variable.

    Texts are read as on the command line (``deadline="2h"``); `set` may be a mapping, `retry_failed` True or a
    list of states. `more_names` are the call's other arguments, for a hint, which `spelling` words;
    `body_fields` are what is set in bodies. Raises UsageError; TypeError for an
    unknown name.
    """
    refuse_near_misses(environment)
    known = {setting.name: setting for setting in fields(Settings)}
    for former, name in FORMER_NAMES.items():
        if former in arguments:
            if name in arguments:
                raise TypeError(f"{former!r} is the earlier name of {name!r}; give {name!r} alone")
            arguments = {(name if each == former else each): value for each, value in arguments.items()}
    for name in arguments:
        if name not in known:
            found_near = answer(name, [*known, *more_names], body_fields)
            hint = "batchrun --help lists all settings, as options" if found_near is None else spelling(found_near)
            raise TypeError(f"unknown setting {visible(name, 80)!r}; {hint}")
    found = {}
    for name, setting in known.items():
        if arguments.get(name) is not None:
            found[name] = _from_argument(setting, arguments[name])
        elif name not in arguments and (value := from_environment(setting, environment)) is not None:
            found[name] = value
    variables = frozenset(name for name in found if arguments.get(name) is None)
    refuse_contradictions(found, variables)
    return found, variables


def _from_argument(setting: Field[Any], value: Any) -> Any:
    kind = setting.metadata["kind"]
    try:
        if kind is SettingKind.TEXTS:
            return _body_fields(value)
        if kind is SettingKind.STATES:
            if isinstance(value, bool):
                return () if value else None
            return read_states(value if isinstance(value, str) else ",".join(map(str, value)) or _ALL)
        if isinstance(value, str):
            return READERS[kind](value)
        if kind is SettingKind.TEXT:
            return _text(str(value.__fspath__()))  # a path
    except (ValueError, AttributeError, TypeError) as error:
        problem = str(error) if type(error) is ValueError else f"expected {kind.value}, got {type(value).__name__}"
        raise UsageError(problem, ("write ", Option(setting.name, example(setting))), setting.name) from error
    if not _fits(kind, value):
        problem = f"expected {kind.value}, got {value!r}"
        raise UsageError(problem, ("write ", Option(setting.name, example(setting))), setting.name)
    if kind is SettingKind.LAG:
        return f"{value:g}s"
    return int(value) if kind in (SettingKind.COUNT, SettingKind.BYTES) else value


def _fits(kind: SettingKind, value: Any) -> bool:
    if kind is SettingKind.SWITCH or isinstance(value, bool):
        return kind is SettingKind.SWITCH and isinstance(value, bool)
    if not isinstance(value, int | float) or not abs(value) < _HUGE:
        return False
    return kind not in (SettingKind.COUNT, SettingKind.BYTES) or value == int(value)


_HUGE = 1e18


def _body_fields(value: Any) -> tuple[str, ...]:
    """``{"temperature": 0.2}`` or ``["temperature=0.2"]`` as the flag takes it."""
    if isinstance(value, Mapping):
        return tuple(f"{name}={json.dumps(field)}" for name, field in value.items())
    return (value,) if isinstance(value, str) else tuple(map(_text, value))
