"""The order of a cancel: flagged, journaled, synced, and only then sent; sent once."""

import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import About, CancelReason, Row
from batchrun.core.jobs.lifecycle import Phase
from tests.core.driver import Driver, answer, error

CANCEL = m.CancelRequested(frozenset({"row-0"}), CancelReason.USER)


class SlowDisk(Driver):
    """The journal's syncs are held back on demand, and reported by `sync`."""

    held = False

    def feed(self, event):
        if self.held and isinstance(event, m.Synced) and event.file is m.BatchFile.JOURNAL:
            return []
        return super().feed(event)

    def sync(self):
        self.held = False
        self.feed(m.Synced(m.BatchFile.JOURNAL, len(self.entries)))


def running(job_id, n):
    return answer(200, {"id": job_id, "status": "in_progress"})


def test_a_cancel_is_sent_once_its_entry_is_on_the_disk_and_not_before():
    run = SlowDisk(1, poll=running)
    run.run(until=0.5)
    run.held = True
    run.feed(CANCEL)
    assert run.tags("row-0")[-1] == "cancelling"
    assert next(iter(run.engine.jobs.watched.values())).phase is Phase.CANCELLING
    assert run.run(until=60.0).sent["cancel"] == []
    run.sync()
    run.run()
    assert run.times("cancel") == [60.0]
    assert run.records["row-0"]["state"] == "cancelled"


def test_a_deadlines_cancel_waits_for_its_entry_too():
    run = SlowDisk(1, poll=running, deadline=20.0)
    run.run(until=10.0)
    run.held = True
    assert run.run(until=60.0).sent["cancel"] == []
    assert run.tags("row-0")[-1] == "cancelling"
    run.sync()
    run.run()
    assert run.times("cancel") == [60.0]


@pytest.mark.parametrize("phase", [Phase.RECORDING, Phase.POLLING])
def test_a_cancel_whose_entry_is_synced_while_the_job_is_busy_is_sent_once(phase):
    """Its entry is on the disk before the id is, or before a poll is answered."""
    run = SlowDisk(1, poll=running, latency=1.0)
    if phase is Phase.RECORDING:
        run.run(until=0.5)
        run.feed(CANCEL)  # while its POST is in flight
        run.held = True
        run.run(until=5.0)
        assert run.sent["cancel"] == [], "its id is not on the disk"
        run.sync()
        sent_at = 5.0
    else:
        while run.engine.jobs.in_phase[Phase.POLLING] == 0:
            run.run(until=run._queue[0][0])
        sent_at = run.now + 1.0
        run.feed(CANCEL)
    run.run()
    assert run.times("cancel") == [pytest.approx(sent_at)]
    assert run.records["row-0"]["state"] == "cancelled"


@pytest.mark.parametrize(
    ("status", "warnings"), [("completed", ["late_completed"]), ("incomplete", ["late_completed"]), ("failed", [])]
)
def test_a_cancelled_job_that_its_submit_shows_to_be_over_is_neither_kept_nor_tried_again(status, warnings):
    over = {"id": "j", "status": status, "output": "canary", "error": {"code": "server_error", "message": "x"}}
    run = Driver(1, latency=1.0, submit=lambda key, n: answer(200, over))
    run.at(0.5, CANCEL)
    run.run()
    record = run.records["row-0"]
    assert (record["state"], record["warnings"], record["job_id"]) == ("cancelled", warnings, "j")
    assert (record["response"], record["output_text"], len(run.sent["submit"])) == (None, None, 1)
    assert not any(b"canary" in getattr(one, "line", b"") for one in run.instructions)


def test_the_intent_of_a_row_that_is_cancelled_before_its_post_is_cleared():
    """Without that the next run could not know that nothing was sent."""
    run = SlowDisk(1, start=False)
    run.held = True
    run.feed(m.TimerFired())
    run.run(until=1.0)
    run.feed(CANCEL)
    assert run.tags("row-0") == ["intent", "cancelling", "cleared", "done"]
    assert run.engine.gate.exposed == 1, "until that is on the disk"
    run.sync()
    run.run()
    assert (run.records["row-0"]["billing"], run.sent["submit"]) == ("not_billed", [])
    assert run.engine.gate.exposed == 0


def test_a_first_refusal_that_is_cancelled_while_its_verdict_is_held_back_ends_cancelled_once():
    refused = error(400, "invalid_prompt")
    run = Driver(2, submit=lambda key, n: refused if key == "row-0" else run.accept(key, n), submits=1, rpm=60)
    run.run(until=0.5)
    assert (run.records, run.tags("row-0")) == ({}, ["intent", "cleared"]), "perhaps the fault of the run"
    run.feed(CANCEL)
    run.run()
    assert (run.records["row-0"]["state"], run.records["row-0"]["billing"]) == ("cancelled", "not_billed")
    assert (run.records["row-1"]["state"], run.times("submit", "row-0")) == ("succeeded", [0.0])


# --- what the record of a cancelled row says ---


def cancelled_at(when, rows, **script):
    run = Driver(rows, **script)
    run.at(when, CANCEL)
    return run.run().records["row-0"]


@pytest.mark.parametrize("when", [0.0, 0.05, 0.5, 20.0])
def test_a_cancelled_row_names_the_model_that_was_asked_for_where_the_service_named_none(when):
    record = cancelled_at(when, [Row("row-0", About("gpt-5"))], poll=running)
    assert (record["state"], record["model"]) == ("cancelled", "gpt-5")


@pytest.mark.parametrize("asked", [None, "gpt-5"])
@pytest.mark.parametrize(
    "last", [running, lambda job_id, n: error(404, "not_found"), lambda job_id, n: error(500, "x")]
)
def test_a_cancelled_row_names_the_model_that_the_service_named_whatever_its_last_poll_shows(asked, last):
    def cancel(job_id, n):
        return answer(200, {"id": job_id, "status": "cancelled", "model": "gpt-5-2025-08-07"})

    record = cancelled_at(0.5, [Row("row-0", About(asked))], poll=last, cancel=cancel)
    assert (record["state"], record["model"]) == ("cancelled", "gpt-5-2025-08-07")


def test_a_cancelled_row_names_the_model_that_a_poll_named():
    def poll(job_id, n):
        return answer(200, {"id": job_id, "status": "cancelled", "model": "m"}) if n == 0 else error(500, "x")

    record = cancelled_at(0.5, 1, poll=poll, cancel=lambda job_id, n: error(409, "no"))
    assert (record["state"], record["model"]) == ("cancelled", "m")
