"""No two files of a command are one, by whatever name."""

import os
from pathlib import Path

import pytest

from batchrun.core.settings.usage_error import UsageError
from batchrun.edge.append_file import FileNames, FileRefused, refuse_shared, write_whole


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").write_text("{}")
    Path("link").symlink_to("in")
    os.link("in", "hard")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("in", "the input in"), ("./in", "the input in"), ("link", "the input in"), ("hard", "the input in"),
        ("out", "the output"), ("out.journal", "the journal"), ("out.lock", "the lock"), ("out.requests", "keeps"),
        ("out.input", "keeps"), ("out.submitted", "keeps"), ("out.journal.new", "keeps"), ("log", "--log-json: log"),
    ],
)  # fmt: skip
def test_a_file_beside_the_batch_is_none_of_its_files(path, what):
    with pytest.raises(UsageError, match=what) as found:
        refuse_shared(FileNames.of("out"), "in", {"--log-json": "log", "--summary": path})
    assert str(found.value).startswith(f"--summary {path}: expected a file of its own")
    assert str(found.value).endswith("give another name")


def test_a_redirected_input_counts():
    with Path("in").open() as stdin, pytest.raises(UsageError, match="the input stdin"):
        refuse_shared(FileNames.of("out"), stdin.fileno(), {"--summary": "in"})


@pytest.mark.parametrize(
    ("output", "journal", "flag"),
    [
        ("out", "out", "--journal"), ("out", "out.lock", "--journal"), ("out", "out.requests", "--journal"),
        ("kept.lock", "kept", "-o"), ("in", "hard", "--journal"),
    ],
)  # fmt: skip
def test_journal_and_output_are_two_files(output, journal, flag):
    with pytest.raises(UsageError, match=f"^{flag} .*expected a file of its own"):
        refuse_shared(FileNames.of(output, journal))


def test_files_of_their_own_pass():
    for journal in (None, "kept", "out.jsonl.journal"):
        refuse_shared(FileNames.of("out.jsonl", journal), "in", {"--summary": "summary", "--log-json": "log"})


def test_a_whole_file_is_private_and_replaces_what_was_there():
    Path("summary").write_text("old")
    Path("summary").chmod(0o644)
    os.link("summary", "kept")
    write_whole("summary", b"new\n")
    assert (Path("summary").read_bytes(), Path("summary").stat().st_mode & 0o777) == (b"new\n", 0o600)
    assert Path("kept").read_text() == "old"
    assert not list(Path().glob("*.new"))


def test_a_whole_file_goes_through_no_link_and_to_no_device():
    for path in ("link", os.devnull):
        with pytest.raises(FileRefused, match="expected a regular file"):
            write_whole(path, b"new\n")
    assert Path("in").read_text() == "{}"
