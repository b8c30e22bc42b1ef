"""A service that others wrote: it agrees with our reading of the protocol, or it would not be one."""

import contextlib
import json
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.stage import CLEAN, LONGEST, PATIENT, Batch, wait_until

pytest.importorskip("azure.ai.agentserver.responses", reason="pip install azure-ai-agentserver-responses")


def _listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.fixture
def url(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(Path(__file__).with_name("foreign_service.py")), str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=CLEAN | {"OTEL_SDK_DISABLED": "true", "TMPDIR": str(tmp_path)}, stdout=quiet, stderr=quiet) as process:  # fmt: skip
        try:
            wait_until(lambda: process.poll() is not None or _listens(port), pause=0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@PATIENT
def test_rows_that_succeed_fail_and_never_end(long, url, tmp_path):
    count = 200 if long else 40
    kinds = {0: "fail", 1: "sleep"}
    rows = [
        {"custom_id": f"row-{n}", "model": "gpt-5", "prompt": f"{kinds.get(n % 20, 'hello')} {n}"} for n in range(count)
    ]
    batch = Batch(tmp_path, rows, "--base-url", url, "--poll-min", "200ms", "--poll-max", "1s", "--retries", "1", "--cancel-settle", "1s")  # fmt: skip
    share = count // 20
    process = batch.start()
    wait_until(lambda: len(batch.records()) == count - share)
    process.terminate()
    assert batch.end(process).code == 143
    ended = batch.run("--deadline", "1s")
    assert ended.code == 1, ended.said
    records = batch.whole()
    assert batch.states() == {"succeeded": count - 2 * share, "internal_error": share, "timeout": share}
    for row in rows:
        record = records[row["custom_id"]]
        if record["state"] == "succeeded":
            assert (record["output_text"], record["status"]) == (f"you said: {row['prompt']}", "completed")
            assert record["response"]["body"]["id"] == record["job_id"]
        elif record["state"] == "internal_error":
            assert row["prompt"].startswith("fail")
            assert (record["retry_count"], record["error"]["code"], record["status"]) == (1, "server_error", "failed")
        else:
            assert row["prompt"].startswith("sleep")
            assert (record["retry_count"], record["error"]["code"]) == (0, "deadline_exceeded")
            with urllib.request.urlopen(f"{url}/responses/{record['job_id']}", timeout=LONGEST) as answer:
                assert json.load(answer)["status"] == "cancelled", "it was told to end"
    assert len(Counter(record["job_id"] for record in records.values())) == count
    assert batch.run().code == 1
    assert batch.whole() == records
