"""The main job, in this process, against the demo service: what a record holds, and how batches are taken up."""

import json
import re

import jsonschema
import pytest

from batchrun.cli import main
from batchrun.core.records.record import RECORD_SCHEMA

VALIDATOR = jsonschema.Draft202012Validator(RECORD_SCHEMA)
QUICK = "[[completed]] [[sleep 0.05]]"


@pytest.fixture
def batch(tmp_path, monkeypatch, capsys):
    """Writes rows and runs the command on them; gives exit code, records by key, and what was said on stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def run(rows=None, *arguments, command=("in.jsonl", "-o", "out.jsonl")):
        if rows is not None:
            (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        monkeypatch.setattr("sys.argv", ["batchrun", *command, "--demo", *arguments])
        code = main([*command, "--demo", "--poll-min", "0.05", "--poll-max", "0.2", *arguments])
        out = tmp_path / "out.jsonl"
        records = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
        for record in records:
            VALIDATOR.validate(record)
        assert len({record["custom_id"] for record in records}) == len(records)
        return code, {record["custom_id"]: record for record in records}, capsys.readouterr().err

    return run


def row(key, text=QUICK, **body):
    return {"custom_id": key, "body": {"model": "m", "input": text, **body}}


def test_i01_an_empty_input_is_no_failure(batch, tmp_path):
    code, records, said = batch([])
    assert (code, records) == (0, {})
    assert said.startswith("0 rows: the input is empty, and nothing is sent\n")
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_the_only_row_and_one_of_several_are_bad_in_good_grammar(batch):
    for rows, says in (
        ([{"promt": 1}], "in.jsonl: the only row is bad and nothing was sent"),
        ([{"promt": 1}, row("a")], "in.jsonl: 1 of 2 rows is bad and nothing was sent"),
        ([{"promt": 1}, {}, row("a")], "in.jsonl: 2 of 3 rows are bad and nothing was sent"),
    ):
        code, _, said = batch(rows)
        assert (code, said.partition(":\n")[0]) == (2, f"batchrun: {says}")


@pytest.mark.parametrize("output", ["adir", "adir/"])
def test_o04_an_output_that_is_a_folder_is_refused_and_leaves_nothing(batch, tmp_path, output):
    (tmp_path / "adir").mkdir()
    code, _, said = batch([row("a")], command=("in.jsonl", "-o", output))
    assert code == 4
    assert f"{output}: expected a regular file, found a folder; give a file in it" in said
    code, _, said = batch(None, command=("collect", "adir"))
    assert (code, "found a folder; give a file in it" in said) == (4, True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["adir", "in.jsonl"]


def test_rows_of_every_form_become_records(batch):
    code, records, actual = batch(
        [row("a"), {"model": "m", "input": QUICK}, {"prompt": QUICK}, {**row("b"), "metadata": {"x": 1}}],
        "--model",
        "n",
    )
    assert (code, len(records)) == (0, 4)
    assert records["b"]["metadata"] == {"x": 1}
    assert {record["model"] for record in records.values()} == {"m", "n"}
    assert "complete: 4 of 4 rows done" in actual


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_what_a_run_prints_fits_the_terminal(columns, batch, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    texts = ["[[fail server_error]]", "[[incomplete]]", "[[refuse invalid_prompt]]", "[[refusal]]"]
    _, _, shown = batch([row("a"), *(row(text, f"{text} [[sleep 0.05]]") for text in texts)], "--retries", "0")
    lines = [line for line in shown.splitlines() if not line.startswith(("  batchrun ", "records: "))]
    assert max(map(len, lines)) <= min(columns, 80)
    assert "complete: 5 of 5 rows done" in shown
    for state in ("succeeded", "internal_error", "rejected"):
        assert re.search(rf"^  {state} +[12]\b", shown, re.MULTILINE), state


def test_i26_what_was_overridden_is_in_the_record(batch):
    _, records, _ = batch([row("a", background=False, stream=True)])
    assert records["a"]["warnings"] == ["background_overridden", "stream_overridden"]


def test_i01_an_empty_input_is_valid(batch):
    code, records, actual = batch([])
    assert (code, records) == (0, {})
    assert "0 rows" in actual


def test_the_same_command_again_does_nothing_and_ends_alike(batch):
    first, records, _ = batch([row("a"), row("b", "[[fail invalid_prompt]]")])
    again, same, actual = batch()
    assert first == again == 1
    assert same == records
    assert "nothing is sent" in actual


def test_a_limit_leaves_the_rest_to_the_next_run(batch):
    _, records, actual = batch([row(f"r{i}") for i in range(5)], "--limit", "2")
    assert len(records) == 2
    assert "3 rows are left" in actual
    _, records, _ = batch(None, "--limit", "2")
    assert len(records) == 4
    code, records, _ = batch()
    assert (code, len(records)) == (0, 5)


def test_f06_appended_and_reordered_rows(batch):
    batch([row("a"), row("b")])
    code, records, actual = batch([row("c"), row("b"), row("a")])
    assert (code, set(records)) == (0, {"a", "b", "c"})
    assert "2 already finished" in actual


def test_rows_that_left_the_input_are_counted_with_those_that_came(batch):
    batch([row("a"), row("b"), row("c")])
    code, records, actual = batch([row("c"), row("d")])
    assert (code, len(records)) == (0, 4)
    assert "resuming 4 rows, 3 already finished" in actual
    assert "complete: 4 of 4 rows done" in actual


def test_i28_a_fixed_row_replaces_its_rejected_line(batch):
    bad = {"custom_id": "b", "body": {"input": QUICK}}
    code, records, _ = batch([row("a"), bad], "--skip-bad")
    assert (code, records["b"]["state"], records["b"]["error"]["code"]) == (1, "rejected", "no_model")
    code, records, actual = batch([row("a"), row("b")])
    assert (code, records["b"]["state"]) == (0, "succeeded")
    assert "fixed in the input" in actual


def test_failed_rows_are_polled_before_they_are_paid_for_again(batch):
    _, records, _ = batch([row("a"), row("b", "[[fail server_error]] [[sleep 0.05]]")], "--retries", "0")
    first = records["b"]["job_id"]
    assert records["b"]["state"] == "internal_error"
    _, records, actual = batch(None, "--retries", "0", "--retry-failed", "internal_error")
    assert [attempt["job_id"] for attempt in records["b"]["attempts"]] == [first], "confirmed first, then sent anew"
    assert records["a"]["retry_count"] == 0
    assert "took 1 record out of the output: to be retried" in actual


def test_resume_needs_no_input_and_collect_submits_nothing(batch, tmp_path):
    code, _, actual = batch([row(f"r{i}") for i in range(4)], "--limit", "1", "--summary", "s.json")
    assert (code, json.loads((tmp_path / "s.json").read_text())["outcome"]) == (0, "partial")
    assert "partial: 1 of 4 rows done" in actual
    code, records, actual = batch(command=("collect", "out.jsonl"))
    assert (code, len(records)) == (3, 1)
    assert "partial: 1 of 4 rows done" in actual
    assert "complete" not in actual
    assert "next:\n  batchrun resume out.jsonl" in actual
    code, records, _ = batch(command=("resume", "out.jsonl"))
    assert (code, len(records)) == (0, 4)
    code, _, actual = batch(command=("resume", "other.jsonl"))
    assert code == 2
    assert "there is no batch to resume" in actual


@pytest.mark.parametrize("command", [("resume",), ("collect",), ("cancel", "--all")])
def test_a_damaged_journal_is_refused_with_the_code_of_files_by_each_command(batch, tmp_path, command):
    batch([row("a")])
    (tmp_path / "out.jsonl.journal").write_bytes(b"garbage\n")
    code, _, actual = batch(command=(command[0], "out.jsonl", *command[1:]))
    assert code == 4
    assert "damaged at byte 0" in actual


def test_a_wrong_model_reads_in_the_words_of_the_service(batch, tmp_path):
    batch([row("a"), row("b", "[[refuse model_not_found]]")], "--summary", "s.json")
    (failure,) = json.loads((tmp_path / "s.json").read_text())["failures"]
    assert failure["sample"]["key"] == "b"
    assert "model" in failure["sample"]["message"]


def test_the_counts_of_requests_are_those_of_this_run(batch, tmp_path):
    counts = []
    for flags in (["--limit", "3"], [], []):
        rows = [row(f"r{i}", f"[[fail server_error 1]] [[sleep 0.05]] {i}") for i in range(5)]
        batch(rows, *flags, "--summary", "s.json")
        counts.append(json.loads((tmp_path / "s.json").read_text())["requests"])
    assert [(one["accepted"], one["submits"], one["new_attempts"]) for one in counts] == [
        (6, 6, 3),
        (4, 4, 2),
        (0, 0, 0),
    ]


def test_fresh_moves_the_old_files_aside(batch, tmp_path):
    batch([row("a")])
    code, records, actual = batch([row("z")], "--fresh")
    assert (code, set(records)) == (0, {"z"})
    assert "moved" in actual
    assert len(list(tmp_path.glob("out.jsonl.2*"))) == 1


def test_summary_and_event_log_are_files_for_programs(batch, tmp_path):
    batch([row("a"), row("b", "[[fail invalid_prompt]]")], "--summary", "sum.json", "--log-json", "log.jsonl")
    summary = json.loads((tmp_path / "sum.json").read_text())
    assert (summary["outcome"], summary["exit_code"], summary["states"]) == (
        "complete",
        1,
        {"succeeded": 1, "rejected": 1},
    )
    events = [json.loads(line)["event"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert (events[0], sorted(events[1:3]), events[-1]) == ("start", ["record", "record"], "end")


def test_settings_come_from_the_environment_too(batch, monkeypatch):
    monkeypatch.setenv("BATCHRUN_LIMIT", "1")
    _, records, _ = batch([row("a"), row("b")])
    assert len(records) == 1
    monkeypatch.setenv("BATCHRUN_LIMIT", "many")
    code, _, actual = batch()
    assert code == 2
    assert "BATCHRUN_LIMIT" in actual


@pytest.mark.parametrize(
    ("url", "says"),
    [("/v1/embeddings", "limits: 64 POSTs in flight, 4 retries"), ("/v1/responses", "limits: 500 jobs and 32 POSTs in flight, 500 polls per second")],
)  # fmt: skip
def test_the_first_lines_are_true_of_a_batch_that_ends_at_its_submits(batch, url, says):
    code, records, actual = batch([{"custom_id": "a", "url": url, "body": {"model": "m", "input": QUICK}}])
    assert (code, records["a"]["state"]) == (0, "succeeded")
    assert says in actual
    assert ("polls per second" in actual) == (url == "/v1/responses")


def test_a_job_that_is_still_open_is_polled_where_all_rows_of_the_input_end_at_their_submit(batch):
    ending = [{"custom_id": key, "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}} for key in "bc"]
    batch([row("a", "[[completed]] [[sleep 1]]"), ending[0]], "--detach")
    _, records, actual = batch(ending)
    assert set(records) == {"a", "b", "c"}
    assert "polls per second" in actual
