"""kill -9 at any moment, then the same command: by the service's books nothing is paid twice and nothing lost.

Each kill is told by the phase it fell into: what the files left behind say of every row, and how many POSTs the
service had in flight. The moments are spread over the work of a whole run, counted in bytes of its journal, so that
all phases are met however fast the machine is.
"""

import random
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from batchrun.core.journal.fold import fold
from batchrun.core.journal.recover import recover
from tests.e2e.stage import LONGEST, Batch, rows, serving, wait_until

SCENARIO = """
[times]
post = "50ms..300ms"
duration = "100ms..1s"
[jobs]
server_error = "3%"
"""
W = 32
FLAGS = ("--submits", str(W), "--concurrency", "200", "--poll-min", "200ms", "--poll-max", "1s", "--poll-rate", "2000")
AT_ONCE = 3  # rounds side by side, each with a service of its own: they mostly wait


def standing(batch):
    """Rows by where a killed run left them."""
    if not batch.journal.exists():
        return Counter({"untouched": len(batch.rows)})
    with batch.journal.open("rb") as journal:
        state = fold(journal)
    left = recover(state, batch.output.read_bytes() if batch.output.exists() else b"")
    found = Counter({"recorded": len(left.finished)})
    for journaled in left.open_journaled.values():
        found["watched" if journaled.job_id else "submitting" if journaled.open_intent else "between attempts"] += 1
    found["untouched"] = len(batch.rows) - found.total()
    return found


def phase(found, rows_in_all):
    if found["untouched"] == rows_in_all:
        return "start-up"
    if found["recorded"] == rows_in_all:
        return "after the last record"
    if found["untouched"] or found["submitting"]:
        return "submitting"
    return "polling"


def written(batch):
    return batch.journal.stat().st_size if batch.journal.exists() else 0


def killed(batch, service, bytes_more, delay):
    """Start the command, and kill it `delay` seconds after it has written `bytes_more` of journal; returns the POSTs
    that were in flight then."""
    before = written(batch)
    process = batch.start(begun=False)
    wait_until(lambda: written(batch) >= before + bytes_more or process.poll() is not None, pause=0.002)
    time.sleep(delay)
    in_flight = service.statistics()["posts_in_flight"]
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=LONGEST)
    return in_flight


def one_round(number, bytes_more, count, folder, service, chance):
    """Kill, look, and go on; checks the promises and returns (phase, POSTs in flight, line to print)."""
    batch = Batch(folder, rows(count), "--base-url", service.url, *FLAGS, name=f"round-{number}")
    for n, row in enumerate(batch.rows):
        row["custom_id"] = row["body"]["metadata"]["custom_id"] = f"{number}-{n}"
    batch = Batch(folder, batch.rows, *batch.flags, name=f"round-{number}")
    again = number % 3 == 1
    in_flight = killed(batch, service, bytes_more, 0.2 * chance.random())
    found = standing(batch)
    kills = 1
    if again:  # the run that takes up what the first one left is killed too
        killed(batch, service, chance.randrange(1_000), 0.5 * chance.random())
        kills = 2
    ended = batch.run()
    assert ended.code in (0, 1), ended.said
    records, posts, jobs = batch.whole(), service.posts(), service.jobs()
    states = Counter(record["state"] for record in records.values())
    assert states["unconfirmed"] <= W * kills
    assert states["succeeded"] + states["unconfirmed"] + states["internal_error"] == count, states
    for key, record in records.items():
        tried = 1 + record["retry_count"]
        assert all(one["state"] in ("internal_error", "failed") for one in record["attempts"])
        if record["state"] == "unconfirmed":
            assert posts.get(key, 0) in (tried - 1, tried), key
        else:
            assert (posts[key], jobs[key]) == (tried, tried), key
    name = phase(found, count)
    told = ", ".join(f"{rows} {where}" for where, rows in sorted(found.items()) if rows)
    lost = f"{states['unconfirmed']} unconfirmed{' after two kills' if again else ''}"
    return (
        name,
        in_flight,
        f"round {number}: after {bytes_more:,} bytes, {name}, {in_flight} POSTs in flight: {told}; {lost}",
    )


@pytest.mark.timeout(1_200)
def test_o19_kill_rounds(long, tmp_path):
    count, rounds = (2_000, 50) if long else (250, 10)
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    with serving(tmp_path, SCENARIO) as service:
        whole = Batch(tmp_path, rows(count), "--base-url", service.url, *FLAGS)
        assert whole.run().code in (0, 1)
        work = written(whole)
    moments = [int(work * (n + chance.random()) / (rounds - 1)) if n else 0 for n in range(rounds)]
    lane = [(n, moment, random.Random(chance.random())) for n, moment in enumerate(moments)]

    def some(which):
        folder = tmp_path / str(which)
        folder.mkdir()
        with serving(folder, SCENARIO) as service:
            return [one_round(n, moment, count, folder, service, dice) for n, moment, dice in lane[which::AT_ONCE]]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = [result for part in pool.map(some, range(AT_ONCE)) for result in part]
    print(f"\nkill rounds of {count:,} rows, seed {seed}")
    print(*sorted((line for _, _, line in results), key=lambda line: int(line.split()[1][:-1])), sep="\n")
    met = Counter(name for name, _, _ in results)
    print(f"phases: {dict(met)}")
    assert sum(in_flight > 0 for _, in_flight, _ in results) >= (10 if long else 3)
    assert met["submitting"] and len(met) >= 2
