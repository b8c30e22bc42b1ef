"""Stopped by a signal, and continued: nothing is sent twice, nothing is lost, and it says how to go on."""

import contextlib
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.holding import holding
from tests.e2e.stage import PATIENT, Batch, rows, serving, wait_until

SLOW = """
[times]
post = "50ms..300ms"
duration = "300ms..800ms"
"""
NOHUP = ("sh", "-c", "trap '' HUP; exec \"$@\"", "sh")
FAST = ("--poll-min", "200ms", "--poll-max", "1s", "--poll-rate", "2000")


pytestmark = PATIENT


@pytest.fixture
def service(tmp_path):
    with serving(tmp_path, SLOW) as service:
        yield service


@pytest.fixture
def proxy(service):
    """Takes 20 submits; all others stay on their way until it lets go."""
    with holding(service, "/responses", passed=20) as proxy:
        yield proxy


def signalled(batch, proxy, number, *flags, **more):
    """Run until submits are in flight, and send a signal."""
    process = batch.start("--submits", "8", *flags, **more)
    wait_until(lambda: proxy.held.total() == 8)
    process.send_signal(number)
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=lambda v: str(int(v))
)
def test_o18_one_signal_drains_and_the_same_command_goes_on(number, code, proxy, service, tmp_path):
    batch = Batch(tmp_path, rows(50), "--base-url", proxy.url, *FAST)
    process = signalled(batch, proxy, number, "--drain", "2h")
    wait_until(lambda: "stopping: waiting for 8 submits in flight" in batch.screen.read_text())
    assert process.poll() is None
    proxy.let_go()
    first = batch.end(process)
    assert first.code == code
    books = service.statistics()
    assert (books["posts"], books["jobs"], books["posts_in_flight"]) == (28, 28, 0), "it sends nothing more"
    assert len(batch.records()) <= 28
    assert batch.journal.read_text().count('"submitted":') == 28, "each answer was waited for"
    first.says("stopping", "resumes this batch", f"batchrun {batch.input} -o {batch.output}")
    first.says("still running on the service and will be billed; the next run collects them and pays nothing twice")

    second = batch.run()
    assert second.code == 0
    second.says("resuming 50 rows", "complete: 50 of 50 rows done")
    assert {record["state"] for record in batch.whole().values()} == {"succeeded"}
    assert service.posts() == dict.fromkeys(batch.whole(), 1)

    before = service.statistics()
    third = batch.run()
    third.says("nothing is left to do; nothing is sent")
    assert (third.code, service.statistics()) == (0, before)


def test_o18_a_hangup_that_is_ignored_from_the_start_stops_nothing(proxy, service, tmp_path):
    batch = Batch(tmp_path, rows(40), "--base-url", proxy.url, *FAST)
    process = signalled(batch, proxy, signal.SIGHUP, under=NOHUP)
    proxy.let_go()
    assert batch.end(process).code == 0
    assert service.posts() == dict.fromkeys(batch.whole(), 1)


def test_o18_the_second_ctrl_c_leaves_at_once(tmp_path):
    """The POST in flight is answered in hours, and would be waited for: there is an end because it is not."""
    with serving(tmp_path, '[times]\npost = "2h"\n') as service:
        batch = Batch(tmp_path, rows(5), "--base-url", service.url)
        events = tmp_path / "events"
        process = batch.start("--drain", "2h", "--log-json", str(events))
        service.wait_until(lambda books: books["posts_in_flight"] == 1)
        process.send_signal(signal.SIGINT)
        wait_until(lambda: "stopping: waiting for 1 submit in flight" in batch.screen.read_text())
        process.send_signal(signal.SIGINT)
        ended = batch.end(process)
        assert ended.code == 130
        assert events.read_text().count('"signal":"SIGINT"') == 2, "the first one is waited for"
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
def test_o18_a_signal_before_anything_began_ends_quietly(number, moment, tmp_path):
    """Signals are left to the system until then: no traceback can come of it.

    Where it comes late the first submit, which goes alone, is on its way, and is not answered.
    """
    with serving(tmp_path, '[times]\npost = "2h"\n') as service:
        batch = Batch(tmp_path, rows(20_000), "--base-url", service.url, "--drain", "1s")
        process = batch.start(begun=False)
        wait_until(lambda: moment(process, batch), pause=0.002)
        process.send_signal(number)
        assert batch.end(process).code in (128 + number, -number)
        assert service.statistics()["posts"] <= 1


def test_o18_in_the_demo_too(tmp_path):
    batch = Batch(tmp_path, rows(60, "[[completed]] [[sleep 1]] say hello"), "--demo", *FAST)
    process = batch.start("--rpm", "60")  # a minute of submits
    wait_until(lambda: batch.journal.read_text().count('"submitted":') >= 2)
    process.send_signal(signal.SIGINT)
    first = batch.end(process)
    assert first.code == 130
    journal = batch.journal.read_text()
    sent = journal.count('"submitted":')
    assert sent + journal.count('"cleared":') == journal.count('"intent":') and sent >= 2, "none is left unanswered"
    second = batch.run()
    assert second.code == 0
    assert {record["state"] for record in batch.whole().values()} == {"succeeded"}
    journal = batch.journal.read_text()
    assert journal.count('"submitted":') == 60
    sent = len(journal)
    assert batch.run().code == 0
    assert batch.journal.read_text()[sent:].count('"intent":') == 0


def test_o23_a_process_that_was_stopped_goes_on_and_its_overdue_looks_keep_to_their_rate(tmp_path):
    """By no moment have more looks come than the rate allows since it went on: on a slow machine they come later."""
    rate = 60
    with serving(tmp_path, "[times]\nduration = '5s'\n") as service:
        batch = Batch(tmp_path, rows(150), "--base-url", service.url, *FAST, "--poll-rate", str(rate))
        process = batch.start()
        service.wait_until(lambda books: books["jobs"] == 150)
        process.send_signal(signal.SIGSTOP)
        time.sleep(3)  # all looks are overdue
        service.statistics()  # what came before it was asked is counted
        before = service.statistics()["polls"]
        went_on = time.monotonic()
        process.send_signal(signal.SIGCONT)
        while process.poll() is None:
            came = service.statistics()["polls"] - before
            assert came <= rate / 2 + rate * (time.monotonic() - went_on)
            time.sleep(0.02)
        assert batch.end(process).code == 0
        assert {record["state"] for record in batch.whole().values()} == {"succeeded"}
        assert service.posts() == dict.fromkeys(batch.whole(), 1)
