"""The result of a run as values: the exit code, the errors, and the commands to type next.

``summary`` renders it as text and JSON.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchrun.cli import EXIT_FILES, EXIT_HALTED, EXIT_OK, EXIT_ROWS, EXIT_SIGNAL
from batchrun.core.jobs.messages import Outcome
from batchrun.core.settings.parsing import read_states
from batchrun.core.status.snapshot import Snapshot
from batchrun.core.taxonomy.explain import WORTH_ANOTHER, advice_of, explain, worst_first
from batchrun.core.taxonomy.rules import HaltReason, State

_NAMES_SERVICE = (HaltReason.UNKNOWN_TO_SERVICE, HaltReason.UNAUTHORISED)

_ONCE = frozenset({"--fresh", "--new-journal", "--repair", "--resubmit-unconfirmed", "--write-off"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A finished run.

    `total` counts the rows of the input, None where it was not read to its end; `arguments` is the command as it
    was typed, without its name; `signal` the number of the signal that ended the run; `asked` the service,
    organisation and project that were asked; `profile` the TOML of the profile that would read the response that halted it; `artifacts` the folder of results that are files; `problem` what could not be written. Texts from outside are redacted
    already.
    """

    outcome: Outcome
    snapshot: Snapshot
    total: int | None
    elapsed: float
    output: str | None
    journal: str | None
    arguments: Sequence[str]
    signal: int | None = None
    asked: str | None = None
    profile: str | None = None
    artifacts: str | None = None
    problem: str | None = None

    @property
    def states(self) -> Counter[str]:
        """All records of the output by state, those of earlier runs included."""
        return Counter(self.snapshot.states_before) + Counter(self.snapshot.states)

    @property
    def open_rows(self) -> int | None:
        """Rows without a record."""
        return None if self.total is None else max(0, self.total - self.snapshot.done)

    @property
    def resumable(self) -> bool:
        """Whether another run can resume from what was kept."""
        return self.journal is not None


def exit_code(result: RunResult) -> int:
    """The exit code. A signal that came too late to stop anything does not count."""
    if result.problem is not None:
        return EXIT_FILES
    match result.outcome:
        case Outcome.WRITE_FAILED:
            return EXIT_FILES
        case Outcome.COMPLETE:
            return EXIT_OK if set(result.states) <= {State.SUCCEEDED.value} else EXIT_ROWS
        case Outcome.DETACHED if result.signal is None:  # unfinished rows are intended
            return EXIT_OK if set(result.states) <= {State.SUCCEEDED.value} else EXIT_ROWS
        case Outcome.HALTED | Outcome.STOPPED | Outcome.DETACHED:
            return EXIT_HALTED if result.signal is None else EXIT_SIGNAL + result.signal


def halt_message(result: RunResult) -> str | None:
    """The message of the halt; where the service knows none of the jobs, with the service that was asked."""
    halted = result.snapshot.halted
    if halted is None:
        return None
    asked = result.asked if halt_reason(result) in _NAMES_SERVICE else None
    return halted[1] if asked is None else f"{halted[1]}; the service asked was {asked}"


def halt_reason(result: RunResult) -> HaltReason | None:
    """Why the run halted; None where it did not."""
    halted = result.snapshot.halted
    return None if halted is None else HaltReason(halted[0])


def again(arguments: Sequence[str]) -> list[str]:
    """The command that resumes, without the flags that are for one run only."""
    kept: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--retry-failed":
            if rest and _are_states(rest[0]):
                rest.pop(0)
        elif word not in _ONCE and not word.startswith("--retry-failed="):
            kept.append(word)
    return kept


def next_commands(result: RunResult) -> list[tuple[str, str]]:
    """(command, what it does), the likeliest first."""
    base = again(result.arguments)
    sends = ["resume", *base[1:]] if base[:1] == ["collect"] else base
    if result.profile is not None:
        sends = [*_without(_without(base, "--service"), "--base-url"), "--service", profile_name(base)]
    found: list[tuple[str, str]] = []
    if result.resumable:
        if result.outcome is Outcome.DETACHED:
            collecting = [word for word in base if word != "--detach"]
            found.append((command(collecting), "collects the results; so does `batchrun collect`, without the input"))
        elif result.open_rows or (result.open_rows is None and result.outcome is not Outcome.COMPLETE):
            resuming = list(base if result.snapshot.watched else sends)
            if halt_reason(result) is HaltReason.RETRY_BUDGET:
                resuming = [*_without(base, "--retry-budget"), "--retry-budget", str(2 * result.snapshot.new_attempts)]
            found.append((command(resuming), "resumes this batch"))
            if halt_reason(result) is HaltReason.UNKNOWN_RESPONSE:
                found.append((command([*base, "--keep-going"]), "sends the other rows without a profile"))
        found += commands_for_failed(sends, result.states)
    return found + commands_to_learn(result.snapshot.codes)


def profile_name(arguments: Sequence[str]) -> str:
    """The name under which a drafted profile is to be saved: not that of the one in use."""
    in_use = {word.removeprefix("--service=") for word in arguments}
    return next(name for name in ("profile.toml", "new-profile.toml") if name not in in_use)


def commands_for_failed(base: Sequence[str], states: Mapping[str, int]) -> list[tuple[str, str]]:
    """What the command `base` can do about rows that ended in `states`."""
    found: list[tuple[str, str]] = []
    if retried := [state.value for state in WORTH_ANOTHER if states.get(state)]:
        found.append((command([*base, "--retry-failed", ",".join(retried)]), "retries the rows in these states"))
    if states.get(State.UNCONFIRMED):
        found.append((command([*base, "--resubmit-unconfirmed"]), "sends the unconfirmed rows again; may pay twice"))
    return found


def commands_to_learn(codes: Mapping[tuple[str, str], int]) -> list[tuple[str, str]]:
    """The command that explains the worst error."""
    return [
        (command(["explain", code]), "explains the most important error")
        for _, code, _ in worst_first(codes, most=1)
        if explain(code)
    ]


def failures(codes: Mapping[tuple[str, str], int]) -> list[dict[str, str | int]]:
    """What went wrong and what to do about it, for programs; most rows first."""
    return [
        {"state": state, "code": code, "rows": rows, "advice": advice_of(state, code)}
        for (state, code), rows in sorted(codes.items(), key=lambda item: (-item[1], item[0]))
    ]


def command(arguments: Sequence[str]) -> str:
    """The command as it can be typed."""
    return f"batchrun {shlex.join(arguments)}"


def _without(arguments: Sequence[str], name: str) -> list[str]:
    """`arguments` without the flag `name` and its value."""
    kept: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == name:
            rest = rest[1:]
        elif not word.startswith(f"{name}="):
            kept.append(word)
    return kept


def _are_states(text: str) -> bool:
    try:
        read_states(text)
    except ValueError:
        return False
    return True
