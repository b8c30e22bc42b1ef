"""An input that takes rows while it runs: as if they had stood there from the beginning."""

import json
from pathlib import Path

import pytest

from batchrun.core.rows.parse import Admitted, Rejection
from batchrun.edge.append_file import FileNames, set_aside
from batchrun.edge.source import Growing, InputChanged, check


def row(name, text="x"):
    return json.dumps({"custom_id": name, "model": "m", "input": text}).encode()


@pytest.fixture
def grown(tmp_path):
    """An input of two rows, whose last line has no end, and one that an earlier run was given."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(row("a") + b"\n" + row("b"))
    with check(path, spool=tmp_path / "out.jsonl.input", more=[row("earlier") + b"\n"]) as source:
        source.keep()
        yield source


def test_rows_of_the_input_then_of_earlier_runs_then_of_this_one(grown, tmp_path):
    assert isinstance(grown, Growing)
    assert [one.key for one in grown.rows()] == ["a", "b", "earlier"]
    assert grown.append(row("c")).key == "c"
    assert grown.append(row("d")).key == "d"
    assert [one.key for one in grown.rows(2)] == ["earlier", "c", "d"]
    assert (grown.ordinal_of("c"), grown.line_of(3), len(grown), grown.report.rows) == (3, 4, 5, 5)
    assert json.loads(grown.body(4).body)["input"] == "x"
    assert (tmp_path / "in.jsonl").read_bytes() == row("a") + b"\n" + row("b"), "the user's file stays as it is"
    with check(tmp_path / "out.jsonl.input") as again:  # what the command would resume with
        assert [one.key for one in again.rows()] == ["a", "b", "earlier", "c", "d"]
        assert [one.row_sha256 for one in again.rows()] == [one.row_sha256 for one in grown.rows()]


def test_rows_without_an_id_are_told_apart_as_in_a_file(grown):
    line = b'{"model":"m","input":"same"}'
    first, second, third = (grown.append(line).key for _ in range(3))
    assert (second, third) == (f"{first}-2", f"{first}-3")
    assert [grown.ordinal_of(key) for key in (first, second, third)] == [3, 4, 5]


def test_what_is_given_is_judged_before_it_is_taken(grown):
    assert isinstance(grown.judge(b"{"), Rejection)
    same, other, new = grown.judge(row("a")), grown.judge(row("a", "y")), grown.judge(row("z"))
    assert isinstance(same, Admitted)
    assert (grown.like(same), grown.like(other), grown.like(new)) == (True, False, None)
    assert grown.like(grown.judge(b'{"input": "x", "custom_id": "a", "model": "m"}')), "however it is written"
    assert len(grown) == 3


def test_many_rows_from_none(tmp_path):
    path = tmp_path / "none.jsonl"
    path.write_bytes(b"")
    with check(path, spool=tmp_path / "s", more=()) as source:
        assert len(source) == 0
        keys = [source.append(row(f"r{n}")).key for n in range(3_000)]
        assert [one.key for one in source.rows()] == keys
        assert source.ordinal_of("r2999") == 2_999


def test_a_copy_that_somebody_changes_is_noticed(grown, tmp_path):
    grown.append(row("c"))
    copy = tmp_path / "out.jsonl.input"
    copy.write_bytes(copy.read_bytes().replace(b'"c"', b'"x"'))
    with pytest.raises(InputChanged, match="changed since it was checked"):
        list(grown.rows())


def test_fresh_leaves_the_copy_that_is_being_written(tmp_path):
    names = FileNames.of(tmp_path / "out.jsonl")
    (tmp_path / "in.jsonl").write_bytes(row("the new batch's own") + b"\n")
    for path in (names.output, names.journal, names.spool, names.submitted):
        Path(path).write_text("old\n")
    with check(tmp_path / "in.jsonl", spool=names.spool, more=()) as source:
        moved = dict(set_aside(names, 0.0))
        assert set(moved) == {names.output, names.journal, names.spool, names.submitted}
        source.keep()
        assert Path(names.spool).read_bytes() == row("the new batch's own") + b"\n"
