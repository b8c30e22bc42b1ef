"""Refusals and advice of the inner rooms, worded for a caller in Python: `skip_bad=True` where the command says `--skip-bad`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import fields

from batchrun.core.settings.settings import Refusal, SettingKind, Settings
from batchrun.core.taxonomy.rules import HaltReason
from batchrun.core.text.readable import Action, Option, Part, Text, visible, worded
from batchrun.edge.append_file import BatchFilesError, InputIsOutput
from batchrun.edge.source import InputFileError, SpoolFailed
from batchrun.results.record import BatchrunError
from batchrun.results.run_errors import FilesError, InputError, SettingsError

_KINDS = {one.name: one.metadata["kind"] for one in fields(Settings)} | {"demo": SettingKind.SWITCH}
_ACTIONS = {Action.RUN_AGAIN: "make the same call again", Action.CANCEL_ALL: "`batch.cancel(all=True)`"}


def in_python(text: Text) -> str:
    """`text` with its options as arguments and its actions as calls."""
    return _printable(worded(text, _keyword))


def halt_in_python(reason: str, message: str) -> str:
    """The message of a halt, which core words once for the journal."""
    return "the time set by max_wait is over" if reason == HaltReason.MAX_WAIT else _printable(message)


def error_in_python(error: Refusal, variables: Collection[str] = ()) -> BatchrunError:
    """The error that a caller can name; settings in `variables` came from the environment."""
    text = _printable(error.worded(variables, _mention, _keyword))
    if isinstance(error, InputFileError | InputIsOutput):
        return InputError(text)
    if isinstance(error, BatchFilesError | SpoolFailed):
        return FilesError(text)
    return SettingsError(text)


@contextmanager
def refusals_in_python(variables: Collection[str] = ()) -> Iterator[None]:
    """Raise refusals as errors that a caller can name."""
    try:
        yield
    except Refusal as error:
        raise error_in_python(error, variables) from error


def _printable(text: str) -> str:
    return "\n".join(visible(line, 2_000) for line in text.splitlines())


def _mention(part: Part) -> str:
    return part.name if isinstance(part, Option) and part.value is None else _keyword(part)


def _keyword(part: Part) -> str:
    match part:
        case Option(name, value):
            return f"{name}={_literal(_KINDS.get(name, SettingKind.TEXT), value)}"
        case Action():
            return _ACTIONS[part]
        case _:
            return part


def _literal(kind: SettingKind, value: str | None) -> str:
    match kind:
        case SettingKind.SWITCH:
            return "True"
        case _ if value is None:
            return "…"
        case SettingKind.COUNT | SettingKind.NUMBER:
            return value
        case SettingKind.STATES:
            return f'["{value}"]'
        case SettingKind.TEXTS:
            name, _, field = value.strip("'").partition("=")
            return f'{{"{name}": {field or "…"}}}'
        case _:
            return repr(value.strip("'"))
