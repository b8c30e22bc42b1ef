"""A batch of every kind of row: each record as the row told the service to end it, and the limits kept by the books."""

import json
import time
from collections import Counter

import pytest

from tests.e2e.stage import Batch, serving

SCENARIO = "[times]\nqueued = '0s..100ms'\nduration = '100ms..300ms'\n"
CONCURRENCY = 200


def response(prompt):
    return {"url": "/v1/responses", "body": {"model": "gpt-5", "input": prompt}}


PLAIN = (response("say hello"), ("succeeded", None, 0, []))
# what the row is, and what its record must say: state, error code, new attempts, warnings
KINDS = [
    PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN,
    (response("[[fail server_error 1]] once"), ("succeeded", None, 1, [])),
    (response("[[fail server_error]] always"), ("internal_error", "server_error", 2, [])),
    (response("[[fail content_policy_violation]] no"), ("blocked", "content_policy_violation", 0, [])),
    (response("[[fail invalid_prompt]] no"), ("rejected", "invalid_prompt", 0, [])),
    (response("[[refuse invalid_prompt]] no"), ("rejected", "invalid_prompt", 0, [])),
    (response("[[id_changes]] who am I"), ("succeeded", None, 0, ["id_changed"])),
    (response("[[incomplete]] long"), ("incomplete", "max_output_tokens", 0, [])),
    (response("[[refusal]] no"), ("succeeded", None, 0, ["refusal"])),
    (response("[[empty]] nothing"), ("succeeded", None, 0, ["empty_output"])),
    (response("[[tool_failed]] draw"), ("succeeded", None, 0, ["tool_failed:image_generation_call"])),
    (response("[[hidden 1]] soon"), ("succeeded", None, 0, [])),
    ({"url": "/v1/chat/completions", "body": {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}}, ("succeeded", None, 0, [])),
    ({"url": "/v1/embeddings", "body": {"model": "text-embedding-3-small", "input": "hi"}}, ("succeeded", None, 0, [])),
    ({"url": "/v1/images/generations", "body": {"model": "gpt-image-1", "prompt": "a hat"}}, ("succeeded", None, 0, [])),
]  # fmt: skip


def mixed(count):
    made = []
    for n in range(count):
        row = json.loads(json.dumps(KINDS[n % len(KINDS)][0]))
        row["body"]["metadata"] = {"custom_id": f"row-{n}"}
        made.append({"custom_id": f"row-{n}", **row, "metadata": {"n": n}})
    return made


def run(folder, count, rpm, name):
    """Run `count` rows; returns the batch, the service's books, POSTs of each row, and (POSTs, time of day) by and by."""
    with serving(folder, SCENARIO) as service:
        batch = Batch(folder, mixed(count), "--base-url", service.url, "--concurrency", str(CONCURRENCY), name=name)
        flags = ("--rpm", str(rpm), "--poll-min", "200ms", "--poll-max", "1s", "--poll-rate", "2000")
        process, came = batch.start_measured(*flags), []
        while process.poll() is None:
            came.append((service.statistics()["posts"], time.time()))
            time.sleep(0.05)
        assert batch.end(process).code == 1
        return batch, service.statistics(), service.posts(), came


@pytest.mark.timeout(600)
def test_every_record_is_right_and_the_limits_are_kept(long, tmp_path):
    count, small, rpm = (20_000, 2_000, 6_000) if long else (1_200, 100, 15_000)
    least = run(tmp_path, small, rpm, "small")[0].peak()
    batch, books, posts, came = run(tmp_path, count, rpm, "large")
    peak = batch.peak()
    records = batch.whole()
    wrong = Counter()
    for n, row in enumerate(batch.rows):
        record = records[row["custom_id"]]
        code = record["error"] and record["error"]["code"]
        found = (record["state"], code, record["retry_count"], record["warnings"])
        wrong[n % len(KINDS), str(found)] += found != KINDS[n % len(KINDS)][1]
        assert record["metadata"] == {"n": n}
        assert posts[row["custom_id"]] == 1 + record["retry_count"]
    assert +wrong == {}
    assert books["peak_open_jobs"] <= CONCURRENCY
    intents = [
        entry for line in batch.journal.read_bytes().splitlines() if (entry := json.loads(line[9:]).get("intent"))
    ]
    times = sorted(entry["at"] for entry in intents)
    # What was let go in any second, and what has come by any moment since: on a slow machine it comes later.
    per_second = rpm / 60
    assert all(there - here >= 1 for here, there in zip(times, times[int(per_second * 1.1) :], strict=False))
    assert all(posts <= per_second * (0.1 + 1.1 * (now - times[0])) for posts, now in came if posts)
    last = max(entry["at"] for entry in intents if entry["attempt"] == 1)  # later ones wait for their delay alone
    used = sum(at <= last for at in times) / (last - times[0]) / per_second
    print(f"\n{count:,} rows: {books['posts']:,} POSTs, {used:.0%} of the rate while there were rows to send; peak {peak / 1024:.0f} MiB, {least / 1024:.0f} MiB with {small:,}; poll gaps {books['poll_gaps']}")  # fmt: skip
    assert books["poll_gaps"]["least"] >= 0.1
    assert peak <= 1.2 * least
