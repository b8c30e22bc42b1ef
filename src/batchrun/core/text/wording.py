"""Messages with options in them, which the command and Python spell differently.

A `Text` is a string, or a tuple of strings with options and actions between: `("raise ", Option("max_row"))`. `str`
of a part is the command's spelling, which the journal and the records have too; Python's is in `api.wording`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

PREFIX = "BATCHRUN_"


@dataclass(frozen=True, slots=True)
class Option:
    """A setting, or another option of a run, by its name in Python; `value` as it would be typed in a shell."""

    name: str
    value: str | None = None

    def __str__(self) -> str:
        return flag(self.name) if self.value is None else f"{flag(self.name)} {self.value}"


class Action(Enum):
    """What to do, where it is no option."""

    RUN_AGAIN = "run the same command again"
    CANCEL_ALL = "`batchrun cancel --all`"

    def __str__(self) -> str:
        return self.value


Part: TypeAlias = str | Option | Action
Text: TypeAlias = Part | tuple[Part, ...]


def flag(name: str) -> str:
    """``poll_max`` as the command spells it: ``--poll-max``."""
    return "-o" if name == "out" else "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """``poll_max`` as the environment spells it: ``BATCHRUN_POLL_MAX``."""
    return PREFIX + name.upper()


def worded(text: Text, spelled: Callable[[Part], str] = str) -> str:
    """`text` as one string, each part as `spelled`."""
    return "".join(map(spelled, parts(text)))


def parts(text: Text) -> tuple[Part, ...]:
    return text if isinstance(text, tuple) else (text,)


def as_given(text: Text, variables: Collection[str]) -> tuple[Part, ...]:
    """`text` with the options in `variables` named as the variables of the environment that gave them."""

    def given(part: Part) -> Part:
        if not isinstance(part, Option) or part.name not in variables:
            return part
        return variable(part.name) + ("" if part.value is None else f"={part.value}")

    return tuple(map(given, parts(text)))
