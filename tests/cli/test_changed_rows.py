"""Rows that change between two runs: what was only ever refused runs as it is now, what was sent keeps its result."""

import json

import pytest

from batchrun.cli import main

GOOD = "[[completed]] [[sleep 0.05]]"
WRONG = "[[refuse model_not_found]]"


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Writes the lines of the input and runs the same command on it: exit code, records by key, what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def run(lines, *flags):
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (tmp_path / "in.jsonl").write_text("".join(f"{text}\n" for text in texts))
        typed = ["in.jsonl", "-o", "out.jsonl", "--demo", *flags]
        monkeypatch.setattr("sys.argv", ["batchrun", *typed])
        code = main([*typed, "--poll-min", "0.05", "--poll-max", "0.2"])
        records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert len({record["custom_id"] for record in records}) == len(records)
        return code, {record["custom_id"]: record for record in records}, capsys.readouterr().err

    return run


def row(name, text=GOOD):
    return {"custom_id": name, "body": {"model": "m", "input": text}}


def bare(text, number):
    return {"model": "m", "input": f"{text} {number}"}


@pytest.mark.parametrize("kind", [lambda text, number: row(f"r{number}", text), bare], ids=["custom_id", "without"])
def test_a_wrong_model_in_every_row_is_fixed_in_the_input_and_the_same_command_runs_them(kind, command):
    code, records, said = command([kind(WRONG, number) for number in range(30)])
    assert (code, records) == (3, {}), said
    code, records, said = command([kind(GOOD, number) for number in range(30)])
    assert (code, len(records)) == (0, 30), said
    assert {record["state"] for record in records.values()} == {"succeeded"}
    assert "complete: 30 of 30 rows done" in said


@pytest.mark.parametrize("kind", [lambda text, number: row(f"r{number}", text), bare], ids=["custom_id", "without"])
def test_so_it_is_where_they_have_their_records_already(kind, command):
    code, records, _ = command([kind(WRONG, number) for number in range(3)])
    assert (code, {record["state"] for record in records.values()}) == (1, {"rejected"})
    code, records, said = command([kind(GOOD, number) for number in range(3)])
    assert (code, len(records)) == (0, 3), said
    assert {record["state"] for record in records.values()} == {"succeeded"}
    assert "took 3 records out of the output: refused before, " in said


def test_a_refused_row_is_changed_next_to_rows_that_were_sent(command):
    _, before, _ = command([row("a"), row("b", WRONG), row("c")])
    assert before["b"]["state"] == "rejected"
    code, records, said = command([row("a"), row("b"), row("c")])
    assert (code, records["b"]["state"]) == (0, "succeeded"), said
    assert (records["a"], records["c"]) == (before["a"], before["c"])


def test_a_refused_row_that_did_not_change_keeps_its_record(command):
    _, before, _ = command([row("a"), row("b", WRONG)])
    code, records, _ = command([row("a"), row("b", WRONG)])
    assert (code, records) == (1, before)


def test_a_row_that_was_sent_may_still_not_change(command):
    command([row("a"), row("b", WRONG)])
    code, _, said = command([row("a", f"{GOOD} again"), row("b")])
    assert code == 2
    assert "on line 1;" in said


@pytest.mark.parametrize(
    "bad", ['{"custom_id": "b", broken', '{"custom_id": "b"}', '{"custom_id": "a", "body": {"model": "m", "input": "x"}}']
)  # fmt: skip
def test_with_skip_bad_a_line_that_was_fixed_runs_and_its_rejected_record_goes(bad, command):
    code, records, _ = command([row("a"), bad], "--skip-bad")
    assert (code, sorted(record["state"] for record in records.values())) == (1, ["rejected", "succeeded"])
    code, records, said = command([row("a"), row("b")], "--skip-bad")
    assert (code, {key: record["state"] for key, record in records.items()}) == (
        0,
        {"a": "succeeded", "b": "succeeded"},
    ), said
    assert "complete: 2 of 2 rows done" in said


def test_changes_that_are_accepted_and_keep_an_old_result_are_named(command):
    _, before, _ = command([row("a"), row("b"), row("c")])
    code, records, said = command([row("a"), row("b", f"{GOOD} b"), row("c", f"{GOOD} c")], "--accept-changes")
    assert (code, records) == (0, before)
    assert "2 changed rows had been sent before and their old results are kept: b, c" in said
    _, _, said = command([row("a"), row("b"), row("c")], "--accept-changes")
    assert "changed" not in said


def test_a_rejected_record_that_new_journal_took_over_stays(command, tmp_path):
    """What was sent for it is unknown, and it may be another batch's."""
    _, before, _ = command([row("a"), row("b", WRONG)])
    (tmp_path / "out.jsonl.journal").unlink()
    for flags in (["--new-journal"], []):
        _, records, said = command([row("a"), row("c")], *flags)
        assert records.keys() == {"a", "b", "c"}, said
        assert records["b"] == before["b"]


def test_flags_that_are_accepted_and_reach_no_row_are_named(command):
    prompt = {"custom_id": "a", "prompt": GOOD}
    _, before, _ = command([prompt], "--model", "m")
    code, records, said = command([prompt], "--model", "n", "--accept-changes")
    assert (code, records) == (0, before)
    assert "1 row had been sent before with --model m and its old result is kept" in said


def test_a_wrong_model_flag_may_be_changed_too_as_long_as_nothing_was_accepted(command, tmp_path):
    prompts = [{"custom_id": f"r{number}", "prompt": WRONG} for number in range(25)]
    code, records, _ = command(prompts, "--model", "wrong")
    assert (code, records) == (3, {})
    prompts = [{**prompt, "prompt": GOOD} for prompt in prompts]
    code, records, said = command(prompts, "--model", "right")
    assert (code, len(records)) == (0, 25), said
    assert {record["model"] for record in records.values()} == {"right"}
    assert command(prompts, "--model", "right")[0] == 0, "the header has it now"
    code, _, said = command(prompts, "--model", "wrong")
    assert code == 2
    assert "started with --model right, now it is --model wrong" in said


def test_so_it_is_where_rows_have_the_records_of_their_refusals(command):
    prompts = [{"custom_id": name, "prompt": "[[refuse model_not_found 1]] [[sleep 0.05]] " + name} for name in "ab"]
    code, records, _ = command(prompts, "--model", "wrong")
    assert (code, {record["state"] for record in records.values()}) == (1, {"rejected"})
    fine = [{"custom_id": name, "prompt": GOOD} for name in "ab"]
    code, records, said = command(fine, "--model", "right")
    assert (code, {record["model"] for record in records.values()}) == (0, {"right"}), said


def test_rows_that_were_accepted_keep_their_flags(command):
    prompts = [{"custom_id": "a", "prompt": GOOD}, {"custom_id": "b", "prompt": WRONG}]
    command(prompts, "--model", "m")
    code, _, said = command(prompts, "--model", "n")
    assert code == 2
    assert "give the same settings, or --accept-changes" in said
