"""The result of a run as values: the exit code, the errors, and the commands to type next.

``summary`` renders it as text and JSON.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchrun.cli import EXIT_FILES, EXIT_HALTED, EXIT_OK, EXIT_ROWS, EXIT_SIGNAL
from batchrun.core.jobs.messages import Outcome
from batchrun.core.settings.parsing import read_states
from batchrun.core.status.snapshot import Snapshot
from batchrun.core.taxonomy.explain import WORTH_ANOTHER, advice_of, explain, worst_first
from batchrun.core.taxonomy.rules import HaltReason, State
from batchrun.core.text.readable import Option, flag

PIPE = "… | "
"""Before a command whose input has to be piped in again."""
_NAMES_SERVICE = (HaltReason.UNKNOWN_TO_SERVICE, HaltReason.UNAUTHORISED)

_ACCESS = {
    "--journal": 1,
    "--demo": 0,
    "--service": 1,
    "--base-url": 1,
    "--allow-http": 0,
    "--key-file": 1,
    "--token-command": 1,
}
"""Flags without which another command would not find the files or the service, and how many values they take."""
_ONCE = frozenset({"--fresh", "--new-journal", "--repair", "--resubmit-unconfirmed", "--write-off"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A finished run.

    `total` counts the rows of the input, None where it was not read to its end; `limited` is whether --limit left some
    out; `arguments` is the command as it was typed, without its name; `signal` the number of the signal that ended the
    run; `asked` the service, organisation and project that were asked; `profile` the TOML of the profile that would read
    the response that halted it; `artifacts` the folder of results that are files; `problem` what could not be written;
    `demo` whether it ran on the simulated service. `piped` is whether the input was standard input, `input_kept` whether
    it can be read again, and `service_flags` name the service of the batch. Texts from outside are redacted already.
    """

    outcome: Outcome
    snapshot: Snapshot
    total: int | None
    elapsed: float
    output: str | None
    journal: str | None
    arguments: Sequence[str]
    limited: bool = False
    signal: int | None = None
    asked: str | None = None
    profile: str | None = None
    artifacts: str | None = None
    problem: str | None = None
    demo: bool = False
    piped: bool = False
    input_kept: bool = True
    service_flags: Sequence[str] = ()

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
        case Outcome.PARTIAL if not result.limited:
            return EXIT_HALTED
        case Outcome.PARTIAL:  # unfinished rows are intended
            return EXIT_OK if set(result.states) <= {State.SUCCEEDED.value} else EXIT_ROWS
        case Outcome.DETACHED if result.signal is None:  # as above
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
    found: list[tuple[str, str]] = []
    if result.resumable:
        base, pipe = _resuming(result)
        sends, pipe_sends = _sending(result)
        if result.profile is not None:
            sends = [*_without(_without(base, "--service"), "--base-url"), "--service", profile_name(base)]
            pipe_sends = pipe
        jobs = result.snapshot.watched - min(result.snapshot.to_end, result.snapshot.watched)
        if result.outcome is Outcome.DETACHED:
            collecting = [word for word in base if word != "--detach"]
            if "--detach" not in base:  # a variable asks for it
                collecting.append("--no-detach")
            found.append((pipe + command(collecting), "collects the results"))
            found.append((_other(result, "collect"), "collects them without the input"))
        elif result.open_rows or (result.open_rows is None and result.outcome is not Outcome.COMPLETE):
            resuming, before = (base, pipe) if result.snapshot.watched else (sends, pipe_sends)
            if halt_reason(result) is HaltReason.RETRY_BUDGET:
                resuming = [*_without(resuming, "--retry-budget"), "--retry-budget", str(2 * _retries(result))]
            what = "collects what is still running" if resuming[:1] == ["collect"] else "resumes this batch"
            found.append((before + command(resuming), what))
            if halt_reason(result) is HaltReason.UNKNOWN_RESPONSE:
                found.append((pipe + command([*base, "--keep-going"]), "sends the other rows without a profile"))
        found += [(pipe_sends + again, what) for again, what in commands_for_failed(sends, result.states)]
        if jobs:
            found.append((_other(result, "cancel", "--all"), "cancels what is still running"))
    return found + commands_to_learn(result.snapshot.codes)


def profile_name(arguments: Sequence[str]) -> str:
    """The name under which a drafted profile is to be saved: not that of the one in use."""
    in_use = {word.removeprefix("--service=") for word in arguments}
    return next(name for name in ("profile.toml", "new-profile.toml") if name not in in_use)


def _resuming(result: RunResult) -> tuple[list[str], str]:
    """The same command again, and what stands before it: the pipe that its input comes through, where that is not kept."""
    base = again(result.arguments)
    if not result.piped:
        return base, ""
    if not result.input_kept or result.output is None:
        return base, PIPE
    flags = _without(_without([word for word in base if word != "-"], "-o"), "--output")
    return ["resume", shorter_path(result.output), *flags], ""


def _sending(result: RunResult) -> tuple[list[str], str]:
    """As `_resuming`, by a command that submits."""
    base, pipe = _resuming(result)
    if base[:1] != ["collect"]:
        return base, pipe
    if result.input_kept or result.output is None:
        return ["resume", *base[1:]], ""
    flags = access(result.arguments)
    named = [] if _names_service(flags) else result.service_flags
    return ["-", "-o", shorter_path(result.output), *flags, *named], PIPE


def _other(result: RunResult, name: str, *flags: str) -> str:
    """Another command on the output."""
    output = "-" if result.output is None else shorter_path(result.output)
    return command([name, output, *access(result.arguments), *flags])


def access(arguments: Sequence[str]) -> list[str]:
    """Those of the flags that another command on the same batch needs too."""
    kept: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        values = _ACCESS.get(word.partition("=")[0])
        if values is not None:
            kept.append(word)
            if values and "=" not in word and rest:
                kept.append(rest.pop(0))
    return kept


def _names_service(flags: Sequence[str]) -> bool:
    return any(word.partition("=")[0] in ("--demo", "--service", "--base-url") for word in flags)


def words(options: Iterable[Option]) -> list[str]:
    """Options as words of a command."""
    return [word for one in options for word in (flag(one.name), one.value) if word is not None]


def shorter_path(path: str) -> str:
    """`path`, or its relative form where that is shorter."""
    return min(path, os.path.relpath(path), key=len)


def _retries(result: RunResult) -> int:
    """Retries of the whole batch, which its budget counts."""
    return result.snapshot.new_attempts_before + result.snapshot.new_attempts


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


def failures(
    codes: Mapping[tuple[str, str], int], samples: Mapping[tuple[str, str], tuple[str, str]]
) -> list[dict[str, Any]]:
    """What went wrong and what to do about it, for programs; most rows first."""
    return [
        {
            "state": state,
            "code": code,
            "rows": rows,
            "advice": advice_of(state, code),
            "sample": dict(zip(("key", "message"), samples[state, code], strict=True))
            if (state, code) in samples
            else None,
        }
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
