"""`-o -`: records to standard output."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
BATCHRUN = [sys.executable, "-m", "batchrun"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "src")}


def rows(folder, count):
    path = folder / "in.jsonl"
    lines = [
        {"custom_id": f"r{i}", "body": {"model": "m", "input": "[[completed]] [[sleep 0.1]] x"}} for i in range(count)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def batchrun(folder, *arguments, pipe_to="cat"):
    command = " ".join([*BATCHRUN, "in.jsonl -o - --demo --quiet", *arguments, "|", pipe_to])
    return subprocess.run(
        command, shell=True, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False
    )


def test_records_go_to_stdout_and_nothing_stays(tmp_path):
    rows(tmp_path, 3)
    done = batchrun(tmp_path)
    assert {json.loads(line)["custom_id"] for line in done.stdout.splitlines()} == {"r0", "r1", "r2"}
    assert "cannot be resumed" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_o20_a_reader_that_leaves_early_ends_the_run_quietly_and_a_journal_resumes_it(tmp_path):
    rows(tmp_path, 300)
    first = batchrun(tmp_path, "--journal kept --concurrency 8", pipe_to="head -1")
    assert (len(first.stdout.splitlines()), first.stderr) == (1, "")
    kept = len((tmp_path / "kept.records").read_text().splitlines())
    assert 0 < kept < 300
    second = batchrun(tmp_path, "--journal kept")
    assert len(second.stdout.splitlines()) == 300 - kept
    assert len((tmp_path / "kept.records").read_text().splitlines()) == 300
    assert second.stderr == ""


def test_files_of_records_on_stdout_are_named_from_where_it_was_started(tmp_path):
    (tmp_path / "in.jsonl").write_text(
        '{"custom_id": "hat", "body": {"model": "m", "input": "[[image]] [[sleep 0.1]]"}}'
    )
    done = batchrun(tmp_path, "--artifacts images")
    ((artifact,),) = [json.loads(line)["artifacts"] for line in done.stdout.splitlines()]
    assert artifact["file"].startswith("images/hat-")
    assert (tmp_path / artifact["file"]).stat().st_size == artifact["size"]


def test_a_stdout_without_room_is_reported_and_all_records_are_in_the_file(tmp_path):
    rows(tmp_path, 3)
    for flags, where in (
        ("--journal kept", "all records are in kept.records; a later run prints only new ones"),
        ("", "give --journal FILE"),
    ):
        done = batchrun(tmp_path, flags, "> /dev/full; echo $? >&2", pipe_to="cat")
        lines = done.stderr.splitlines()
        assert (lines[-1], done.stdout) == ("4", "")
        message = " ".join(done.stderr.partition("stdout:")[2].split())
        assert "No space left on device" in message
        assert where in message
    assert (tmp_path / "kept.records").read_text().splitlines()


def test_jobs_that_could_not_be_collected_are_not_bought(tmp_path):
    rows(tmp_path, 3)
    done = subprocess.run(
        [*BATCHRUN, "in.jsonl", "-o", "-", "--demo", "--detach"],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "give --journal FILE" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
