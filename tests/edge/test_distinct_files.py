"""No two files of a command are one, by whatever name."""

import os
from pathlib import Path

import pytest

from batchrun.core.settings.settings import UsageError
from batchrun.edge.append_file import FileNames, FileRefused, InputIsOutput, refuse_shared, write_whole


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
        refuse_shared(FileNames.of("out"), "in", {"log_json": "log", "summary": path})
    assert str(found.value).startswith(f"--summary {path}: expected a file of its own")
    assert str(found.value).endswith("give another name")


def test_a_redirected_input_counts():
    with Path("in").open() as stdin, pytest.raises(UsageError, match="the input stdin"):
        refuse_shared(FileNames.of("out"), stdin.fileno(), {"summary": "in"})


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
        refuse_shared(FileNames.of("out.jsonl", journal), "in", {"summary": "summary", "log_json": "log"})


@pytest.mark.parametrize("which", ["output", "journal", "requests", "submitted"])
@pytest.mark.parametrize("how", ["path", "symlink", "hard link", "stdin"])
def test_f03_an_input_that_is_an_output_is_refused(tmp_path, how, which):
    names = FileNames.of(tmp_path / "out.jsonl")
    path, source = Path(getattr(names, which)), tmp_path / "in.jsonl"
    path.write_bytes(b"{}\n")
    descriptor = None
    if how == "symlink":
        source.symlink_to(path)
    elif how == "hard link":
        source.hardlink_to(path)
    elif how == "stdin":
        source = descriptor = os.open(path, os.O_RDONLY)
    else:
        source = Path(f"{tmp_path}/../{tmp_path.name}/{path.name}")
    with pytest.raises(InputIsOutput, match="choose another output") as caught:
        refuse_shared(names, source if descriptor else str(source))
    assert str(path) in str(caught.value)
    assert (repr(str(source)) if descriptor is None else "'stdin'") in str(caught.value)
    assert path.read_bytes() == b"{}\n"
    if descriptor is not None:
        os.close(descriptor)


def test_f03_two_files_are_two_files(tmp_path):
    names = FileNames.of(tmp_path / "out.jsonl")
    (tmp_path / "in.jsonl").write_bytes(b"{}\n")
    refuse_shared(names, str(tmp_path / "in.jsonl"))
    Path(names.output).write_bytes(b"{}\n")
    refuse_shared(names, str(tmp_path / "in.jsonl"))
    refuse_shared(names, str(tmp_path / "none"))
    refuse_shared(names, names.spool)  # the copy of an input may be the input again


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
