"""What a journal and the run that takes it up must agree on: the service, the flags, the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from batchrun.core.journal.entries import Header
from batchrun.core.journal.fold import JournalState
from batchrun.core.journal.recover import Recovery
from batchrun.core.settings.settings import Settings
from batchrun.core.settings.usage_error import UsageError
from batchrun.core.text.printable import visible
from batchrun.core.text.wording import Option, Part
from batchrun.edge.append_file import FileNames
from batchrun.edge.source import InputRefused
from batchrun.edge.source.checked import Checked
from batchrun.runner.opening.read import refuse

NAMED = 10  # rows that are named one by one


@dataclass(frozen=True, slots=True)
class Identity:
    """What a journal keeps of its batch, and a later run must agree with."""

    service: str
    origin: str
    account: str
    body_flags: Mapping[str, Any]
    fingerprint_of: Callable[[bytes], str | None]  # salt -> fingerprint of the API key, None where it has none


def compare_header(names: FileNames, header: Header, identity: Identity, settings: Settings) -> bool:
    """Refuse a header that is of another batch; whether the API key is the one that it was begun with."""
    if (header.origin, header.service) != (identity.origin, identity.service):
        theirs, ours = f"{header.service} at {header.origin}", f"{identity.service} at {identity.origin}"
        refuse(
            names.journal,
            f"this batch runs on {theirs}, now it is {ours}",
            ("name the same service, or begin anew with ", Option("fresh")),
        )
    if header.account != identity.account:
        theirs, ours = header.account or "none", identity.account or "none"
        refuse(
            names.journal, f"this batch runs for {theirs}, now it is {ours}", "set the same organisation and project"
        )
    if dict(header.body_flags) != dict(identity.body_flags) and not settings.accept_changes:
        raise UsageError(
            (
                "this batch was begun with ",
                *_options(header.body_flags),
                ", now it is ",
                *_options(identity.body_flags),
            ),
            ("give the same settings, or ", Option("accept_changes"), " for the rows not yet sent"),
            names.journal,
        )
    fingerprint = identity.fingerprint_of(header.run_id.encode())
    return not (header.key_fingerprint and fingerprint) or fingerprint == header.key_fingerprint


def _options(flags: Mapping[str, Any]) -> tuple[Part, ...]:
    found = [Option("model", flags["model"])] if flags.get("model") else []
    found += [Option("set", f"{name}={value}") for name, value in (flags.get("set") or {}).items()]
    if not found:
        return "no ", Option("model"), " and no ", Option("set")
    return found[0], *(part for option in found[1:] for part in (" ", option))


@dataclass(slots=True)
class Differences:
    """How the rows of the input differ from those that the journal knows."""

    changed: set[str] = field(default_factory=set)  # keys of open rows whose line is not the one that was sent
    vanished: list[str] = field(default_factory=list)  # keys of open rows that the input no longer holds
    elsewhere: int = 0  # finished rows that it no longer holds


def compare_rows(
    names: FileNames, state: JournalState, recovery: Recovery, source: Checked, settings: Settings
) -> Differences:
    """The rows of the journal against those of the input, in one pass. Raises InputRefused for another input."""
    assert state.header is not None
    trails, finished, open_trails = state.trails, recovery.finished, recovery.open_trails
    found = Differences()
    if not trails and not finished:
        return found
    missing = set(open_trails)
    known = False
    here = 0
    lines: list[int] = []
    more = 0
    for ordinal, row in enumerate(source.rows()):
        key = row.key
        trail = trails.get(key)
        here += key in finished
        if trail is None:
            continue
        known = True
        missing.discard(key)
        if trail.row_sha256 and row.row_sha256 != trail.row_sha256:
            if key in open_trails:
                found.changed.add(key)
            if len(lines) < NAMED:
                lines.append(source.line_of(ordinal))
            else:
                more += 1
    if not (known or here):
        raise InputRefused(
            f"none of the {len(trails.keys() | finished.keys()):,} rows of {names.journal} is in it, which was begun with "
            f"{state.header.input}",
            ("name that input, or another output with ", Option("out")),
            source.name,
        )
    if lines and not settings.accept_changes:
        told = ", ".join(f"{line:,}" for line in lines) + (f" and {more:,} more" if more else "")
        raise InputRefused(
            f"rows that {names.journal} knows have changed since, on line {told}",
            ("undo the changes, or go on with ", Option("accept_changes"), ": only rows not yet sent take them"),
            source.name,
        )
    found.vanished = sorted(missing)
    found.elsewhere = len(finished) - here
    return found


def named(keys: list[str]) -> str:
    """The first of `keys`, to be read by a person."""
    more = f" and {len(keys) - NAMED:,} more" if len(keys) > NAMED else ""
    return ", ".join(visible(key, 60) for key in keys[:NAMED]) + more
