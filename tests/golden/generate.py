"""Write the golden files: what an earlier commit wrote, for the code of today to read.

    PYTHON_OF_THE_EARLIER_COMMIT tests/golden/generate.py

Run by the Python in which that commit is installed; those that are committed were written by 4def7fb. A batch with
every kind of row goes through detach, a cancel request, an interrupt, a halt, a resume and `--retry-failed`, against
the simulated service. What no run leaves behind is written with the classes of that commit. Address and path in the
header are replaced by neutral ones, and nothing else is changed.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

HERE = Path(__file__).parent
ORIGIN, INPUT = "http://127.0.0.1:9/v1", "/batch/in.jsonl"
KEY = "sk-golden-0123456789"
FLAGS = (
    "--poll-min", "100ms", "--poll-max", "300ms", "--retries", "1", "--deadline", "15s", "--skip-bad",
    "--cancel-settle", "200ms", "--artifacts", "images", "--model", "gpt-5",
)  # fmt: skip
SCENARIO = "output_tokens = 2\n[times]\nqueued = '300ms'\nduration = '300ms'\n"
PROMPTS = {
    "plain": "hello",
    "retried": "[[fail server_error 1]]",
    "internal_error": "[[fail server_error]]",
    "rate_limited": "[[fail rate_limit_exceeded]]",
    "overloaded": "[[fail server_is_overloaded]]",
    "service_unavailable": "[[fail service_unavailable]]",
    "timeout": "[[fail timeout]]",
    "deadline": "[[stuck_running]]",
    "blocked": "[[fail content_policy_violation]]",
    "rejected": "[[refuse invalid_prompt]]",
    "cleared": "[[refuse server_is_overloaded 1]]",
    "unconfirmed": "[[refuse lost]]",
    "incomplete": "[[incomplete]]",
    "failed": "[[failed]]",
    "expired": "[[expired]]",
    "cancelled over there": "[[cancelled]]",
    "requires_action": "[[requires_action]]",
    "refusal": "[[refusal]]",
    "hidden": "[[hidden 1]]",
    "image": "[[image]]",
    "cancelled": "[[sleep 60]]",
}
HALTING = {"blocked_budget": "[[fail insufficient_quota]]"}


def rows() -> Iterator[dict[str, Any]]:
    for key, prompt in PROMPTS.items():
        yield {"custom_id": key, "url": "/v1/responses", "body": {"input": prompt}}
    yield {"custom_id": 'Schlüssel "雪"\n', "body": {"input": "hi", "metadata": {"a": "b"}}, "metadata": {"n": 1.50, "deep": [None]}}  # fmt: skip
    yield {"custom_id": "chat", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "hi"}]}}  # fmt: skip
    yield {"prompt": "a row without a custom_id"}
    yield {"custom_id": "bad", "body": {"input": "x"}, "url": "/v1/nowhere"}
    for key, prompt in HALTING.items():
        yield {"custom_id": key, "body": {"input": prompt}}


# --- lines of a journal ---


def frame(content: bytes) -> bytes:
    return b"%08x %b\n" % (crc32(content), content)


def moved(journal: bytes, **header: str) -> bytes:
    """The journal with other values in its header, checksums and offsets of syncs as they must be then."""
    first, *rest = journal.splitlines(keepends=True)
    content = json.loads(first[9:])
    content["header"] |= header
    lines = [frame(json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode())]
    grown = len(lines[0]) - len(first)
    for line in rest:
        entry = json.loads(line[9:])
        if entry.keys() == {"synced"}:
            lines.append(frame(b'{"synced":{"to":%d}}' % (entry["synced"]["to"] + grown)))
        else:
            lines.append(line)
    return b"".join(lines)


def tags(journal: bytes) -> list[str]:
    return [next(iter(json.loads(line[9:]))) for line in journal.splitlines()]


# --- the batch ---


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    scenario = folder / "scenario.toml"
    scenario.write_text(SCENARIO)
    command = [sys.executable, "-m", "batchrun", "serve", "--port", "0", "--print-url", str(scenario)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


class Batch:
    """The files in `folder`, and the commands that are run on them."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.input, self.output = folder / "in.jsonl", folder / "out.jsonl"
        self.journal = folder / "out.jsonl.journal"
        self.command = [sys.executable, "-m", "batchrun", "in.jsonl", "-o", "out.jsonl", "--base-url", url, *FLAGS]
        self.environment = {**os.environ, "OPENAI_API_KEY": KEY}
        self.write(rows())

    def write(self, made: Iterable[dict[str, Any]]) -> None:
        self.input.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made))

    def start(self, *flags: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self.command, *flags], cwd=self.folder, env=self.environment)

    def run(self, *flags: str) -> int:
        return self.start(*flags).wait(120)

    def cancel(self, name: str) -> None:
        command = [sys.executable, "-m", "batchrun", "cancel", "out.jsonl", "--id", name]
        subprocess.run(command, cwd=self.folder, env=self.environment, check=True)

    def wait_for(self, tag: str, count: int = 1) -> None:
        end = time.monotonic() + 60
        while tags(self.journal.read_bytes()).count(tag) < count:
            assert time.monotonic() < end, f"no {tag} in the journal"
            time.sleep(0.05)


def run_all(batch: Batch, into: Path) -> None:
    """A batch through everything that can happen to it."""
    all_rows = list(rows())
    batch.write(row for row in all_rows if row.get("custom_id") not in HALTING)
    batch.run("--detach")
    process = batch.start()
    batch.wait_for("done", 10)
    batch.cancel("cancelled")
    batch.wait_for("heard")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert batch.run() == 1
    batch.write(all_rows)
    assert batch.run() == 3, "the quota is used up"
    (into / "before_rewriting.journal").write_bytes(moved(batch.journal.read_bytes(), origin=ORIGIN, input=INPUT))
    fold = importlib.import_module("batchrun.core.fold").fold
    lines = (into / "before_rewriting.journal").read_bytes().splitlines(keepends=True)
    found = digests(fold(lines[:end]).journaled_rows for end in range(1, len(lines) + 1))
    (into / "before_rewriting.digests").write_text("".join(f"{digest}\n" for digest in found))
    assert batch.run("--retry-failed", "internal_error,expired", "--resubmit-unconfirmed") == 1


NAMES = (
    "attempt",
    "row_sha256",
    "open_intent",
    "job_id",
    "submitted_at",
    "retry_at",
    "unconfirmed",
    "cancel",
    "marker",
)


def digests(rows_after: Iterable[Mapping[str, Any]]) -> list[str]:
    """A digest of what is known of all rows, for each part of a journal."""
    found = []
    for rows in rows_after:
        known = {key: [getattr(row, name) for name in NAMES] + [len(row.ended)] for key, row in rows.items()}
        found.append(f"{crc32(json.dumps(known).encode()):08x}")
    return found


def write_by_hand(into: Path) -> None:
    """Entries and a record as the classes of this commit write them, with fields that no run above gives a value."""
    earlier = "batchrun.core.ledger", "batchrun.core.record", "batchrun.core.states"
    ledger, record, states = map(importlib.import_module, earlier)
    entries = [
        ledger.Header(1, "0123456789abcdef", "openai", "https://api.openai.com/v1", "org-1/proj-2", "00" * 16,
                      {"model": None, "set": {"temperature": 0.5}}, "-", 1_795_284_524.25),
        ledger.Started(7, 1_795_284_525.0),
        ledger.Intent("row", 1, "ab" * 16, 1_795_284_526.125),
        ledger.Ended("row", 1, None, "overloaded", None, "not_billed", 1_795_284_530.0, 1_795_284_527.0),
        ledger.Intent("row", 2, "", 1_795_284_530.5),
        ledger.Unconfirmed("row", 2, 1_795_284_531.0),
        ledger.Cancelling("never read", 1, "user", 1_795_284_532.0),
        ledger.Heard(120, all=True, left=60),
        ledger.Stopped("SIGTERM", 1_795_284_533.0, "quota: used up"),
        ledger.Rewrite(3, {"row": {"state": "unconfirmed", "job_id": None, "code": "answer_lost", "billing": "unknown"}}),
    ]  # fmt: skip
    journal = b"".join(entry.to_line() for entry in entries)
    (into / "by_hand.journal").write_bytes(journal + ledger.mark(len(journal)))
    line = record.Record(
        id="rec_000000000000000000000000",
        key="aborted",
        state=states.State.ABORTED,
        status="ABORTED",
        warnings=("after_deadline",),
        submitted_at=1_795_284_524.25,
        finished_at=1_795_284_528.5,
        metadata=b'{"a":1.0}',
    ).to_json()
    (into / "by_hand.jsonl").write_bytes(line + b"\n")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(folder) as url:
            batch = Batch(folder, url)
            run_all(batch, HERE)
        (HERE / "finished.journal").write_bytes(moved(batch.journal.read_bytes(), origin=ORIGIN, input=INPUT))
        shutil.copy(batch.input, HERE / "finished.input.jsonl")
        shutil.copyfile(batch.output, HERE / "finished.jsonl")
    write_by_hand(HERE)


if __name__ == "__main__":
    main()
