"""The samples that are run on the simulated service: good input, and rows that end as they say."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import batchrun
from batchrun.cli import main
from batchrun.simulator import DEMO
from batchrun.simulator.directives import script_of
from tests.simulator.bench import Bench

pytestmark = pytest.mark.timeout(300)
SAMPLES = Path(__file__).parents[2] / "samples"
ROWS = {
    name: [json.loads(line) for line in (SAMPLES / name).read_text().splitlines()]
    for name in ("quickstart.jsonl", "mixed.jsonl", "failures.jsonl")
}
ENDS = {"completed", "failed", "incomplete"}


def body_of(row):
    if "body" in row:
        return row["url"], row["body"]
    body = {key: value for key, value in row.items() if key not in ("custom_id", "prompt", "metadata")}
    return "/v1/responses", body | ({"input": row["prompt"]} if "prompt" in row else {})


@pytest.mark.parametrize("name", ROWS)
def test_it_is_good_input(name, capsys):
    assert main(["check", str(SAMPLES / name), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["rows"], facts["bad_rows"], facts["warnings"]["total"]) == (len(ROWS[name]), 0, 0)
    if name != "failures.jsonl":
        assert len(ROWS[name]) == 20
        assert any(share["endpoint"] == "/images/generations" for share in facts["shares"])


def scripts_of(name):
    return [script_of(json.dumps(row).encode(), body_of(row)[1]) for row in ROWS[name]]


def test_the_quickstart_holds_rows_of_every_form():
    rows = ROWS["quickstart.jsonl"]
    assert {"batch" if "body" in row else "shorthand" if "prompt" in row else "bare" for row in rows} == {
        "batch", "shorthand", "bare",
    }  # fmt: skip
    actual = {script.outcome for script in scripts_of("quickstart.jsonl")}
    assert {"completed", "image", "server_error"} <= actual


def test_the_failures_hold_rows_that_end_in_every_way():
    scripts = scripts_of("failures.jsonl")
    actual = {script.outcome for script in scripts} | {script.refusal for script in scripts}
    assert {"completed", "incomplete", "refusal", "empty", "tool_failed", "server_error"} <= actual
    assert {"content_policy_violation", "invalid_prompt"} <= actual


@pytest.mark.parametrize("name", ["quickstart.jsonl", "failures.jsonl"])
def test_no_row_is_left_to_the_chances_of_the_demo(name):
    """So that everybody sees the same."""
    assert all(script.outcome or script.refusal for script in scripts_of(name))


def test_the_demo_succeeds_and_the_one_that_does_not_says_why(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([str(SAMPLES / "quickstart.jsonl"), "-o", "out.jsonl", "--demo"]) == 0
    err = capsys.readouterr().err
    assert "  succeeded  20\n" in err
    assert "warnings" not in err
    assert "on purpose" not in err
    assert main([str(SAMPLES / "failures.jsonl"), "-o", "failed.jsonl", "--demo"]) == 1
    err = capsys.readouterr().err
    assert "the demo service fails some rows on purpose; exit code 1 is part of it\n" in err


@pytest.mark.parametrize("name", ROWS)
def test_every_row_ends_within_seconds(name):
    bench = Bench(DEMO)
    for row in ROWS[name]:
        url, body = body_of(row)
        for _ in range(3):  # a new attempt where the row scripts a failure for its first
            answer = bench.ask("POST", url, {**body, "background": True} if url.endswith("responses") else body)
            if answer.status != 200:
                break
            job = json.loads(answer.body)
            if url != "/v1/responses":
                break
            bench.now += 3.0
            assert bench.look(job["id"])["status"] in ENDS, row
        assert answer.status in (200, 400, 429), (row, answer)


def run_sample(name, *arguments, folder):
    """A sample as a person would run it; what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "BATCHRUN_"))}
    command = [sys.executable, "-W", "error", str(SAMPLES / name), *arguments]
    done = subprocess.run(
        command, cwd=folder, env={**environment, "PYTHONPATH": str(SAMPLES.parent / "src")}, capture_output=True, text=True, check=False, timeout=240
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script(tmp_path):
    out = run_sample("script.py", str(SAMPLES / "failures.jsonl"), folder=tmp_path)
    assert out.startswith("8 records: 4 succeeded, ")
    assert "1 of the 4 failures are worth another attempt" in out
    assert "next: the same call with retry_failed=['internal_error'] retries 1 row" in out


def test_the_program_with_three_batches_and_one_limit(tmp_path):
    out = run_sample("service.py", folder=tmp_path)
    assert out.splitlines()[-1].startswith("6 orders, ")
    assert (len(batchrun.read(tmp_path / "orders.jsonl")), len(batchrun.read(tmp_path / "letters.jsonl"))) == (7, 12)


def test_the_notebook_in_a_real_kernel(tmp_path, monkeypatch):
    """Run, inspect, failures, an interrupt of the kernel itself and what follows, a cancel, a DataFrame."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    for name in os.environ:
        if name.startswith(("OPENAI_", "BATCHRUN_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(SAMPLES.parent / "src"))
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "jupyter"))
    notebook = nbformat.read(SAMPLES / "notebook.ipynb", 4)
    shown = [_texts(cell) for cell in notebook.cells if cell.cell_type == "code"]
    client = nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}})
    with asyncio.Runner() as runner:
        runner.run(client.async_execute())
    ran = [_texts(cell) for cell in notebook.cells if cell.cell_type == "code"]
    for actual in (shown, ran):  # what the file shows is what it does
        whole, story, failures, again, frame, stopped, on, more = actual
        assert "8 records: 6 succeeded, 1 blocked, 1 internal_error" in whole
        assert "kept in .batchrun/demo-8-rows-" in whole
        assert "lychee   internal_error" in story
        assert "lychee server_error retryable: True" in failures
        assert "ContentPolicyError" in failures
        assert "7 done by earlier runs" in again
        assert "1 record: 1 blocked" in again
        assert "content_policy_violation" in frame
        assert " rows left, " in stopped
        assert " jobs still running" in stopped
        assert "of earlier runs in flight" in on
        assert "3 records: " in on
        assert "never mind cancelled" in more


def _texts(cell):
    """What a cell shows, as text."""
    actual = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in cell.get("outputs", [])]
    return "\n".join(actual)


def test_plain_httpx_runs_on_our_transport():
    command = [sys.executable, "-W", "error", str(SAMPLES / "httpx_transport.py")]
    environment = {**os.environ, "PYTHONPATH": str(SAMPLES.parent / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(" completed\n")
