"""What an earlier run left in the folder of artifacts, as a resume finds it."""

from dataclasses import dataclass, field

from batchrun.core.journal.entries import Intent
from batchrun.core.records.artifact_names import row_name
from batchrun.runner.loop.files import find_files
from tests.runner.night import Night, row
from tests.runner.test_open import begun, journal, sha


@dataclass
class Folder:
    """A folder that notes what is done to it, in order."""

    held: list[str]
    path: str = "files"
    done: list[object] = field(default_factory=list)

    def names(self):
        return self.held

    def remove(self, names):
        self.done += names

    def sync(self):
        self.done.append("sync")


def test_half_written_files_are_gone_for_good_before_anything_else_happens(tmp_path):
    """A power cut would bring a name back whose removal is not synced; once its row has a record nothing looks for it."""
    night = Night(tmp_path)
    night.rows(row("a", "A"), row("b", "B"))
    begun(night)
    journal(night, Intent("a", 1, sha(night, "a"), 0.0))
    batch = night.open()
    run_id = batch.header.run_id
    half, whole = f".{row_name(run_id, 'a')}-0.bin.new", f"{row_name(run_id, 'a')}-1.bin"
    folder = Folder([half, whole, "another.txt"])
    find_files(batch, folder)
    assert folder.done == [half, "sync"]
    assert batch.files == {"a": (whole,)}
    untouched = Folder([whole])
    find_files(batch, untouched)
    assert untouched.done == []
    night.close()
