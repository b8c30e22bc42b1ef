"""Images through the real command: every file agrees with its record, none is left over, and memory stays flat."""

import hashlib
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections import Counter

import pytest

from tests.e2e.stage import LONGEST, PATIENT, Batch, serving

pytestmark = PATIENT

FLAGS = ("--poll-min", "100ms", "--poll-max", "300ms", "--poll-rate", "2000", "--artifacts", "images")


def scenario(size, duration="50ms..300ms"):
    return f"image_bytes = {size}\n[times]\nduration = '{duration}'\n"


def response(prompt):
    return {"url": "/v1/responses", "body": {"model": "gpt-5", "input": prompt}}


# what the row is, and what its record must say: state, warnings, files
KINDS = [
    (response("[[image]] a hat"), ("succeeded", [], 1)),
    (response("[[image]] a cat"), ("succeeded", [], 1)),
    (response("[[image_generating]] a cap"), ("succeeded", [], 1)),
    (response("[[tool_failed]] a map"), ("succeeded", ["tool_failed:image_generation_call"], 0)),
    (response("[[fail content_policy_violation]] no"), ("blocked", [], 0)),
    (response("[[completed]] in words"), ("succeeded", [], 0)),
    ({"url": "/v1/images/generations", "body": {"model": "gpt-image-1", "prompt": "twins", "n": 2}}, ("succeeded", [], 2)),
]  # fmt: skip


def images(count, kinds=KINDS):
    made = []
    for n in range(count):
        row = json.loads(json.dumps(kinds[n % len(kinds)][0]))
        row["body"]["metadata"] = {"custom_id": f"../row {n}"}
        made.append({"custom_id": f"../row {n}", **row})
    return made


def check_files(batch, folder="images"):
    """Every file is as its record says and nobody else's to read; none is there that no record names."""
    records = batch.whole()
    files = {}
    for record in records.values():
        for artifact in record["artifacts"]:
            path = batch.output.parent / artifact["file"]
            data = path.read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (artifact["size"], artifact["sha256"])
            assert artifact["media_type"] == "image/png"
            assert data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xaeB`\x82")
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            files[path.name] = artifact["sha256"]
            where = record["response"]["body"]
            for step in artifact["at"].replace("[", ".").replace("]", "").split("."):
                where = where[int(step) if step.isdigit() else step]
            assert where == {name: value for name, value in artifact.items() if name != "at"}
    assert {file.name for file in (batch.folder / folder).iterdir()} == files.keys()
    return records, files


def run(folder, count, size, name, concurrency):
    """Run a batch of images; returns it and its peak memory in KiB."""
    with serving(folder, scenario(size)) as service:
        limits = ("--concurrency", str(concurrency), "--connections", str(concurrency), "--max-memory", "16MiB")
        batch = Batch(folder, images(count), "--base-url", service.url, *FLAGS, *limits, name=name)
        assert batch.end(batch.start_measured()).code == 1
        return batch, batch.peak()


@pytest.mark.timeout(600)
def test_p13_every_image_is_a_file_that_its_record_names_and_memory_stays_flat(long, tmp_path):
    few, count, size, concurrency, most = (42, 200, 2_000_000, 20, 64) if long else (14, 56, 800_000, 8, 32)
    small, large = tmp_path / "small", tmp_path / "large"
    small.mkdir()
    large.mkdir()
    _, least = run(small, few, size, "small", concurrency)
    batch, peak = run(large, count, size, "large", concurrency)
    records, files = check_files(batch)
    wrong = Counter()
    for n, row in enumerate(batch.rows):
        record = records[row["custom_id"]]
        found = (record["state"], record["warnings"], len(record["artifacts"]))
        wrong[n % len(KINDS), str(found)] += found != KINDS[n % len(KINDS)][1]
    assert +wrong == {}
    assert len(set(files.values())) == len(files), "every row has an image of its own"
    total = sum(file.stat().st_size for file in (large / "images").iterdir())
    told = f"{len(files)} files of {total / 1e6:.0f} MB in all, peak {peak / 1024:.0f} MiB, {least / 1024:.0f} MiB for {few} rows"
    print(f"\n{told}")
    assert batch.output.stat().st_size < 10_000 * count
    assert stat.S_IMODE((large / "images").stat().st_mode) == 0o700
    if sys.platform == "linux":
        assert peak < least + most * 1024, told


def test_p15_a_result_over_the_cap_is_fetched_with_a_larger_one_and_becomes_a_file(long, tmp_path):
    size, cap = (52_500_000, "64MiB") if long else (5_250_000, "6MiB")
    with serving(tmp_path, scenario(size, "10ms")) as service:
        batch = Batch(tmp_path, images(1), "--base-url", service.url, *FLAGS)
        assert batch.run("--max-body", cap).code == 1
        assert batch.states() == {"failed": 1}
        assert batch.run("--max-body", "128MiB", "--retry-failed", "failed").code == 0
        records, _ = check_files(batch)
        ((artifact,),) = [record["artifacts"] for record in records.values()]
        assert artifact["size"] > 0.99 * size
        assert service.statistics()["jobs"] == 1, "nothing was paid again"


def test_o19_killed_while_it_writes_files_and_run_again_it_leaves_no_stray_one(long, tmp_path):
    kinds = [kind for kind in KINDS if kind[0]["url"] == "/v1/responses"]
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    for number in range(12 if long else 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        with serving(folder, scenario(1_500_000)) as service:
            batch = Batch(folder, images(40, kinds), "--base-url", service.url, *FLAGS)
            process = batch.start()
            while not any((folder / "images").glob(".*.new")) and process.poll() is None:
                time.sleep(0.002)
            time.sleep(0.3 * chance.random())
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=LONGEST)
            begun = [file.name for file in (folder / "images").iterdir()]
            assert batch.run().code == 1
            records, files = check_files(batch)
            sure = [records[row["custom_id"]]["state"] != "unconfirmed" for row in batch.rows]
            assert len(files) == sum(kinds[n % len(kinds)][1][2] for n, known in enumerate(sure) if known)
            print(
                f"\nround {number}, seed {seed}: killed with {len(begun)} files, {sum(n[0] == '.' for n in begun)} half"
            )


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a tmpfs of 2 MiB."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("mounting a tmpfs needs root on Linux")
    folder = tmp_path / "images"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_o07_a_full_folder_ends_the_run_and_the_next_one_completes_it(small_disk, tmp_path):
    rows = images(12, [KINDS[0]])
    with serving(tmp_path, scenario(500_000)) as service:
        batch = Batch(tmp_path, rows, "--base-url", service.url, *FLAGS, "--concurrency", "6")
        ended = batch.run()
        assert ended.code == 4
        ended.says("No space left on device", "write failed: ", "free space or fix the disk")
        assert 0 < len(batch.records()) < 12
        assert not [file for file in small_disk.iterdir() if file.name.startswith(".")]
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        assert batch.run().code == 0
        check_files(batch)
        assert set(service.jobs().values()) == {1}, "nothing was paid again"


def test_o07_where_a_paid_image_cannot_be_stored_nor_asked_for_again_its_record_keeps_it(small_disk, tmp_path):
    with serving(tmp_path, scenario(3_000_000, "10ms")) as service:
        batch = Batch(tmp_path, images(1, KINDS[-1:]), "--base-url", service.url, *FLAGS)
        assert batch.run().code == 4
        (record,) = batch.whole().values()
        assert (record["state"], record["warnings"], record["artifacts"]) == ("succeeded", ["artifact_not_stored"], [])
        assert all(len(image["b64_json"]) > 3_900_000 for image in record["response"]["body"]["data"])
        assert list(small_disk.iterdir()) == []
        assert batch.run().code == 0, "there is nothing left to do"


def test_o04_a_folder_that_is_a_link_or_a_file_is_refused_before_the_first_submit(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "images").symlink_to(tmp_path / "elsewhere")
    with serving(tmp_path) as service:
        batch = Batch(tmp_path, images(3), "--base-url", service.url, *FLAGS)
        ended = batch.run()
        assert ended.code == 4
        ended.says("images: expected a folder, found a symbolic link; give a folder, or a new path")
        ended = batch.run("--artifacts", str(batch.input))
        assert ended.code == 4
        ended.says("expected a folder, found a file")
        assert service.statistics()["posts"] == 0
        assert list((tmp_path / "elsewhere").iterdir()) == []
