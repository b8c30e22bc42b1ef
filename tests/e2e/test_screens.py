"""What people see when something is wrong: the exit code, the line that says so, and the next step."""

import signal
import socket
import subprocess
import sys

import pytest

from tests.e2e.stage import ENVIRONMENT, LONGEST, PATIENT, Batch, rows, serving

pytestmark = PATIENT
QUICK = "[times]\nduration = '100ms'\n"
FLAGS = ("--poll-min", "200ms", "--poll-max", "1s")


def test_a_bad_row_stops_before_anything_is_sent(tmp_path):
    with serving(tmp_path, QUICK) as service:
        batch = Batch(tmp_path, rows(5), "--base-url", service.url, *FLAGS)
        with batch.input.open("a") as file:
            file.write('{"custom_id": "row-5", "body": {"model": "gpt-5"\n')
        ended = batch.run()
        assert ended.code == 2
        ended.says("1 of 6 rows is bad and nothing was sent", "line 6: invalid_json", "--skip-bad")
        assert service.statistics()["posts"] == 0
        assert not batch.output.exists()
        assert batch.run("--skip-bad").code == 1
        assert batch.states() == {"succeeded": 5, "rejected": 1}


def test_no_api_key(tmp_path):
    batch = Batch(tmp_path, rows(5))
    bare = {name: value for name, value in ENVIRONMENT.items() if name != "OPENAI_API_KEY"}
    ended = batch.run(environment=bare)
    assert ended.code == 2
    ended.says("OPENAI_API_KEY is not set", "export it")
    assert not batch.output.exists()


def test_a_wrong_api_key(tmp_path):
    with serving(tmp_path, "api_key = 'sk-another'\n") as service:
        batch = Batch(tmp_path, rows(50), "--base-url", service.url, *FLAGS)
        ended = batch.run()
        assert ended.code == 3
        ended.says("auth: ", "incorrect API key provided", "give a valid API key", "resumes this batch")
        assert service.statistics()["posts"] == 1, "the first submit goes alone"
        assert batch.records() == {}
        service.behave(QUICK)
        assert batch.run().code == 0


def test_s01_a_refused_connection_is_waited_for(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    batch = Batch(tmp_path, rows(5), "--base-url", f"http://127.0.0.1:{port}/v1", *FLAGS)
    ended = batch.run("--max-wait", "5s")
    assert ended.code == 3
    why = f"no connection to 127.0.0.1:{port}: connection refused"
    ended.says(f"{why}; trying again for 1 min 30 s", f"the last submit: {why}; nothing was sent", "5 rows are left")
    assert batch.records() == {}
    with serving(tmp_path, QUICK, port=port) as service:
        assert batch.run().code == 0
        assert service.posts() == dict.fromkeys(batch.whole(), 1)


def test_o07_a_full_disk_ends_the_run_and_the_next_completes_it(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        with serving(tmp_path, QUICK) as service:
            batch = Batch(tmp_path, rows(300), "--base-url", service.url, *FLAGS, "--submits", "8")
            batch.output, batch.journal = disk / "out", disk / "out.journal"
            ended = batch.run()
            assert ended.code == 4, ended.said
            ended.says(
                "No space left on device",
                "stopped, because the files could not be written",
                "resumes this batch",
            )
            books = service.statistics()
            assert books["posts"] < 300
            subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True, timeout=LONGEST)
            assert batch.run().code in (0, 1)
            lost = [key for key, record in batch.whole().items() if record["state"] == "unconfirmed"]
            assert len(lost) <= 8
            assert set(batch.states()) <= {"succeeded", "unconfirmed"}
            posts = service.posts()
            assert all(posts.get(key, 0) == 1 or key in lost for key in batch.whole()), "no row was sent twice"
            assert max(posts.values()) == 1
    finally:
        subprocess.run(["umount", "-l", disk], check=False, timeout=LONGEST)


def test_o10_a_second_run_on_one_output_is_refused(tmp_path):
    with serving(tmp_path, "[times]\nduration = '2h'\n") as service:
        batch = Batch(tmp_path, rows(3), "--base-url", service.url, *FLAGS)
        first = batch.start()
        screen = batch.screen
        service.wait_until(lambda books: books["jobs"] == 3)
        books = service.statistics()
        second = batch.run()
        assert second.code == 4
        second.says(str(first.pid))
        assert service.statistics()["posts"] == books["posts"]
        first.send_signal(signal.SIGINT)
        batch.screen = screen
        assert batch.end(first).code == 130


@pytest.mark.parametrize("stderr", ["closed", "full"])
def test_o21_nobody_hears_it(stderr, tmp_path):
    """stderr that is closed, or that fails at every write: the run goes on."""
    with serving(tmp_path, QUICK) as service:
        batch = Batch(tmp_path, rows(10), "--base-url", service.url, *FLAGS)
        command = [sys.executable, "-m", "batchrun", str(batch.input), "-o", str(batch.output), *batch.flags]
        shell = ["sh", "-c", 'exec "$@" 2>&-' if stderr == "closed" else 'exec "$@" 2>/dev/full', "sh", *command]
        done = subprocess.run(
            shell, env=ENVIRONMENT, cwd=tmp_path, stdout=subprocess.PIPE, timeout=LONGEST, check=False
        )
        assert (done.returncode, done.stdout) == (0, b"")
        assert len(batch.whole()) == 10
        assert service.statistics()["posts"] == 10
