"""Records that are to be replaced: rows to try again, rows whose line was fixed.

The output is written again without them, the journal with what must be known of them, as one operation that a
crash may interrupt anywhere: whoever finds its announcement does it again. Nothing is paid for here: a row
with a job id is polled by that id before anything is sent again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from batchrun.core.journal.entries import TAGS, Dropped, Rewrite, mark, read_line
from batchrun.core.journal.rewrite import announcement, new_journal, new_output
from batchrun.core.responses.outcome import Billing
from batchrun.core.settings.settings import Settings
from batchrun.core.taxonomy.rules import State
from batchrun.core.text.readable import many
from batchrun.edge.append_file import rewrite
from batchrun.edge.source import Checked
from batchrun.runner.opening.compare import options, was_refused
from batchrun.runner.opening.damage import refuse_doubts
from batchrun.runner.opening.open import OpenBatch
from batchrun.runner.opening.read import fold_file, lines_of, output_of, recovered

_REJECTED = State.REJECTED.value
_ALL = frozenset(state.value for state in State) - {State.SUCCEEDED.value}


def rewrite_as_wanted(batch: OpenBatch, source: Checked | None, settings: Settings) -> None:
    """Finish a rewriting that was interrupted, then drop the records that `settings` and a fixed input ask for."""
    before = batch.recovery
    if batch.state.rewrite is not None:
        _carry_out(batch, batch.state.rewrite, announced=True)
        batch.notes.append("finished a rewriting of the output that an earlier run had started")
    if batch.new_flags is not None:
        _take_flags(batch, batch.new_flags)
    if source is not None:
        fixed, gone = _refused(batch, source)
        _drop(batch, _ALL, fixed, ": refused before, now fixed in the input")
        _drop(batch, _ALL, gone, ": refused before, no longer in the input")
    states = set() if settings.retry_failed is None else set(settings.retry_failed) or set(_ALL)
    if settings.resubmit_unconfirmed:
        states.add(State.UNCONFIRMED.value)
    if states:
        _drop(batch, states, None, ": to be retried")
    if source is not None and batch.recovery is not before:
        batch.differences.find_absent(batch.recovery)


def _take_flags(batch: OpenBatch, flags: dict[str, Any]) -> None:
    """Write the journal again with these flags in its header."""
    assert batch.state.header is not None
    batch.state.header = batch.header = replace(batch.state.header, body_flags=flags)
    _carry_out(batch, Rewrite(batch.state.gen + 1, {}), announced=False)
    batch.notes.append(("nothing was sent before: every row runs with ", *options(flags)))


def _drop(batch: OpenBatch, states: Collection[str], keys: Collection[str] | None, why: str) -> None:
    """Take the records with these states out of the output; with `keys` those alone that show that no job was created."""
    if keys is not None and not keys:
        return
    with output_of(batch.names) as output:
        order = announcement(batch.state, output, states, keys)
    if keys is not None:
        order = replace(order, keys={key: row for key, row in order.keys.items() if _is_refusal(row)})
    if order.keys:
        _carry_out(batch, order, announced=False)
        batch.notes.append(f"took {many(len(order.keys), 'record')} out of the output{why}")


def _is_refusal(row: Dropped) -> bool:
    return row["job_id"] is None and row["billing"] == Billing.NOT_BILLED


def _carry_out(batch: OpenBatch, order: Rewrite, *, announced: bool) -> None:
    if batch.recovery.doubts:
        refuse_doubts(batch.names, list(batch.recovery.doubts))
    with output_of(batch.names) as output:
        rewrite(
            batch.names,
            announce=None if announced else order.to_line(),
            output=new_output(order, output),
            journal=new_journal(batch.state, order, output, _unknown_lines(batch)),
            mark=mark,
        )
    batch.state = fold_file(batch.names.journal)
    batch.recovery = recovered(batch.names, batch.state)


def _unknown_lines(batch: OpenBatch) -> Iterator[bytes]:
    """The lines of the journal that hold entries unknown here."""
    for line in lines_of(batch.names.journal) if batch.state.unknown else ():
        entry = read_line(line)
        if entry is not None and entry[0] not in TAGS:
            yield line


def _refused(batch: OpenBatch, source: Checked) -> tuple[set[str], set[str]]:
    """Rows that were only ever refused: those that are otherwise now, and those that are no longer in the input.

    A row without a custom_id is another one once its line is another.
    """
    state, recovery = batch.state, batch.recovery
    fixed = batch.differences.refused & recovery.finished.keys()
    if batch.new_flags is not None:  # every row is another one
        fixed = {
            key for key in recovery.finished if key in state.journaled_rows and state.journaled_rows[key].only_refused
        }
    rejected = {key for key, how in recovery.finished.items() if how == _REJECTED}
    there = set()
    for key, ordinal in batch.differences.input_rows if rejected else ():
        if key in rejected:
            there.add(key)
            journaled = state.journaled_rows.get(key)
            if (journaled is None or not journaled.row_sha256) and not source.is_bad(ordinal):
                fixed.add(key)
    return fixed, {key for key in rejected - there if was_refused(state, recovery, key)}
