import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from batchrun.cli import main
from batchrun.cli.check import _bytes, _short, _size
from batchrun.core.taxonomy.rules import TAXONOMY, WordField

ROOT = Path(__file__).parent.parent.parent
GOOD, BROKEN = (str(ROOT / "samples" / name) for name in ("good.jsonl", "broken.jsonl"))


def test_a_good_input(capsys):
    assert main(["check", GOOD]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "good.jsonl: 11 rows, 1.5 KB\n" in out
    assert "/chat/completions    gpt-5-nano                 1" in out
    assert out.endswith("ready to run\n")
    assert "problems" not in out


# What the check says of samples/broken.jsonl, line by line; the other lines are good.
SAID = {
    2: "invalid_json", 3: "invalid_json", 4: "invalid_json", 5: "invalid_utf8", 6: "invalid_unicode", 7: "not_an_object",
    8: "invalid_custom_id", 10: "no_body", 11: "no_model", 12: "unknown_url", 13: "unknown_url", 14: "invalid_method",
    15: "unknown_field", 16: "unknown_field", 17: "duplicate_id", 18: "invalid_method", 21: "row_too_large",
}  # fmt: skip


def test_every_problem_has_its_line(capsys):
    assert main(["check", BROKEN, "--max-row", "2000", "--json"]) == 2
    facts = json.loads(capsys.readouterr().out)
    assert {one["line"]: one["code"] for one in facts["problems"]["first"]} == SAID
    assert [(one["line"], one["code"]) for one in facts["warnings"]["first"]] == [
        (19, "duplicate_key"),
        (20, "stream_overridden"),
    ]
    assert (facts["ok"], facts["rows"], facts["bad_rows"], facts["blank_lines"]) == (False, 20, 17, 1)


def test_the_broken_sample_holds_every_kind_of_bad_row():
    said_by_us = {rule.word for rule in TAXONOMY if rule.field is WordField.TOOL and rule.kind == "BadRequestError"}
    assert set(SAID.values()) == said_by_us


def test_a_broken_input_for_people(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    assert main(["check", BROKEN]) == 2
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 90
    assert "  line 17  duplicate_id       custom_id 'fine-1' is already used on line 1" in out
    assert "leave them out with --skip-bad" in out
    assert "\x1b" not in out


def test_a_field_that_may_be_meant_for_nobody_is_a_warning(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"prompt": "x", "model": "m", "label": "spam"}\n' * 3)
    assert main(["check", "in.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "warnings:\n  line 1  unknown_body_field  unknown field 'label' of /responses, sent as" in out
    assert out.count("'label'") == 1
    assert out.endswith("\nready to run\n")
    assert max(map(len, out.splitlines())) <= 80
    assert main(["check", GOOD]) == 0
    assert "warnings" not in capsys.readouterr().out


def test_a_csv_is_told_in_lines_that_can_be_copied(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text("custom_id,prompt\n1,hello\n")
    for command in (["check", "in.csv"], ["in.csv", "-o", "out.jsonl", "--demo"]):
        assert main(command) == 2
        err = capsys.readouterr().err.splitlines()
        assert err[0].endswith(": in.csv: expected JSON lines, got CSV; convert it:")
        assert err[1].startswith("    python3 -c 'import csv, json; ")
        assert err[1].endswith("' < in.csv > in.jsonl")
        assert err[2:] == ["then run in.jsonl"]
    assert [one.name for one in tmp_path.iterdir()] == ["in.csv"]


def test_bad_rows_can_be_skipped(capsys):
    assert main(["check", BROKEN, "--skip-bad", "--model", "gpt-5"]) == 0
    assert "5 rows would be sent; 15 would be written to the output as rejected" in capsys.readouterr().out


def test_many_problems_are_counted(tmp_path, capsys):
    path = tmp_path / "in.jsonl"
    path.write_text("{\n" * 30 + "[]\n" * 5)
    assert main(["check", str(path)]) == 2
    out = capsys.readouterr().out
    assert "… 35 in all: 30 invalid_json, 5 not_an_object" in out
    assert "line 21" not in out


def test_i01_an_empty_input(tmp_path, capsys):
    path = tmp_path / "in.jsonl"
    path.touch()
    assert main(["check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "in.jsonl: 0 rows, 0 B\n" in out
    assert out.endswith("nothing to do: the input is empty\n")
    assert main(["check", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["largest_row"] is None


def test_i09_hidden_characters_are_shown_escaped(tmp_path, capsys):
    path = tmp_path / "in\x1b[2J.jsonl"
    line = json.dumps({"custom_id": "a\0\x1b[31m\u202e", "body": {"input": "x", "model": "m\x07"}})
    path.write_text(f"{line}\n{line}\n")
    assert main(["check", str(path)]) == 2
    out = capsys.readouterr().out
    assert not {"\0", "\x1b", "\x07", "\u202e"} & set(out)
    assert "x1b[31m" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such-file"], "cannot read no-such-file: no such file or directory"),
        ([str(ROOT)], "is a folder: give a file in it"),
        ([GOOD, "--set", "temperature"], "write --set temperature=0.2"),
        ([GOOD, "--set", "stream=true"], "batchrun itself decides"),
        ([GOOD, "--model", ""], "give a model"),
    ],
)
def test_f01_what_cannot_be_checked_is_named(arguments, says, capsys):
    assert main(["check", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err


def test_a_wrong_size_is_named(capsys):
    with pytest.raises(SystemExit) as end:
        main(["check", GOOD, "--max-row", "1e6"])
    assert end.value.code == 2
    assert "expected bytes, or 500k, 32M, 1G; got '1e6'" in capsys.readouterr().err


def test_f02_standard_input(tmp_path):
    data = gzip.compress(Path(GOOD).read_bytes())
    command = [sys.executable, "-m", "batchrun", "check", "-"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, input=data, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"standard input: 11 rows")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("500k", 512_000), ("32M", 32 << 20), ("32MiB", 32 << 20), ("1GB", 1 << 30)]
)
def test_sizes_are_read(text, size):
    assert _size(text) == size


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (999_960, "1.0 MB"), (2_345_678, "2.3 MB"), (5 * 10**12, "5.0 TB")],
)
def test_sizes_are_shown(count, shown):
    assert _bytes(count) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(7, "7"), (1234, "1,200"), (1_250_000, "1.2 million"), (3_000_000_000, "3.0 billion")]
)
def test_estimates_have_two_digits(count, shown):
    assert _short(count) == shown
