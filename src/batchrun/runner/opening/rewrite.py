"""Records that are to be replaced: rows to try again, rows whose line was fixed.

The output is written again without them, the journal with what must be known of them, as one operation that a
crash may interrupt anywhere: whoever finds its announcement does it again. Nothing is paid for here: a row
with a job id is polled by that id before anything is sent again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from batchrun.core.journal.entries import TAGS, Rewrite, mark, read_line
from batchrun.core.journal.rewrite import announcement, new_journal, new_output
from batchrun.core.settings.settings import Settings
from batchrun.core.taxonomy.rules import State
from batchrun.core.text.readable import many
from batchrun.edge.append_file import rewrite
from batchrun.edge.source import Checked
from batchrun.runner.opening.open import OpenBatch
from batchrun.runner.opening.read import fold_file, lines_of, output_of, recovered

_REJECTED = State.REJECTED.value
_ALL = frozenset(state.value for state in State) - {State.SUCCEEDED.value}


def rewrite_as_wanted(batch: OpenBatch, source: Checked | None, settings: Settings) -> None:
    """Finish a rewriting that was interrupted, then drop the records that `settings` and a fixed input ask for."""
    if batch.state.rewrite is not None:
        _carry_out(batch, batch.state.rewrite, announced=True)
        batch.notes.append("finished a rewriting of the output that an earlier run had started")
    fixed = _fixed(batch, source)
    if fixed:
        _drop(batch, {_REJECTED}, fixed, "whose lines were fixed in the input")
    states = set() if settings.retry_failed is None else set(settings.retry_failed) or set(_ALL)
    if settings.resubmit_unconfirmed:
        states.add(State.UNCONFIRMED.value)
    if states:
        _drop(batch, states, None, "to be retried")


def _drop(batch: OpenBatch, states: Collection[str], keys: Collection[str] | None, why: str) -> None:
    with output_of(batch.names) as output:
        order = announcement(batch.state, output, states, keys)
    if order.keys:
        _carry_out(batch, order, announced=False)
        batch.notes.append(f"took {many(len(order.keys), 'record')} {why} out of the output")


def _carry_out(batch: OpenBatch, order: Rewrite, *, announced: bool) -> None:
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


def _fixed(batch: OpenBatch, source: Checked | None) -> set[str]:
    """Rows that the check had refused, so that nothing was ever sent for them, and that are good now."""
    if source is None:
        return set()
    journaled_rows = batch.state.journaled_rows
    refused = {
        key
        for key, state in batch.finished.items()
        if state == _REJECTED and (key not in journaled_rows or not journaled_rows[key].row_sha256)
    }
    rows = batch.differences.input_rows if refused else ()
    return {key for key, ordinal in rows if key in refused and not source.is_bad(ordinal)}
