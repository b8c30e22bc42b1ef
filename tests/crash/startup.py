"""How a batch is taken up again, by the operations that the runner uses: read, fold, recover, cut, rewrite.

Mutants replace the steps.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from batchrun.core.journal.entries import Rewrite, mark
from batchrun.core.journal.fold import JournalState, fold
from batchrun.core.journal.recover import Recovery, forget_places, recover
from batchrun.core.journal.rewrite import announcement, new_journal, new_output
from batchrun.edge.append_file import AppendFile, Disk, cut_torn, open_append, open_to_read, read_chunks, rewrite
from tests.crash.crashing import JOURNAL, NAMES, OUTPUT
from tests.edge.paper_disk import PaperDisk


@dataclass
class Found:
    """What a start-up finds on the disk."""

    state: JournalState
    recovery: Recovery
    journal: bytes
    output: bytes

    @property
    def torn(self) -> bool:
        return self.state.torn or self.recovery.output_good_to < len(self.output)


class Startup:
    """The steps of a start-up, in their order."""

    def look(self, paper: PaperDisk) -> Found:
        disk = paper.disk()
        journal, output = self.read(JOURNAL, disk), self.read(OUTPUT, disk)
        state = self.fold(journal)
        return Found(state, self.recover(state, output), journal, output)

    def read(self, path: str, disk: Disk) -> bytes:
        file = open_to_read(path, disk)
        if file is None:
            return b""
        data = b"".join(read_chunks(file))
        file.close()
        return data

    def fold(self, journal: bytes) -> JournalState:
        return fold(lines_of(journal))

    def recover(self, state: JournalState, output: bytes) -> Recovery:
        return recover(state, output)

    def cut(self, found: Found, disk: Disk) -> None:
        cut_torn(JOURNAL, found.state.good_to, disk)
        cut_torn(OUTPUT, found.recovery.output_good_to, disk)
        self.forget(found, disk)

    def forget(self, found: Found, disk: Disk) -> None:
        if found.state.rewrite is None:
            append_now(JOURNAL, [entry.to_line() for entry in forget_places(found.state, found.recovery)], disk)

    def order(self, found: Found, states: Collection[str], keys: Collection[str]) -> Rewrite:
        return announcement(found.state, found.output[: found.recovery.output_good_to], states, keys)

    def rewrite(self, found: Found, order: Rewrite, disk: Disk, *, announced: bool) -> None:
        output = found.output[: found.recovery.output_good_to]
        rewrite(
            NAMES,
            announce=None if announced else order.to_line(),
            output=new_output(order, output),
            journal=new_journal(found.state, order, output),
            mark=mark,
            disk=disk,
        )


def append_now(path: str, lines: list[bytes], disk: Disk) -> None:
    file = AppendFile(open_append(path, disk), synced=lambda _: None, failed=lambda _: None, mark=mark)
    for line in lines:
        file.append(line)
    file.close()


def lines_of(data: bytes) -> Iterable[bytes]:
    """The lines of a file with their line ends; the last may have none."""
    parts = data.split(b"\n")
    yield from (part + b"\n" for part in parts[:-1])
    if parts[-1]:
        yield parts[-1]
