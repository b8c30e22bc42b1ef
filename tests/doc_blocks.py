"""The parts of the documentation that are generated from the code, in lines that fit a terminal."""

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from enum import EnumType
from types import ModuleType
from typing import get_args, get_origin

from batchrun.cli import status_json as status_json_room
from batchrun.cli import summary
from batchrun.cli.parser import EXIT_CODES, metavar
from batchrun.core.jobs.lifecycle import TRANSITIONS, Phase
from batchrun.core.records.record import Moment, RecordLine, keys_of
from batchrun.core.settings.parsing import spelled
from batchrun.core.settings.settings import FlagGroup, Settings
from batchrun.core.taxonomy.rules import (
    ADDED,
    GROUP_MEANING,
    HALT_ADVICE,
    STATE_MEANING,
    TAXONOMY,
    TAXONOMY_VERSION,
    VERSIONS,
    WORDS,
    Rule,
    State,
)
from batchrun.core.taxonomy.warning_words import WARNINGS
from batchrun.core.text.readable import flag, worded
from benchmarks import table, wire_chart

WIDTH = 78
"""`batchrun help` indents code by two columns."""


def _text(lines: Iterable[str]) -> str:
    return "\n".join(["```text", *lines, "```"])


def _wrapped(text: str, indent: int, first: int | None = None) -> list[str]:
    start = " " * (indent if first is None else first)
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _columns(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Names, and next to them what they mean."""
    rows = list(rows)
    indent = max(len(name) for name, _ in rows) + 2
    for name, meaning in rows:
        first, *more = textwrap.wrap(meaning, WIDTH - indent, break_on_hyphens=False, break_long_words=False)
        yield f"{name:<{indent}}{first}"
        yield from (" " * indent + line for line in more)


def _entries(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Names, and below each what it means."""
    for name, meaning in rows:
        yield name
        yield from _wrapped(meaning, 4)


def states() -> str:
    return _text(_columns((state, meaning.replace("`", "")) for state, meaning in STATE_MEANING.items()))


def record() -> str:
    """The keys of a record, each object's own below it."""
    return _text(
        _entries((f"{name}  ({kind})", meaning.replace("`", "")) for name, kind, meaning in _keys(RecordLine, ""))
    )


def _keys(kind: type, prefix: str) -> Iterator[tuple[str, str, str]]:
    for key in keys_of(kind):
        is_list = get_origin(key.type) is tuple
        of = get_args(key.type)[0] if is_list else key.type
        shown = f"list of {_JSON.get(of, 'object')}s" if is_list else key.schema.get("type") or _JSON.get(of, "object")
        if isinstance(of, EnumType):
            shown = "string" if of is State else ", ".join(one.value for one in of)
        yield f"{prefix}{key.name}", f"{shown} or null" if key.nullable else shown, key.meaning
        if is_dataclass(of):
            yield from _keys(of, f"{prefix}{key.name}{'[]' if is_list else ''}.")


_JSON = {str: "string", int: "integer", float: "number", bool: "boolean", bytes: "any JSON", Moment: "time"}


def warnings() -> str:
    return _text(_entries((word, meaning.replace("`", "")) for word, meaning in WARNINGS.items()))


def words() -> str:
    lines: list[str] = []
    for group, meaning in GROUP_MEANING.items():
        lines += ["", *_wrapped(f"{group}: {meaning}", 4, 0)]
        lines += _wrapped(", ".join(word for word, of in WORDS.items() if of is group), 4)
    return _text(lines[1:])


def failures() -> str:
    """Rules that differ in their word alone stand together."""
    groups: dict[tuple[object, ...], list[Rule]] = {}
    for rule in TAXONOMY:
        same = (rule.state, rule.kind, rule.sdk, rule.retry, rule.halts, rule.billing_reason)
        groups.setdefault(same, []).append(rule)
    lines = [f"version {TAXONOMY_VERSION} of the taxonomy"]
    for rules in groups.values():
        first = rules[0]
        sdk = (
            ""
            if first.sdk is None
            else " (in the openai SDK too)"
            if first.sdk == first.kind
            else f" (openai SDK: {first.sdk})"
        )
        retried = f"retry: {first.retry}" + ("; halts the run" if first.halts else "")
        lines += ["", *_wrapped(f"{first.state}; {first.kind}{sdk}; {retried}", 4, 0)]
        by_field: dict[str, list[str]] = {}
        for rule in rules:
            by_field.setdefault(str(rule.field), []).append(rule.word)
        for where, found in by_field.items():
            lines += _wrapped(f"{where}: {', '.join(found)}", 8, 4)
    return _text(lines)


def taxonomy_versions() -> str:
    """The changelog of the table, the newest version first."""
    lines: list[str] = []
    for version, meaning in sorted(VERSIONS.items(), reverse=True):
        lines += ["", *_wrapped(f"version {version}: {meaning}", 4, 0)]
        for field, added in ADDED.get(version, {}).items():
            lines += _wrapped(f"{field}: {', '.join(added.split())}", 8, 4)
    return _text(lines[1:])


PHASE_MEANING: dict[Phase, str] = {
    Phase.WAITING: "for its turn: a slot, the rate, a pause, the delay before a retry",
    Phase.INTENDING: "the intent is journaled and not yet synced; nothing was sent",
    Phase.SUBMITTING: "the POST is in flight",
    Phase.UNANSWERED: "the response to its POST was lost; waits to be sent again with the same idempotency key",
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
    """The table as text."""
    lines: list[str] = []
    for phase, meaning in PHASE_MEANING.items():
        lines += _wrapped(f"{phase}: {meaning}", 4, 0)
        lines += [f"    {step} → {target}" for (source, step), target in TRANSITIONS.items() if source is phase]
    return _text(lines)


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
    lines: list[str] = []
    for group in FlagGroup:
        lines += ["", f"{group.value}:"]
        for setting in fields(Settings):
            if setting.metadata["group"] is group:
                default = spelled(setting)
                meaning = setting.metadata["help"].replace("%%", "%") + (f" (default {default})" if default else "")
                lines += [f"  {flag(setting.name)} {metavar(setting)}".rstrip(), *_wrapped(meaning, 6)]
    return _text(lines[1:])


def exits() -> str:
    return _text(_columns(EXIT_CODES.items()))


def halts() -> str:
    return _text(_columns((reason.value, worded(advice)) for reason, advice in HALT_ADVICE.items()))


def _shape(module: ModuleType) -> str:
    """The JSON that a module's docstring describes, a key per entry."""
    assert module.__doc__
    shape = textwrap.dedent(module.__doc__.split("always present:\n\n")[1]).rstrip()
    entries: list[tuple[str, str]] = []
    for line in shape.splitlines():
        name, _, meaning = line.partition(" ")
        if name:
            entries.append((name, meaning.strip()))
        else:
            entries[-1] = (entries[-1][0], f"{entries[-1][1]} {meaning.strip()}")
    return _text(_columns(entries))


def summary_json() -> str:
    return _shape(summary)


def status_json() -> str:
    return _shape(status_json_room)


def transport() -> str:
    return _text(wire_chart.table())


def benchmarks() -> str:
    return _text(line for entry in table.lines() for line in (_wrapped(entry, 4, 0) or [""]))


BLOCKS = {
    "states": states,
    "record": record,
    "warnings": warnings,
    "words": words,
    "failures": failures,
    "taxonomy_versions": taxonomy_versions,
    "lifecycle": lifecycle,
    "flags": flags,
    "exits": exits,
    "halts": halts,
    "summary_json": summary_json,
    "status_json": status_json,
    "transport": transport,
    "benchmarks": benchmarks,
}
