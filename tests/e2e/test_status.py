"""`batchrun status` beside a real run, after it was killed, and until it ends: nothing that it does is felt."""

import fcntl
import json
import os
import pty
import shlex
import signal
import struct
import subprocess
import sys
import termios

from tests.e2e.holding import holding
from tests.e2e.stage import ENVIRONMENT, LONGEST, PATIENT, Batch, rows, serving, wait_until

pytestmark = PATIENT
QUICK = "[times]\nduration = '100ms'\n"
FLAGS = ("--poll-min", "200ms", "--poll-max", "1s")


def command(batch, *flags):
    return [sys.executable, "-m", "batchrun", "status", batch.output.name, *flags]


def status(batch, *flags):
    done = subprocess.run(
        command(batch, *flags), capture_output=True, text=True, env=ENVIRONMENT, cwd=batch.folder, timeout=LONGEST, check=False
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout) if "--json" in flags else done.stdout


def contents(batch):
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in batch.folder.iterdir()}


def test_beside_a_run_after_its_kill_and_after_the_command_that_it_names(tmp_path):
    with serving(tmp_path, "[times]\nduration = '2h'\n") as service:
        batch = Batch(tmp_path, rows(40), "--base-url", service.url, *FLAGS, "--concurrency", "20")
        process = batch.start()
        service.wait_until(lambda books: books["jobs"] == 20)
        wait_until(lambda: status(batch, "--json")["stages"]["watching"] == 20)
        found = status(batch, "--json")
        assert found["run"]["state"] == "running"
        assert found["run"]["process"] == process.pid
        assert (found["rows"], found["jobs"]) == ({"total": 40, "done": 0, "open": 40}, 20)
        assert found["stages"] == {"waiting": 20, "retrying": 0, "submitting": 0, "watching": 20, "cancelling": 0}
        process.send_signal(signal.SIGKILL)
        process.communicate()
        before = contents(batch)
        assert status(batch).startswith("ended unexpectedly after ")
        found = status(batch, "--json")
        assert contents(batch) == before
        assert (found["run"]["state"], found["left_s"], found["lately"]) == ("lost", None, None)
        assert found["oldest"]["key"].startswith("row-")
        posts = service.statistics()["posts"]
        service.behave(QUICK)
        named = shlex.split(found["next"][0]["command"])
        assert named[:3] == ["batchrun", "resume", batch.output.name]
        resumed = subprocess.run(
            [sys.executable, "-m", *named, *FLAGS, "--deadline", "1s", "--cancel-settle", "200ms"],
            env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST, check=False,
        )  # fmt: skip
        assert resumed.returncode == 1, resumed.stderr
        assert service.statistics()["posts"] == posts + 20
        found = status(batch, "--json")
        assert (found["run"]["state"], found["rows"]["open"]) == ("complete", 0)
        assert found["states"] == dict(batch.states())


def test_watching_ends_with_the_run_and_says_how(tmp_path):
    with serving(tmp_path, QUICK) as service, holding(service, "/responses", passed=20) as proxy:
        batch = Batch(tmp_path, rows(30), "--base-url", proxy.url, *FLAGS)
        process = batch.start()
        watching = [
            subprocess.Popen(command(batch, "--watch", *flags), stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=tmp_path)
            for flags in ((), ("--json",))
        ]  # fmt: skip
        began = [one.stdout.readline() for one in watching]
        proxy.let_go()
        blocks, lines = (
            first + one.communicate(timeout=LONGEST)[0] for first, one in zip(began, watching, strict=True)
        )
        assert batch.end(process).code == 0
        assert [one.returncode for one in watching] == [0, 0]
        assert blocks.startswith("running, process ")
        assert "\n\ncomplete at " in blocks
        assert "30 of 30 rows done, 100%" in blocks
        told = [json.loads(line)["run"]["state"] for line in lines.splitlines()]
        assert (told[0], told[-1]) == ("running", "complete")
        assert len(told) > 1


def test_watching_on_a_terminal_draws_in_place_and_ctrl_c_ends_it_quietly(tmp_path):
    with serving(tmp_path, "[times]\nduration = '2h'\n") as service:
        batch = Batch(tmp_path, rows(30), "--base-url", service.url, *FLAGS)
        process = batch.start()
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 8, 60, 0, 0))
        watcher = subprocess.Popen(
            command(batch, "--watch"), stdin=theirs, stdout=theirs, stderr=theirs, env=ENVIRONMENT | {"TERM": "xterm"},
            cwd=tmp_path, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        seen = b""
        while seen.count(b"running, process") < 2:
            seen += os.read(ours, 65536)
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(timeout=LONGEST) == 0
        seen += os.read(ours, 65536)
        os.close(ours)
        assert b"Traceback" not in seen
        first = seen.split(b"running, process")[1]
        drawn = first.count(b"\n")
        assert drawn <= 7, "a line of the terminal is left for the cursor"
        assert f"\x1b[{drawn}A".encode() in first, "the next goes back to where this began"
        assert first.count(b"\x1b[K") == drawn
        assert process.poll() is None, "the run feels nothing of it"
        process.send_signal(signal.SIGINT)
        assert batch.end(process).code == 130
        assert status(batch).startswith("stopped by Ctrl-C at ")
