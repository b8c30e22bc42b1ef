"""Output and journal that do not belong together: one of them is missing, or older than the other.

Either way rows may have been sent that the journal does not know, and would be sent again.
"""

from __future__ import annotations

from batchrun.core.journal.fold import JournalState
from batchrun.core.journal.recover import Recovery
from batchrun.core.settings.settings import Settings
from batchrun.core.taxonomy.states import State
from batchrun.core.text.units import many
from batchrun.core.text.wording import Option
from batchrun.edge.append_file import FileNames
from batchrun.edge.source.checked import Checked
from batchrun.runner.opening.compare import named
from batchrun.runner.opening.read import refuse
from batchrun.runner.opening.repair import records_behind


def refuse_foreign(names: FileNames, source: Checked, recovery: Recovery, size: int, settings: Settings) -> int:
    """Refuse an output that has no journal, unless it is known that rows may be sent again.

    Returns how many of its records are of no row of the input.
    """
    path, finished = str(names.output), recovery.finished
    if not finished:
        refuse(
            path,
            f"it holds {size:,} bytes that are no records, and may be another program's",
            ("name another output, or move it aside with ", Option("fresh")),
        )
    known = sum(key in finished for key in source.all_keys())
    if not settings.new_journal:
        whose = f"{known:,} of them of this input" if known else "none of them of this input: it may be another batch's"
        refuse(
            path,
            f"it holds {len(finished):,} records, {whose}, and there is no journal beside it; {len(source) - known:,} rows "
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
            "take the damaged line out by hand: without a journal nothing else tells which rows were sent",
        )
    return len(finished) - known


def refuse_older_journal(names: FileNames, state: JournalState, recovery: Recovery) -> None:
    """Refuse a journal that does not know rows which have a record of something that was sent.

    An intent is on the disk before its POST, and that before its record: such a journal is a copy from before, or was
    cut. What else was sent since then nobody can know, and it would be sent again.
    """
    unsent = (State.REJECTED, State.CANCELLED)  # these may end without a request
    strangers = [key for key, how in recovery.finished.items() if key not in state.trails and how not in unsent]
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
