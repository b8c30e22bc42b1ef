"""The parts of the README that are printed from the code."""

import contextlib
import io
import os
import textwrap
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from enum import EnumType
from types import ModuleType
from typing import get_args, get_origin

from batchrun.cli import main, summary
from batchrun.cli import status_json as status_json_room
from batchrun.cli.parser import EXIT_CODES, metavar
from batchrun.core.jobs.lifecycle import TRANSITIONS, Phase
from batchrun.core.records.record import Moment, RecordLine, keys_of
from batchrun.core.settings.parsing import spelled
from batchrun.core.settings.settings import Settings
from batchrun.core.taxonomy.rules import (
    GROUP_MEANING,
    HALT_ADVICE,
    STATE_MEANING,
    TAXONOMY,
    TAXONOMY_VERSION,
    WORDS,
    Rule,
    State,
)
from batchrun.core.taxonomy.warning_words import WARNINGS
from batchrun.core.text.readable import flag, worded
from benchmarks import table, wire_chart


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _codes(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def explain() -> str:
    shown = []
    os.environ["COLUMNS"] = "100"
    for word in ("insufficient_quota", "server_error"):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            main(["explain", word])
        shown.append(f"$ batchrun explain {word}\n{out.getvalue().rstrip()}")
    return "```console\n" + "\n\n".join(shown) + "\n```"


def states() -> str:
    return _table(["state", "meaning"], ([f"`{state}`", meaning] for state, meaning in STATE_MEANING.items()))


def record() -> str:
    """The keys of a record, each object's own below it."""
    return _table(["key", "type", "meaning"], _keys(RecordLine, ""))


def _keys(kind: type, prefix: str) -> Iterable[list[str]]:
    for key in keys_of(kind):
        is_list = get_origin(key.type) is tuple
        of = get_args(key.type)[0] if is_list else key.type
        shown = f"list of {_JSON.get(of, 'object')}s" if is_list else key.schema.get("type") or _JSON.get(of, "object")
        if isinstance(of, EnumType):
            shown = "string" if of is State else _codes(one.value for one in of)
        yield [f"`{prefix}{key.name}`", f"{shown} or null" if key.nullable else shown, key.meaning]
        if is_dataclass(of):
            yield from _keys(of, f"{prefix}{key.name}{'[]' if is_list else ''}.")


_JSON = {str: "string", int: "integer", float: "number", bool: "boolean", bytes: "any JSON", Moment: "time"}


def words() -> str:
    rows = (
        [str(group), _codes(w for w, of in WORDS.items() if of is group), meaning]
        for group, meaning in GROUP_MEANING.items()
    )
    return _table(["group", "words", "what the runner does"], rows)


def warnings() -> str:
    return _table(["warning", "meaning"], ([f"`{word}`", meaning] for word, meaning in WARNINGS.items()))


def failures() -> str:
    """Rules that differ in their word alone share a line."""
    groups: dict[tuple[object, ...], list[Rule]] = {}
    for rule in TAXONOMY:
        same = (rule.field, rule.kind, rule.sdk, rule.retry, rule.halts, rule.billing_reason, rule.state)
        groups.setdefault(same, []).append(rule)
    rows = [
        [
            str(first.field),
            _codes(rule.word for rule in rules),
            f"`{first.kind}`",
            f"`{first.sdk}`" if first.sdk else "–",
            str(first.retry) + ("; **halts the run**" if first.halts else ""),
            f"`{first.state}`",
        ]
        for first, rules in ((rules[0], rules) for rules in groups.values())
    ]
    table = _table(["where", "words", "`error.kind`", "openai SDK", "new attempt", "state"], rows)
    return f"Version {TAXONOMY_VERSION} of the taxonomy:\n\n{table}"


PHASE_MEANING: dict[Phase, str] = {
    Phase.WAITING: "for its turn: a slot, the rate, a pause, the delay before a retry",
    Phase.INTENDING: "the intent is journaled and not yet synced; nothing was sent",
    Phase.SUBMITTING: "the POST is in flight",
    Phase.RECORDING: "accepted; its id is journaled and not yet synced",
    Phase.WATCHING: "waits for its next poll",
    Phase.POLLING: "a poll is in flight",
    Phase.CANCELLING: "the cancel is journaled, then in flight",
    Phase.SETTLING: "cancelled; waits for one more poll before its record is written",
    Phase.STORING: "over; its files are being written, or removed, and its record waits for them",
    Phase.ENDING: "its record is written and not yet synced",
    Phase.FINISHED: "its record is on the disk",
}


def transition_table() -> str:
    """The table as Markdown."""
    lines = ["| phase | what it waits for | step | next phase |", "| --- | --- | --- | --- |"]
    for phase, meaning in PHASE_MEANING.items():
        steps = [(step, target) for (source, step), target in TRANSITIONS.items() if source is phase] or [("", "")]
        lines.append(f"| {phase} | {meaning} | {steps[0][0]} | {steps[0][1]} |")
        lines += [f"| | | {step} | {target} |" for step, target in steps[1:]]
    return "\n".join(lines)


def state_diagram() -> str:
    """The table as a Mermaid state diagram."""
    merged: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, step), target in TRANSITIONS.items():
        merged.setdefault((phase, target), []).append(str(step))
    lines = ["stateDiagram-v2", "    [*] --> waiting"]
    lines += [f"    {source} --> {target}: {', '.join(steps)}" for (source, target), steps in merged.items()]
    return "\n".join([*lines, "    finished --> [*]"])


def lifecycle() -> str:
    return f"```mermaid\n{state_diagram()}\n```\n\n{transition_table()}"


def flags() -> str:
    rows = []
    for setting in fields(Settings):
        told = setting.metadata
        value = metavar(setting).replace("|", "\\|")
        name = f"`{flag(setting.name)}`" + (f" {value}" if value else "")
        default = spelled(setting)
        rows.append([told["group"].value, name, f"`{default}`" if default else "", told["help"].replace("%%", "%")])
    return _table(["group", "flag", "default", "meaning"], rows)


def exits() -> str:
    return _table(["code", "meaning"], ([code, meaning] for code, meaning in EXIT_CODES.items()))


def halts() -> str:
    return _table(["halt", "what to do"], ([reason.value, worded(advice)] for reason, advice in HALT_ADVICE.items()))


def _shape(module: ModuleType) -> str:
    """The JSON that a module's docstring describes."""
    assert module.__doc__
    shape = module.__doc__.split("always present:\n\n")[1]
    return f"```text\n{textwrap.dedent(shape).rstrip()}\n```"


def summary_json() -> str:
    return _shape(summary)


def status_json() -> str:
    return _shape(status_json_room)


BLOCKS = {
    "explain": explain,
    "states": states,
    "record": record,
    "warnings": warnings,
    "words": words,
    "failures": failures,
    "lifecycle": lifecycle,
    "flags": flags,
    "exits": exits,
    "halts": halts,
    "summary_json": summary_json,
    "status_json": status_json,
    "wire": wire_chart.table,
    "benchmarks": table.table,
}
