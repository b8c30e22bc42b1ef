"""Stopped by a signal, and continued: nothing is sent twice, nothing is lost, and it says how to go on."""

import contextlib
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.stage import Batch, rows, serving

SLOW = """
[times]
post = "50ms..300ms"
duration = "300ms..800ms"
"""
NOHUP = ("sh", "-c", "trap '' HUP; exec \"$@\"", "sh")
FAST = ("--poll-min", "200ms", "--poll-max", "1s", "--poll-rate", "2000")


@pytest.fixture
def service(tmp_path):
    with serving(tmp_path, SLOW) as service:
        yield service


def stopped(batch, service, *signals, **more):
    """Run until submits are in flight, send `signals`, and wait for the end."""
    process = batch.start(**more)
    service.wait_until(lambda books: books["jobs"] >= 20 and books["posts_in_flight"] >= 5)
    for number in signals:
        process.send_signal(number)
    return batch.end(process)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=lambda v: str(int(v))
)
def test_o18_one_signal_drains_and_the_same_command_goes_on(number, code, service, tmp_path):
    batch = Batch(tmp_path, rows(50), "--base-url", service.url, *FAST)
    first = stopped(batch, service, number)
    assert first.code == code
    books = service.books()
    assert books["posts_in_flight"] == 0
    assert len(batch.records()) < 50
    first.says("stopping", "goes on where this run stopped", f"batchrun {batch.input} -o {batch.output}")
    first.says("go on over there and are billed; the next run collects them and pays nothing twice")
    time.sleep(0.4)
    assert service.books()["posts"] == books["posts"], "the process that has ended sends nothing"

    second = batch.run()
    assert second.code == 0
    second.says("resuming 50 rows", "complete: 50 of 50 rows done")
    assert {record["state"] for record in batch.whole().values()} == {"succeeded"}
    assert service.posts() == dict.fromkeys(batch.whole(), 1)

    before = service.books()
    third = batch.run()
    third.says("nothing is left to do, and nothing is sent")
    assert (third.code, service.books()) == (0, before)


def test_o18_a_hangup_that_is_ignored_from_the_start_stops_nothing(service, tmp_path):
    batch = Batch(tmp_path, rows(40), "--base-url", service.url, *FAST)
    assert stopped(batch, service, signal.SIGHUP, under=NOHUP).code == 0
    assert service.posts() == dict.fromkeys(batch.whole(), 1)


def test_o18_the_second_ctrl_c_leaves_at_once(tmp_path):
    with serving(tmp_path, '[times]\npost = "20s"\n') as service:
        batch = Batch(tmp_path, rows(5), "--base-url", service.url)
        process = batch.start()
        service.wait_until(lambda books: books["posts_in_flight"] == 1)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None, "it waits for the POST in flight"
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        ended = batch.end(process)
        assert ended.code == 130
        assert time.monotonic() - began < 2
        ended.says(
            "1 POST was in flight: its row may have been sent and billed, and ends as unconfirmed in the next run"
        )
        service.behave('[times]\nduration = "100ms"\n')
        assert batch.run(*FAST).code == 1
        assert batch.states() == {"succeeded": 4, "unconfirmed": 1}
        assert service.posts() == dict.fromkeys(batch.whole(), 1)


def importing(process, batch):
    return "orjson" in Path(f"/proc/{process.pid}/maps").read_text()


def checking(process, batch):
    for one in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if one.readlink() == batch.input.resolve():
                return True
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda v: str(int(v)))
@pytest.mark.parametrize("moment", [importing, checking])
def test_o18_a_signal_before_anything_began_ends_quietly(number, moment, service, tmp_path):
    """Signals are left to the system until then: no traceback can come of it."""
    batch = Batch(tmp_path, rows(20_000), "--base-url", service.url)
    process = batch.start(begun=False)
    end = time.monotonic() + 10
    while not moment(process, batch) and time.monotonic() < end:
        time.sleep(0.002)
    process.send_signal(number)
    assert batch.end(process).code in (128 + number, -number)
    assert service.books()["posts"] <= 64


def test_o18_in_the_demo_too(tmp_path):
    batch = Batch(tmp_path, rows(60, "[[completed]] [[sleep 1]] say hello"), "--demo", *FAST)
    process = batch.start()
    time.sleep(0.7)
    process.send_signal(signal.SIGINT)
    first = batch.end(process)
    assert first.code == 130
    journal = batch.journal.read_text()
    assert journal.count('"submitted":') == journal.count('"intent":') > 0
    second = batch.run()
    assert second.code == 0
    assert {record["state"] for record in batch.whole().values()} == {"succeeded"}
    journal = batch.journal.read_text()
    assert journal.count('"submitted":') == journal.count('"intent":') == 60
    sent = len(journal)
    assert batch.run().code == 0
    assert batch.journal.read_text()[sent:].count('"intent":') == 0


def test_o23_a_process_that_was_stopped_goes_on_and_its_overdue_looks_keep_to_their_rate(service, tmp_path):
    batch = Batch(tmp_path, rows(150), "--base-url", service.url, *FAST, "--poll-rate", "60")
    process = batch.start()
    service.wait_until(lambda books: books["jobs"] >= 60)
    process.send_signal(signal.SIGSTOP)
    stopped = service.books()
    time.sleep(3)
    assert service.books()["polls"] <= stopped["polls"] + 60, "what was under way may still be answered"
    process.send_signal(signal.SIGCONT)
    ended = batch.end(process)
    assert ended.code == 0
    assert {record["state"] for record in batch.whole().values()} == {"succeeded"}
    assert service.posts() == dict.fromkeys(batch.whole(), 1)
    assert service.books()["peak_polls_per_second"] <= 60 * 1.5
