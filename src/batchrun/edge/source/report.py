"""What the check counts: problems and warnings, models and endpoints, sizes. Bounded, whatever the input holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from batchrun.core.text.readable import Text

KEPT = 20  # findings with their lines; the others are counted
_DISTINCT = 1_000  # pairs of endpoint and model; what comes later counts under OTHERS
OTHERS = "(other models)"


@dataclass(frozen=True, slots=True)
class Finding:
    """A line with a word and a message; the message may hold text from outside, made visible."""

    line: int
    code: str
    message: Text


@dataclass(slots=True)
class InputFindings:
    """The first findings in full, all of them by count."""

    first: list[Finding] = field(default_factory=list)
    by_code: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.by_code.values())

    def add(self, line: int, code: str, message: Text) -> None:
        self.by_code[code] = self.by_code.get(code, 0) + 1
        if len(self.first) < KEPT:
            self.first.append(Finding(line, code, message))


@dataclass(slots=True)
class Share:
    """The rows of one model at one endpoint, their bytes, and the tokens of usual answers."""

    rows: int = 0
    size: int = 0
    answers: int = 0


@dataclass(slots=True)
class Report:
    """All that a check found out."""

    rows: int = 0
    size: int = 0  # bytes of the input, decompressed
    blank_lines: int = 0
    largest: int = 0
    largest_line: int = 0
    problems: InputFindings = field(default_factory=InputFindings)
    warnings: InputFindings = field(default_factory=InputFindings)
    shares: dict[tuple[str, str], Share] = field(default_factory=dict)  # by path and model

    def share(self, path: str, model: str) -> Share:
        """The share of `model` at `path`, a new one if there is none yet."""
        if (known := self.shares.get((path, model))) is not None:
            return known
        return self.shares.setdefault((path, model if len(self.shares) < _DISTINCT else OTHERS), Share())
