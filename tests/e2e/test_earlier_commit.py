"""A batch that an earlier commit began is finished by this one, and the other way round.

Where the earlier one is says BATCHRUN_EARLIER_PYTHON: the Python of a virtual environment in which it is installed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.stage import CLEAN, ENVIRONMENT, LONGEST, Batch, serving, wait_until

EARLIER = os.environ.get("BATCHRUN_EARLIER_PYTHON")
W = 4
FLAGS = (
    "--submits", str(W), "--poll-min", "100ms", "--poll-max", "300ms", "--retries", "1", "--retry-budget", "1000",
    "--cancel-settle", "200ms", "--artifacts", "images",
)  # fmt: skip
SCENARIO = "output_tokens = 2\n[times]\npost = '50ms..150ms'\nqueued = '100ms'\nduration = '500ms..2s'\n"
KINDS = {  # what a row says, and what its record must
    "hello": ("succeeded", 0),
    "[[fail server_error 1]]": ("succeeded", 1),
    "[[fail server_error]]": ("internal_error", 1),
    "[[fail content_policy_violation]]": ("blocked", 0),
    "[[incomplete]]": ("incomplete", 0),
    "[[image]]": ("succeeded", 0),
    "[[refuse server_is_overloaded 1]]": ("succeeded", 0),
    "[[sleep 120]]": ("cancelled", 0),  # asked for before the interrupt
}
ROUNDS = 12
STOPS = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT}


def made():
    """Each kind many times, in turn."""
    for n in range(ROUNDS):
        for kind, prompt in enumerate(KINDS):
            body = {"model": "gpt-5", "input": prompt, "metadata": {"custom_id": f"{kind}-{n}"}}
            yield {"custom_id": f"{kind}-{n}", "body": body, "metadata": {"n": n}}


class Side:
    """One of the two programs."""

    def __init__(self, python, environment):
        self.python, self.environment = python, environment

    def start(self, batch, *flags):
        self.screen = batch.folder / f"screen-{time.monotonic_ns()}"
        command = [self.python, "-m", "batchrun", batch.input.name, "-o", batch.output.name, *batch.flags, *flags]
        with self.screen.open("wb") as screen:
            return subprocess.Popen(command, cwd=batch.folder, env=self.environment, stdout=screen, stderr=screen)

    def run(self, batch, *flags):
        process = self.start(batch, *flags)
        code = process.wait(LONGEST)
        assert code == 1, self.screen.read_text()

    def cancel(self, batch, keys):
        names = [part for key in keys for part in ("--id", key)]
        command = [self.python, "-m", "batchrun", "cancel", batch.output.name, *names]
        done = subprocess.run(command, cwd=batch.folder, env=self.environment, capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr


@pytest.fixture
def sides(long):
    if not long:
        pytest.skip("a long proof; --long runs it")
    if EARLIER is None:
        pytest.skip("BATCHRUN_EARLIER_PYTHON names no Python with an earlier commit")
    assert Path(EARLIER).exists(), EARLIER
    environment = {**CLEAN, "OPENAI_API_KEY": ENVIRONMENT["OPENAI_API_KEY"]}
    environment.pop("PYTHONPATH", None)
    earlier, today = Side(EARLIER, environment), Side(sys.executable, ENVIRONMENT)
    code = "import batchrun; print(batchrun.__file__)"
    homes = [
        subprocess.check_output([side.python, "-c", code], env=side.environment, cwd="/") for side in (earlier, today)
    ]
    assert homes[0] != homes[1]
    return {"earlier": earlier, "today": today}


def entries(batch, tag):
    lines = batch.journal.read_bytes().splitlines() if batch.journal.exists() else []
    return [line for line in lines if line[9:].startswith(b'{"%b"' % tag.encode())]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("moment", ["submitting", "polling"])
@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize(("begun_by", "finished_by"), [("earlier", "today"), ("today", "earlier")])
def test_what_one_began_the_other_finishes(sides, tmp_path, begun_by, finished_by, stop, moment):
    first, second = sides[begun_by], sides[finished_by]
    with serving(tmp_path, SCENARIO) as service:
        batch = Batch(tmp_path, list(made()), "--base-url", service.url, *FLAGS)
        process = first.start(batch)
        ended_early = [row["custom_id"] for row in batch.rows if "sleep" in row["body"]["input"]]
        if moment == "submitting":
            wait_until(lambda: len(entries(batch, "submitted")) > len(batch.rows) // 2)
            ended_early = ended_early[:3]
        else:
            wait_until(lambda: len(entries(batch, "done")) > len(batch.rows) // 2)
        first.cancel(batch, ended_early)
        wait_until(lambda: entries(batch, "heard"), first.screen.read_text)
        process.send_signal(STOPS[stop])
        assert process.wait(LONGEST) == {"kill": -signal.SIGKILL, "interrupt": 130}[stop], first.screen.read_text()
        left = {"submitted": len(entries(batch, "submitted")), "recorded": len(entries(batch, "done"))}

        process = second.start(batch)
        rest = {row["custom_id"] for row in batch.rows if "sleep" in row["body"]["input"]}
        waiting = rest - set(ended_early)
        if waiting:  # these are asked for by the second one
            wait_until(lambda: entries(batch, "started")[1:] and "limits:" in second.screen.read_text())
            second.cancel(batch, sorted(waiting))
        assert process.wait(LONGEST) == 1, second.screen.read_text()

        records, posts, jobs = batch.whole(), service.posts(), service.jobs()
        unconfirmed = 0
        for row in batch.rows:
            key, record = row["custom_id"], records[row["custom_id"]]
            state, retries = KINDS[row["body"]["input"]]
            refused = "refuse" in row["body"]["input"]
            if record["state"] == "unconfirmed" or "submit_unanswered" in record["warnings"]:
                unconfirmed += 1
                assert posts.get(key, 0) <= 1 + record["retry_count"] + refused
                continue
            assert (record["state"], record["retry_count"], record["metadata"]) == (state, retries, row["metadata"])
            if state == "cancelled" and record["job_id"] is None:
                assert posts.get(key, 0) == 0  # ended before it was sent
                continue
            assert (posts[key], jobs[key]) == (1 + retries + refused, 1 + retries), key
        assert unconfirmed <= (W if stop == "kill" else 0)
        images = [file for record in records.values() for file in record["artifacts"]]
        assert all((batch.folder / image["file"]).stat().st_size == image["size"] for image in images)

        asked = {name: service.statistics()[name] for name in ("posts", "polls", "cancels")}
        output = batch.output.read_bytes()
        first.run(batch)  # there is nothing left to do for either
        second.run(batch)
        assert {name: service.statistics()[name] for name in asked} == asked
        assert batch.output.read_bytes() == output
    states = Counter(record["state"] for record in records.values())
    print(
        f"\n{begun_by} then {finished_by}, {stop} while {moment}: left {json.dumps(left)}, ended {json.dumps(states)}"
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("begun_by", "finished_by"), [("earlier", "today"), ("today", "earlier")])
def test_what_one_finished_the_other_tries_again(sides, tmp_path, begun_by, finished_by):
    prompts = ("hello", "[[fail server_error 1]]", "[[fail server_error]]", "[[fail content_policy_violation]]")
    rows = [
        {"custom_id": f"{n}", "body": {"model": "gpt-5", "input": prompt, "metadata": {"custom_id": f"{n}"}}}
        for n, prompt in enumerate(prompts)
    ]
    with serving(tmp_path, SCENARIO) as service:
        batch = Batch(tmp_path, rows, "--base-url", service.url, *FLAGS, "--retries", "0")
        sides[begun_by].run(batch)
        assert [batch.whole()[f"{n}"]["state"] for n in range(4)] == ["succeeded", "internal_error", "internal_error", "blocked"]  # fmt: skip
        sides[finished_by].run(batch, "--retry-failed", "internal_error", "--retries", "1")
        records = batch.whole()
        assert [records[f"{n}"]["state"] for n in range(4)] == ["succeeded", "succeeded", "internal_error", "blocked"]
        assert [records[f"{n}"]["retry_count"] for n in range(4)] == [0, 1, 1, 0]
        assert service.posts() == {"0": 1, "1": 2, "2": 2, "3": 1}
        assert b'"gen":1' in b"".join(entries(batch, "rewritten"))
        sides[begun_by].run(batch)
        assert service.statistics()["posts"] == 6
