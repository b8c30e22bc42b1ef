"""`resume`, `collect` and `cancel` find the service of a batch in its journal, and print commands that work when typed."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest

from batchrun.core.journal.entries import Header, read_line
from tests.e2e.stage import CANARY, ENVIRONMENT, PATIENT, Batch, Ended, rows, serving

pytestmark = PATIENT
QUICK = ("--poll-min", "0.1", "--poll-max", "0.3", "--cancel-settle", "0.1")
NO_KEY = {name: value for name, value in ENVIRONMENT.items() if name != "OPENAI_API_KEY"}


def header_of(batch):
    tag, values = read_line(batch.journal.read_bytes().splitlines(keepends=True)[0])
    assert tag == "header"
    return Header.of(values)


def crafted(batch, **more):
    """The journal with another header."""
    first, rest = batch.journal.read_bytes().split(b"\n", 1)
    batch.journal.write_bytes(replace(header_of(batch), **more).to_line() + rest)
    return first


def typed(batch, command):
    """Run a command as it was printed."""
    name, *arguments = shlex.split(command)
    assert name == "batchrun"
    more = () if arguments[0] in ("explain", "status") else QUICK
    made = subprocess.run(
        [sys.executable, "-m", "batchrun", *arguments, *more], env=ENVIRONMENT, cwd=batch.folder, text=True,
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    return Ended(made.returncode, made.stderr + made.stdout, made.stdout)


def printed(said):
    """The commands below `next:`, in order."""
    return re.findall(r"^  (batchrun .*)$", said.partition("next:")[2], re.MULTILINE)


def test_a_batch_on_this_machine(tmp_path):
    with serving(tmp_path) as service:
        batch = Batch(tmp_path, rows(6), "--base-url", service.url)
        detached = batch.run("--detach", "--limit", "4")
        assert detached.code == 0
        collected = batch.tell("collect", *QUICK)
        collected.says("partial: 4 of 6 rows done", "2 rows are not sent, or wait for a retry; collect submits nothing")
        assert (collected.code, batch.states()) == (3, {"succeeded": 4})
        resumed = typed(batch, printed(collected.said)[0])
        assert (resumed.code, batch.states()) == (0, {"succeeded": 6}), resumed.said


def test_a_demo(tmp_path):
    batch = Batch(tmp_path, rows(3, "[[completed]] [[sleep 0.1]]"), "--demo")
    detached = batch.run("--detach")
    assert detached.code == 0
    commands = printed(detached.said)
    assert [command.split()[1] for command in commands] == [str(batch.input), "collect", "cancel"]
    assert typed(batch, commands[1]).code == 0
    assert batch.states() == {"succeeded": 3}
    assert batch.tell("resume", environment=NO_KEY).code == 0


def test_every_command_that_is_printed_works_with_files_and_flags_of_its_own(tmp_path):
    with serving(tmp_path, "[times]\nduration = '1h'\n") as service:
        batch = Batch(tmp_path, rows(4), "--base-url", service.url, "--journal", "my journal")
        detached = batch.run("--detach")
        cancelled = typed(batch, printed(detached.said)[-1])
        assert cancelled.code == 0, cancelled.said
        assert batch.states() == {"cancelled": 4}
        status = batch.tell("status", "--journal", "my journal")
        for command in printed(status.said):
            assert typed(batch, command).code in (0, 1), command


@pytest.mark.parametrize("name", ["collect", "resume", "cancel"])
def test_a_crafted_journal_steers_no_key_to_another_host(name, tmp_path):
    with serving(tmp_path) as service, serving(tmp_path) as other:
        batch = Batch(tmp_path, rows(3), "--base-url", service.url)
        assert batch.run("--detach").code == 0
        evil = other.url.replace("127.0.0.1", "evil.example").replace("http:", "https:")
        crafted(batch, origin=evil)
        before = batch.journal.read_bytes()
        flags = ("--all",) if name == "cancel" else ()
        refused = batch.tell(name, *flags)
        assert refused.code == 2
        refused.says(f"this batch runs on compatible at {evil}", f"add --service compatible --base-url {evil}")
        assert batch.journal.read_bytes() == before
        assert not (tmp_path / "batch.out.requests").exists()
        crafted(batch, service="mine")
        assert batch.tell(name, *flags).code == 2


def test_cancel_that_could_not_be_sent_leaves_no_request_behind(tmp_path):
    with serving(tmp_path, "[times]\nduration = '1s'\n") as service:
        batch = Batch(tmp_path, rows(3), "--base-url", service.url)
        assert batch.run("--detach").code == 0
        requests = tmp_path / "batch.out.requests"
        for flags in (("--all",), ("--id", "row-0", "--id", "row-1")):
            missing = batch.tell("cancel", *flags, "--service", "openai", environment=NO_KEY)
            assert missing.code == 2
            missing.says("OPENAI_API_KEY is not set", "no cancel request is left behind")
            assert not requests.exists()
        recorded = b'{"cancel":["row-9"],"run_id":"another","at":1.0}\n'
        requests.write_bytes(recorded)
        assert batch.tell("cancel", "--all", "--poll-min", "9", "--poll-max", "1").code == 2
        assert requests.read_bytes() == recorded, "that of another process stays"
        ended = batch.run(*QUICK)
        assert (ended.code, batch.states()) == (0, {"succeeded": 3})
        assert CANARY not in json.dumps(batch.records())


def test_a_batch_whose_records_go_to_stdout(tmp_path):
    batch = Batch(tmp_path, rows(2, "[[sleep 600]]"), "--demo")
    command = "-o - --journal j"
    detached = typed(batch, f"batchrun {batch.input.name} {command} --demo --detach")
    assert detached.code == 0, detached.said
    status = typed(batch, "batchrun status - --journal j")
    assert printed(status.said)[-1] == "batchrun cancel - --journal j --all"
    for printed_command in (printed(detached.said)[-1], printed(status.said)[-1]):
        cancelled = typed(batch, printed_command)
        assert cancelled.code == 0, cancelled.said
    assert "2 rows had already ended as cancelled" in cancelled.said
