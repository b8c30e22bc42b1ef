"""What the entries of one row amount to, in whatever order they stand.

A journal that somebody edited may hold a row's lines in another order than they were written, or twice. No fact is lost
by that: attempts count up, and within one an intent comes first, and its end last. So the lines are read by what they
say and not by where they stand.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from batchrun.core.journal.entries import (
    AttemptEnded,
    Cancelling,
    Cleared,
    Done,
    Intent,
    PollAgain,
    Submitted,
    Unconfirmed,
)
from batchrun.core.journal.fold import PLACE, JournaledRow
from batchrun.core.responses.verdict import is_safe_id


def put_in_order(entries: Iterable[tuple[str, dict[str, Any]]]) -> JournaledRow:
    """What `entries` (tag and fields) say of their row. A doubled one counts once.

    An attempt counts as open where it has more intents than clearances: a refused row has one of each for every POST.
    """
    said: dict[str, list[dict[str, Any]]] = {}
    for tag, values in entries:
        if values not in said.setdefault(tag, []):
            said[tag].append(values)
    row = JournaledRow()
    ends = {values["attempt"]: AttemptEnded.of(values) for values in said.get(AttemptEnded.tag, ())}
    row.ended = tuple(ends[attempt] for attempt in sorted(ends))
    attempts = (Intent.tag, Cleared.tag, Submitted.tag, Unconfirmed.tag)
    begun = [values["attempt"] for tag in attempts for values in said.get(tag, ())]
    row.attempt = attempt = max([1, *begun, *(ended + 1 for ended in ends)])

    def of_it(tag: str) -> list[dict[str, Any]]:
        return [values for values in said.get(tag, ()) if values["attempt"] == attempt]

    intents, cleared = of_it(Intent.tag), of_it(Cleared.tag)
    submitted = [values for values in of_it(Submitted.tag) if is_safe_id(values["job_id"])]
    row.unconfirmed = bool(of_it(Unconfirmed.tag))
    if submitted:
        row.job_id, row.submitted_at = submitted[-1]["job_id"], submitted[-1]["at"]
        row.again = next((values["state"] for values in of_it(PollAgain.tag)), None)
    elif not row.unconfirmed:
        row.open_since = max(values["at"] for values in intents) if len(intents) > len(cleared) else None
    if attempt - 1 in ends and not (intents or cleared or submitted or row.unconfirmed):
        row.retry_at = ends[attempt - 1].retry_at
    for values in sorted(said.get(Intent.tag, ()), key=lambda values: values["attempt"]):
        row.row_sha256 = values["row_sha256"] or row.row_sha256
    for values in said.get(Cancelling.tag, ()):
        row.cancel = values["reason"]
    for values in said.get(Done.tag, ()):
        row.recorded_as = values["state"]
        row.recorded_at = PLACE.pack(values["gen"], values["offset"], values["length"], values["crc"])
    return row
