"""What a later command knows of a batch from its files."""

import os
from pathlib import Path

import pytest

from batchrun.core.journal.entries import Header
from batchrun.core.settings.settings import UsageError
from batchrun.runner.session import start_of


def begun(folder, **more):
    header = Header(
        1, "run", "openai", "https://api.openai.com", "", "", {"model": "m"}, str(folder / "in.jsonl"), 1.0, **more
    )
    (folder / "out.jsonl.journal").write_bytes(header.to_line())
    return str(folder / "out.jsonl")


def test_the_folder_of_files_is_found_from_anywhere(tmp_path, monkeypatch):
    night = tmp_path / "night"
    night.mkdir()
    output = begun(night, artifacts="images")
    for place in (tmp_path, night, tmp_path.parent):
        monkeypatch.chdir(place)
        start = start_of(os.path.relpath(output))
        given = start.settings
        assert start.input == str(night / "in.jsonl")
        assert Path(given["artifacts"]).resolve() == night / "images"
        assert given["model"] == "m"
    night.rename(tmp_path / "copied")
    monkeypatch.chdir(tmp_path)
    assert Path(start_of("copied/out.jsonl").settings["artifacts"]).resolve() == tmp_path / "copied" / "images"


def test_a_batch_without_such_a_folder_names_none(tmp_path):
    assert "artifacts" not in start_of(begun(tmp_path)).settings
    with pytest.raises(UsageError, match="there is no batch to resume here"):
        start_of(str(tmp_path / "other.jsonl"))
