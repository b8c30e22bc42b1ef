"""The parser of the main command, and the one-line errors of all commands."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import Field, fields
from typing import Any, NoReturn, TypeVar

from batchrun.core.settings.parsing import (
    FORMER_NAMES,
    READERS,
    from_environment,
    refuse_contradictions,
    refuse_near_misses,
    remedy,
    spelled,
)
from batchrun.core.settings.settings import FlagGroup, SettingKind, Settings
from batchrun.core.settings.unknown import answer
from batchrun.core.text.readable import Option, flag, parts, visible, without_keys, worded
from batchrun.edge.terminal import for_person, in_lines, text_width
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
    "transport": "own|httpx",
    "pacing": "learned|backoff",
    "lag": "SHARE|TIME",
}  # fmt: skip


def metavar(setting: Field[Any]) -> str:
    """What the value of a setting is called in the help; empty for a switch."""
    return _METAVARS.get(setting.name) or _METAVAR.get(setting.metadata["kind"], "")


def add_flags(
    parser: argparse.ArgumentParser, only: Collection[str] | None = None, *, shown: Collection[str] | None = None
) -> None:
    """Add a flag for every setting, or for those in `only`, in the groups of `Settings`; the help names those `shown`."""
    for group in FlagGroup:
        settings = [
            one for one in fields(Settings) if one.metadata["group"] is group and (only is None or one.name in only)
        ]
        if settings:
            flags = parser.add_argument_group(group.value)
            for setting in settings:
                _add(flags, setting, hidden=shown is not None and setting.name not in shown)


def _add(group: argparse._ArgumentGroup, setting: Field[Any], *, hidden: bool) -> None:
    kind, name = setting.metadata["kind"], flag(setting.name)
    default = spelled(setting)
    common: dict[str, Any] = {"dest": setting.name, "default": argparse.SUPPRESS}
    text = setting.metadata["help"] + ("" if default is None else f" (default: {default.replace('%', '%%')})")
    common["help"] = argparse.SUPPRESS if hidden else text
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
    if former := setting.metadata["former"]:
        group.add_argument(flag(former), **(common | {"help": argparse.SUPPRESS}))


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
        elif (value := from_environment(setting, environment)) is not None:
            found[name] = value
    refuse_contradictions(found, not_typed(options, found))
    return found


def not_typed(options: argparse.Namespace, names: Iterable[str]) -> list[str]:
    """The settings among `names` that came from a variable and not from a flag."""
    return [name for name in names if not hasattr(options, name)]


_Space = TypeVar("_Space", bound=argparse.Namespace)
EXIT_CODES = {
    "0": "every row succeeded",
    "1": "done what was asked, and some rows did not succeed",
    "2": "usage or input: nothing was sent",
    "3": "halted, or rows are left that could not be sent; it says how to resume",
    "4": "the output or the journal could not be used or written",
    "129, 130, 143": "ended by SIGHUP, Ctrl-C, SIGTERM; the same command resumes",
}
"""For `--help` and `batchrun help exit-codes`."""


_RUNS = "--concurrency"  # an option of those commands alone that run a batch
_DRY_RUN = ("--dry-run", "--dryrun", "-n")
_BY_NAME = (
    (("-V", "-version"), "", "write batchrun --version"),
    (("-v", "--verbose", "--debug"), "--log-json", "write --log-json FILE, which is given every event"),
    (("-q", "--silent"), "--quiet", "write --quiet"),
    (("-i", "--input", "--input-file"), "--skip-bad", "the input has no option: batchrun in.jsonl -o out.jsonl"),
)
"""Options of other tools that only a command line has, an option that the command must have, and the answer."""
_NO_OPTION = re.compile(r"-\Z|-?-?[0-9.]+\Z|-.* ", re.DOTALL)
"""What argparse does not take for an option: standard input, numbers, words with a space in them."""
_TWO_COLUMNS = 60


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help that fits the terminal, in at most 80 columns."""

    def __init__(self, prog: str) -> None:
        width = text_width(sys.stdout)
        super().__init__(prog, max_help_position=28 if width >= _TWO_COLUMNS else 6, width=width)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with a remedy; abbreviated flags are refused."""

    def __init__(self, prog: str, description: str | None = None, *, remedy: str = "") -> None:
        self._remedy = remedy and f"; {remedy}"
        text = description and in_lines(description, text_width(sys.stdout))
        super().__init__(prog=prog, description=text, formatter_class=HelpFormatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Print the error in one line and exit with 2."""
        text = message.removeprefix("argument ").replace("expected one argument", "expected a value, got none")
        if text.startswith("the following arguments are required: "):
            text = f"expected {text.partition(': ')[2]}, got none{self._remedy}"
        elif text.startswith("one of the arguments "):
            text = f"expected {' or '.join(text.split()[4:-2])}, got none"
        text = without_keys(text)
        line = f"{self.prog}: {text if ';' in text else f'{text}; {self.prog} --help lists all options'}"
        self.exit(2, f"{for_person(line, sys.stderr)}\n")

    def parse_known_args(  # type: ignore[override] # typeshed has three overloads; this signature serves all of them
        self, args: Sequence[str] | None = None, namespace: _Space | None = None
    ) -> tuple[argparse.Namespace | _Space, list[str]]:
        words = list(sys.argv[1:] if args is None else args)
        for word in words[: words.index("--")] if "--" in words else words:
            self._expect_known(word, words)
        found, unknown = super().parse_known_args(words, namespace)
        if unknown:
            self._refuse(unknown[0])
        return found, unknown

    def _expect_known(self, word: str, words: Sequence[str]) -> None:
        """Refuse an unknown option, and before what is missing: what it was written for may say more."""
        name, known = word.partition("=")[0], self._option_string_actions
        if not word.startswith("-") or name in known or _NO_OPTION.match(word):
            return
        if not word.startswith("--") and word[:2] in known:  # -oOUT
            return
        self.error(f"unknown option {visible(name, 80)}; {self._answer(name, words)}")

    def _answer(self, name: str, words: Sequence[str]) -> str:
        """What to write instead of the option `name`."""
        from batchrun.core.rows.body_fields import SETTABLE  # needed for this error alone

        known = self._option_string_actions
        if name in _DRY_RUN and "--skip-bad" in known:
            typed = words[0] if self.prog in ("batchrun", "batchrun check") and words[0][:1] != "-" else "INPUT"
            source = shlex.quote(visible(typed, 200))
            return f"batchrun check {source} reads the input and sends nothing"
        for names, option, text in _BY_NAME:
            if name in names and (not option or option in known):
                return text
        python = name.lstrip("-").replace("-", "_").lower()
        existing = [one[2:].replace("-", "_") for one in known if one.startswith("--")]
        existing = [one for one in existing if one not in FORMER_NAMES]
        found = answer(python, existing, SETTABLE)
        if found is not None:
            # Of the options that are named other commands have few; and only a run is resumed or started over.
            needed = {flag(one.name) for one in parts(found) if isinstance(one, Option)} or {_RUNS}
            if needed <= known.keys():
                return worded(found)
        return f"{self.prog} --help lists all options"

    def _refuse(self, word: str) -> NoReturn:
        if self.prog == "batchrun":
            self.error(f"expected one INPUT, got {visible(word, 80)!r} after it; run one input after another")
        self.error(f"{visible(word, 80)!r} is one argument too many; {self.prog} --help shows what is expected")


def run_parser(commands: dict[str, str] | None = None) -> Parser:
    """The parser of ``batchrun INPUT -o OUT``; its help lists `commands`."""
    parser = Parser(
        "batchrun",
        "Run very many background jobs against a service, and write one record per row.",
        remedy="write batchrun in.jsonl -o out.jsonl",
    )
    parser.usage = "batchrun INPUT -o OUT [options]\n       batchrun COMMAND …"
    parser.epilog = _epilog(commands or {})
    parser.add_argument("input", metavar="INPUT", help="JSON lines, also .gz and .zst; - is standard input")
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True,
        help="where the records are written, one line per row; the same command again resumes; "
        "- is standard output",
    )  # fmt: skip
    parser.add_argument(
        "--version", action="version", version=f"batchrun {__version__}", help="show the version and exit"
    )
    add_run_options(parser)
    return parser


def add_run_options(parser: argparse.ArgumentParser, shown: Collection[str] | None = None) -> None:
    """Add the options of every command that runs a batch; its help names those settings that are `shown`."""
    parser.add_argument("--journal", metavar="FILE", help="the journal of the batch (default: OUT.journal)")
    parser.add_argument("--demo", action="store_true", help="run on a simulated service: no API key, no cost")
    add_flags(parser, shown=shown)
    logging = parser.add_argument_group("logging")
    logging.add_argument("--summary", metavar="FILE", help="write the summary as JSON to this file too")
    logging.add_argument("--log-json", metavar="FILE", help="append events to this file, one JSON line each")
    logging.add_argument("--quiet", action="store_true", help="print only errors: no progress, no summary")


def _epilog(commands: dict[str, str]) -> str:
    texts = []
    if commands:
        formatter = HelpFormatter("batchrun")
        formatter.start_section("commands")
        for name, what in commands.items():
            formatter.add_argument(argparse.Action([], name, metavar=name, help=what.replace("%", "%%")))
        formatter.end_section()
        texts.append(formatter.format_help().rstrip())
    width = max(map(len, EXIT_CODES))
    columns = text_width(sys.stdout)
    codes = [
        in_lines(f"  {code:<{width}}  {what}", columns, " " * (width + 4) if columns >= _TWO_COLUMNS else "    ")
        for code, what in EXIT_CODES.items()
    ]
    texts.append("exit codes:\n" + "\n".join(codes))
    text = (
        "times are 90s, 5m, 24h; sizes 500k, 64MiB. Each option from --service on can also be set in the environment: "
        "BATCHRUN_POLL_MAX=10s, BATCHRUN_KEEP_GOING=yes. The option outranks the variable; --no-keep-going turns a "
        "switch off."
    )
    texts.append(in_lines(text, columns))
    return "\n\n".join(texts)
