"""What an earlier run left in the folder of artifacts, as a resume finds it; where unreadable responses are kept."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from batchrun.core.journal.entries import Intent
from batchrun.core.records.artifact_names import row_name
from batchrun.runner.loop.files import find_files, keep_unreadable
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


def test_an_unreadable_response_is_kept_and_a_later_one_replaces_it(tmp_path):
    folder = tmp_path / "out.unreadable"
    kept = keep_unreadable(str(folder), "row", b"<html>")
    assert keep_unreadable(str(folder), "row", b"<body>") == kept
    assert [(path.read_bytes(), path.stat().st_mode & 0o777) for path in folder.iterdir()] == [(b"<body>", 0o600)]
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to], ids=["o27-symbolic", "o27-hard"])
def test_o27_an_unreadable_response_is_written_through_no_link(tmp_path, link):
    folder, precious = tmp_path / "out.unreadable", tmp_path / "precious"
    precious.write_bytes(b"precious")
    kept = Path(keep_unreadable(str(folder), "row", b"<html>"))
    kept.unlink()
    for path in (kept, kept.with_name(f"{kept.name}.new")):
        link(path, precious)
    assert keep_unreadable(str(folder), "row", b"<html>") == str(kept)
    assert (kept.read_bytes(), kept.is_symlink(), precious.read_bytes()) == (b"<html>", False, b"precious")


def test_o27_a_folder_for_unreadable_responses_that_became_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out.unreadable").symlink_to(tmp_path / "elsewhere")
    assert keep_unreadable(str(tmp_path / "out.unreadable"), "row", b"<html>") is None
    assert list((tmp_path / "elsewhere").iterdir()) == []
