"""The parser of the main command, and the one-line errors of all commands."""

from __future__ import annotations

import argparse
import difflib
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import Field, fields
from typing import Any, NoReturn, TypeVar

from batchrun.core.settings.parsing import (
    READERS,
    from_variable,
    refuse_contradictions,
    refuse_near_misses,
    remedy,
    spelled,
)
from batchrun.core.settings.settings import FlagGroup, SettingKind, Settings
from batchrun.core.text.readable import flag, variable, visible, without_keys
from batchrun.version import __version__

# --- The settings as flags and as environment variables, made from their one description ---
#
# 1. A flag outranks its variable, and a variable the default. Only settings that were given are returned, so that
#    defaults may still depend on the input.
# 2. An error is one line: the flag or the variable by its name, what was expected, what was found, and what to write.
# 3. An empty variable counts as unset; one whose name is nearly that of a setting is refused.


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


_Space = TypeVar("_Space", bound=argparse.Namespace)
_WIDEST = 100

EXIT_CODES = {
    "0": "every row succeeded",
    "1": "the run is complete, and some rows did not succeed",
    "2": "usage or input: nothing was sent",
    "3": "halted; the same command goes on later",
    "4": "the output or the journal could not be used or written",
    "129, 130, 143": "ended by SIGHUP, Ctrl-C, SIGTERM; the same command goes on",
}
"""For the help and the README."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help of at most 100 columns."""

    def __init__(self, prog: str) -> None:
        width = max(60, min(_WIDEST, shutil.get_terminal_size().columns))
        super().__init__(prog, max_help_position=30, width=width)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with a remedy; abbreviated flags are refused."""

    def __init__(self, prog: str, description: str | None = None, *, remedy: str = "") -> None:
        self._remedy = remedy and f"; {remedy}"
        super().__init__(prog=prog, description=description, formatter_class=HelpFormatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Print the error in one line and exit with 2."""
        text = message.removeprefix("argument ").replace("expected one argument", "expected a value, got none")
        if text.startswith("the following arguments are required: "):
            text = f"expected {text.partition(': ')[2]}, got none{self._remedy}"
        elif text.startswith("one of the arguments "):
            text = f"expected {' or '.join(text.split()[4:-2])}, got none"
        text = without_keys(text)
        self.exit(2, f"{self.prog}: {text if ';' in text else f'{text}; {self.prog} --help lists all flags'}\n")

    def parse_known_args(  # type: ignore[override] # typeshed has three overloads; this signature serves all of them
        self, args: Sequence[str] | None = None, namespace: _Space | None = None
    ) -> tuple[argparse.Namespace | _Space, list[str]]:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._refuse(unknown[0])
        return found, unknown

    def _refuse(self, word: str) -> NoReturn:
        name = word.partition("=")[0]
        if not name.startswith("-") or name == "-":
            if self.prog == "batchrun":
                self.error(f"expected one INPUT, got {visible(word, 80)!r} beside it; run one input after another")
            self.error(f"{visible(word, 80)!r} is one word too many; {self.prog} --help tells what is expected")
        near = difflib.get_close_matches(name, list(self._option_string_actions), n=1)
        hint = f"did you mean {near[0]}?" if near else f"{self.prog} --help lists all flags"
        self.error(f"{visible(name, 80)} is no flag; {hint}")


def run_parser(commands: dict[str, str] | None = None) -> Parser:
    """The parser of ``batchrun INPUT -o OUT``; its help lists `commands`."""
    parser = Parser(
        "batchrun",
        "Run very many background jobs against a service and bring every result home.",
        remedy="write batchrun in.jsonl -o out.jsonl",
    )
    parser.usage = "batchrun INPUT -o OUT [flags]\n       batchrun COMMAND …"
    parser.epilog = _epilog(commands or {})
    parser.add_argument("input", metavar="INPUT", help="JSON lines; .gz and .zst are read as well; - is standard input")
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True,
        help="where the records go, one line a row; the same command again goes on where it stopped; "
        "- is standard output",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"batchrun {__version__}")
    add_run_options(parser)
    return parser


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that runs a batch."""
    parser.add_argument("--journal", metavar="FILE", help="what is in flight (default: OUT.journal)")
    parser.add_argument("--demo", action="store_true", help="run against a simulated service: no key, no cost")
    output = parser.add_argument_group("what it tells")
    output.add_argument("--summary", metavar="FILE", help="write the closing summary as JSON too")
    output.add_argument("--log-json", metavar="FILE", help="append events to this file, one JSON line each")
    output.add_argument("--quiet", action="store_true", help="no progress and no summary: errors alone")
    add_flags(parser)


def _epilog(commands: dict[str, str]) -> str:
    parts = []
    if commands:
        formatter = HelpFormatter("batchrun")
        formatter.start_section("commands")
        for name, what in commands.items():
            formatter.add_argument(argparse.Action([], name, metavar=name, help=what.replace("%", "%%")))
        formatter.end_section()
        parts.append(formatter.format_help().rstrip())
    width = max(map(len, EXIT_CODES))
    parts.append("exit codes:\n" + "\n".join(f"  {code:<{width}}  {what}" for code, what in EXIT_CODES.items()))
    parts.append(
        "times are 90s, 5m, 24h; sizes 500k, 64MiB. Each setting, from --service on, can come from the\n"
        "environment too: BATCHRUN_POLL_MAX=10s, BATCHRUN_KEEP_GOING=yes. The flag outranks it;\n"
        "--no-keep-going turns a switch off."
    )
    return "\n\n".join(parts)
