"""The samples that are run on the simulated service: good input, and rows that end as they say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from batchrun.cli import main
from batchrun.simulator import DEMO
from batchrun.simulator.directives import script_of
from tests.simulator.bench import Bench

SAMPLES = Path(__file__).parents[2] / "samples"
ROWS = {
    name: [json.loads(line) for line in (SAMPLES / name).read_text().splitlines()]
    for name in ("quickstart.jsonl", "mixed.jsonl")
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
    assert (facts["rows"], facts["bad_rows"], facts["warnings"]["total"]) == (20, 0, 0)
    assert any(share["endpoint"] == "/images/generations" for share in facts["shares"])


def test_the_quickstart_holds_rows_of_every_kind():
    rows = ROWS["quickstart.jsonl"]
    assert {"batch" if "body" in row else "shorthand" if "prompt" in row else "bare" for row in rows} == {
        "batch", "shorthand", "bare",
    }  # fmt: skip
    scripts = [script_of(json.dumps(row).encode(), body_of(row)[1]) for row in rows]
    said = {script.outcome for script in scripts} | {script.refusal for script in scripts}
    assert {"completed", "incomplete", "refusal", "empty", "tool_failed", "image", "server_error"} <= said
    assert {"content_policy_violation", "invalid_prompt", "rate_limit_exceeded"} <= said
    # None is left to the demo's chances, so that everybody sees the same.
    assert all(script.outcome or script.refusal for script in scripts)


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


def test_plain_httpx_runs_on_our_wire():
    command = [sys.executable, "-W", "error", str(SAMPLES / "httpx_transport.py")]
    environment = {**os.environ, "PYTHONPATH": str(SAMPLES.parent / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(" completed\n")
