"""What other processes want of a run, between the file of requests and the engine.

A cancel request is one line of OUT.requests: ``{"cancel": ["row-7", …] or "all", "run_id": "…", "at": …}``. Rows are named by
their keys or by their jobs' ids. A request for another batch, whose files once were here, is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

from batchrun.core.jobs.jobs import CancelReason
from batchrun.core.jobs.messages import CancelRequested
from batchrun.core.journal.fold import JournaledRow
from batchrun.edge.append_file import BatchFilesError, FileNames
from batchrun.edge.cancel_file import CancelFile

ALL = "all"


class CancelRequestReader:
    """Reads the cancel requests for one batch, each once. `heard_to` is how far an earlier run had read and accepted them;
    with `everything` one of those asked to end all rows."""

    def __init__(
        self, names: FileNames, run_id: str, heard_to: int, *, everything: bool, noted: Callable[[str], None]
    ) -> None:
        self._file = CancelFile(names.requests, heard_to)
        self._run_id = run_id
        self._everything = everything
        self._noted = noted
        self._already_noted: set[str] = set()
        self._names: frozenset[str] = frozenset()
        self._odd = 0

    @property
    def wanted(self) -> frozenset[str] | None:
        """The names that were read last; None once it was all rows."""
        return None if self._everything else self._names

    def new(self, are_to_come: Callable[[str], bool]) -> list[CancelRequested]:
        """The requests since the last call, as events. What cannot be read is noted once and does no harm."""
        try:
            requests = self._file.read_new()
        except BatchFilesError as error:
            self._note_once(f"what `batchrun cancel` asks for is not heard: {error}")
            return []
        wanted = [one.get("cancel") for one in requests if one.get("run_id") == self._run_id]
        lists = [one for one in wanted if _is_list_of_names(one)]
        self._names = frozenset(name for one in lists for name in one)
        everything = ALL in (one for one in wanted if isinstance(one, str))
        self._odd += sum(one != ALL and not _is_list_of_names(one) for one in wanted)
        self._everything |= everything
        if self._odd + self._file.unreadable:
            self._note_once(f"{self._file.path} holds lines that no `batchrun cancel` wrote; they are passed over")
        offset, events = self._file.offset, []
        if self._names or (requests and not everything):  # one for another batch is accepted too
            unread = frozenset(filter(are_to_come, self._names))
            events.append(CancelRequested(self._names, CancelReason.USER, unread, offset))
        if everything:
            events.append(CancelRequested(None, CancelReason.USER, read_to=offset))
        return events

    def concerns(self, key: str, trail: JournaledRow) -> bool:
        """Whether the row is to end: by what was read last, or by an earlier request that was journaled."""
        wanted = self.wanted
        return trail.cancel is not None or wanted is None or key in wanted or trail.job_id in wanted

    def _note_once(self, text: str) -> None:
        if text not in self._already_noted:
            self._already_noted.add(text)
            self._noted(text)


def _is_list_of_names(wanted: Any) -> TypeGuard[list[str]]:
    return isinstance(wanted, list) and all(isinstance(name, str) for name in wanted)


def cancel_request(names: Iterable[str] | None, run_id: str, at: float) -> dict[str, Any]:
    """The line that asks for the end of the rows with these names; None asks for all."""
    return {"cancel": ALL if names is None else list(names), "run_id": run_id, "at": at}
