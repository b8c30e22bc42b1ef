"""What a journal and the run that takes it up must agree on: the service, the flags, the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from batchrun.core.journal.entries import Header
from batchrun.core.journal.fold import JournalState
from batchrun.core.journal.recover import Recovery
from batchrun.core.settings.settings import Settings, UsageError
from batchrun.core.taxonomy.rules import State
from batchrun.core.text.readable import Option, Part, many, visible
from batchrun.edge.append_file import FileNames
from batchrun.edge.source import InputRefused
from batchrun.edge.source.checked import Checked, FoundRows
from batchrun.runner.opening.read import refuse
from batchrun.runner.opening.repair import records_behind
from batchrun.services.of_batch import DEMO, explicit_flags, spelled

NAMED = 10  # rows that are named one by one


@dataclass(frozen=True, slots=True)
class Identity:
    """What a journal keeps of its batch, and a later run must agree with."""

    service: str
    origin: str
    account: str
    body_flags: Mapping[str, Any]
    fingerprint_of: Callable[[bytes], str | None]  # salt -> fingerprint of the API key, None where it has none


def compare_header(names: FileNames, header: Header, identity: Identity) -> bool:
    """Refuse the header of another batch; return whether the API key is the one that started it."""
    if (header.origin, header.service) != (identity.origin, identity.service):
        theirs, ours = _place(header.service, header.origin), _place(identity.service, identity.origin)
        refuse(
            names.journal,
            f"this batch was started on {theirs}, now it is {ours}",
            ("give the same service: ", *spelled(explicit_flags(header))),
        )
    if header.account != identity.account:
        theirs, ours = header.account or "none", identity.account or "none"
        refuse(
            names.journal,
            f"this batch was started for {theirs}, now it is {ours}",
            "set the same organisation and project",
        )
    fingerprint = identity.fingerprint_of(header.run_id.encode())
    return not (header.key_fingerprint and fingerprint) or fingerprint == header.key_fingerprint


def _place(service: str, origin: str) -> str:
    """A service and where it is; the demo has no address that lasts."""
    return "the demo service" if service == DEMO else f"{service} at {origin}"


def compare_flags(
    names: FileNames, state: JournalState, recovery: Recovery, identity: Identity, settings: Settings
) -> bool:
    """Refuse flags that enter bodies and are not those of the batch; return whether they take the place of its own.

    They do where nothing was ever sent, or all of it was refused: as with a wrong --model.
    """
    header = state.header
    assert header is not None
    if dict(header.body_flags) == dict(identity.body_flags):
        return False
    if not recovery.open_journaled and all(was_refused(state, recovery, key) for key in recovery.finished):
        return True
    if settings.accept_changes:
        return False
    raise UsageError(
        (
            "this batch was started with ",
            *options(header.body_flags),
            ", now it is ",
            *options(identity.body_flags),
        ),
        ("give the same settings, or ", Option("accept_changes"), " for the rows not yet sent"),
        names.journal,
    )


def options(flags: Mapping[str, Any]) -> tuple[Part, ...]:
    """The flags that enter bodies, as they are typed."""
    found = [Option("model", flags["model"])] if flags.get("model") else []
    found += [Option("set", f"{name}={value}") for name, value in (flags.get("set") or {}).items()]
    if not found:
        return "no ", Option("model"), " and no ", Option("set")
    return found[0], *(part for option in found[1:] for part in (" ", option))


def find_rows(source: Checked, state: JournalState, recovery: Recovery) -> FoundRows:
    """The rows of the input that journal or output know."""
    return source.find_all(_known(state, recovery))


def _known(state: JournalState, recovery: Recovery) -> Iterator[tuple[str, str]]:
    """All rows that the files know, each with the hash that it had when it was sent."""
    journaled_rows = state.journaled_rows
    for key, journaled in journaled_rows.items():
        yield key, journaled.row_sha256
    for key in recovery.finished:
        if key not in journaled_rows:
            yield key, ""


@dataclass(slots=True)
class Differences:
    """How the rows of the input differ from those that the journal knows."""

    input_rows: FoundRows = field(default_factory=FoundRows)
    changed: set[str] = field(default_factory=set)  # keys of open rows whose line is not the one that was sent
    vanished: list[str] = field(default_factory=list)  # keys of open rows that the input no longer holds
    elsewhere: int = 0  # finished rows that it no longer holds
    refused: set[str] = field(default_factory=set)  # keys of changed rows whose record says how they were refused
    kept: list[str] = field(default_factory=list)  # keys of changed rows that were sent, and keep their job or record

    def find_absent(self, recovery: Recovery) -> None:
        """Find the rows of the journal that the input does not hold."""
        finished, open_journaled, keys = recovery.finished, recovery.open_journaled, self.input_rows.keys
        self.vanished = []
        if sum(map(open_journaled.__contains__, keys)) < len(open_journaled):
            self.vanished = sorted(open_journaled.keys() - set(keys))
        self.elsewhere = len(finished) - sum(map(finished.__contains__, keys))


def compare_rows(
    names: FileNames, state: JournalState, recovery: Recovery, source: Checked, settings: Settings
) -> Differences:
    """The rows of the journal against those of the input, in one pass. Raises InputRefused for another input."""
    assert state.header is not None
    journaled_rows, finished, open_journaled = state.journaled_rows, recovery.finished, recovery.open_journaled
    result = Differences()
    if not journaled_rows and not finished:
        return result
    rows = result.input_rows = find_rows(source, state, recovery)
    result.changed = {key for key, _ in rows.changed if key in open_journaled}
    result.refused = {key for key, _ in rows.changed if key in finished and journaled_rows[key].only_refused}
    sent = [(key, ordinal) for key, ordinal in rows.changed if not journaled_rows[key].only_refused]
    result.kept = [key for key, _ in sent]
    if not result.input_rows and (open_journaled or not all(was_refused(state, recovery, key) for key in finished)):
        raise InputRefused(
            f"none of the {len(journaled_rows.keys() | finished.keys()):,} rows of {names.journal} is in it; the batch was started with "
            f"{state.header.input}",
            ("give that input, or another output with ", Option("out")),
            source.name,
        )
    if sent and not settings.accept_changes:
        changed = sorted(ordinal for _, ordinal in sent)
        lines = ", ".join(f"{source.line_of(ordinal):,}" for ordinal in changed[:NAMED])
        more = f" and {len(changed) - NAMED:,} more" if len(changed) > NAMED else ""
        raise InputRefused(
            f"rows that are in {names.journal} have changed since, on line {lines}{more}",
            (
                "undo the changes, or continue with ",
                Option("accept_changes"),
                ", which applies them only to rows not yet sent",
            ),
            source.name,
        )
    if len(rows) < len(journaled_rows) or finished:  # else the input holds all of them
        result.find_absent(recovery)
    return result


def was_refused(state: JournalState, recovery: Recovery, key: str) -> bool:
    """Whether the record of a finished row says that this batch rejected it, or the service did: no job was created.

    Records that `--new-journal` took over do not count: what was sent for them is unknown.
    """
    journaled = state.journaled_rows.get(key)
    if journaled is None or recovery.finished[key] != State.REJECTED:
        return False
    if journaled.row_sha256:
        return journaled.only_refused
    marker = journaled.marker
    return marker is not None and marker[2] > 0


def named(keys: list[str]) -> str:
    """The first of `keys`, to be read by a person."""
    more = f" and {len(keys) - NAMED:,} more" if len(keys) > NAMED else ""
    return ", ".join(visible(key, 60) for key in keys[:NAMED]) + more


# --- output and journal: one of them missing, or older than the other ---
#
# Either way rows may have been sent that the journal does not know, and would be sent again.


def refuse_foreign(
    names: FileNames, source: Checked, recovery: Recovery, input_rows: FoundRows, size: int, settings: Settings
) -> None:
    """Refuse an output that has no journal, unless the user accepts that rows may be sent again."""
    path, finished = str(names.output), recovery.finished
    if not finished:
        refuse(
            path,
            f"it holds {size:,} bytes that are not records, and may be another program's",
            ("give another output, or move it aside with ", Option("fresh")),
        )
    known = len(input_rows)
    if not settings.new_journal:
        whose = f"{known:,} of them of this input" if known else "none of them of this input: it may be another batch's"
        refuse(
            path,
            f"it holds {len(finished):,} records, {whose}, and there is no journal next to it; {len(source) - known:,} rows "
            "have no record there and may have been sent and paid for",
            (
                "put the journal back, or move the output aside with ",
                Option("fresh"),
                "; ",
                Option("new_journal"),
                " keeps its records and sends the other rows, perhaps again",
            ),
        )
    if more := records_behind(names, recovery.output_good_to):
        refuse(
            path,
            f"it is damaged at byte {recovery.output_good_to:,}, before {more:,} more records",
            "remove the damaged line by hand: without a journal nothing else shows which rows were sent",
        )


def refuse_older_journal(names: FileNames, recovery: Recovery, input_rows: FoundRows | None) -> None:
    """Refuse a journal that does not know rows which have a record of something that was sent.

    An intent is on the disk before its POST, and that before its record: such a journal is a copy from before, or was
    cut. What else was sent since then is unknown, and would be sent again. Of a row that the input does not have nothing
    would be sent.
    """
    strangers = [one.key for one in recovery.strangers]
    if strangers and input_rows is not None:
        there = set(input_rows.keys)
        strangers = [key for key in strangers if key in there]
    if strangers:
        refuse(
            names.journal,
            f"it does not know {many(len(strangers), 'row')} that {'has' if len(strangers) == 1 else 'have'} a record in "
            f"{names.output}, such as {named(strangers)}: it is older than the output, or was cut, and rows may have been sent "
            "that it does not know either",
            (
                "put the newer journal back; or move this one away and give ",
                Option("new_journal"),
                ", which keeps all records and sends the other rows, perhaps again",
            ),
        )
