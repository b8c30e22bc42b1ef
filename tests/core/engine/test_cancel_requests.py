"""What is asked of a run from outside: cancels by name, of all, by an interrupt; and how a wish is taken in hand."""

import orjson
import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import CancelReason, Row
from batchrun.core.journal.entries import Header, frame
from batchrun.core.journal.fold import JournaledRow, fold
from tests.core.driver import Driver, answer

HEADER = Header(1, "run", "openai", "https://api.openai.com", "", "f00d", {}, "in.jsonl", 1.0)


def running(job_id, n):
    return answer(200, {"id": job_id, "status": "in_progress"})


class Night(Driver):
    """Jobs run until they are cancelled."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **{"poll": self.until_cancelled, "cancel_settle": 1.0} | settings)

    def until_cancelled(self, job_id, n):
        ended = any(job_id == of for _, of in self.sent["cancel"])
        return answer(200, {"id": job_id, "status": "cancelled" if ended else "in_progress"})


def request(*names, read_to=10, unread=()):
    return m.CancelRequested(frozenset(names), CancelReason.USER, frozenset(unread), read_to)


def request_all(read_to=10):
    return m.CancelRequested(None, CancelReason.USER, read_to=read_to)


def folded(run):
    return fold([HEADER.to_line(), *(frame(orjson.dumps(entry)) for entry in run.entries)])


def heard(run):
    return [(entry["heard"]["to"], entry["heard"]["all"]) for entry in run.entries if "heard" in entry]


# --- by name ---


def test_a_job_may_be_named_by_its_id():
    run = Night(3)
    run.at(2.0, request("job_row-1_0", "row-2"))
    run.run(until=9.0)
    assert run.states() == {"cancelled": 2}
    assert set(run.records) == {"row-1", "row-2"}


def test_a_wish_is_in_hand_behind_the_entries_that_it_brought():
    run = Driver(500, concurrency=10, submits=4, poll=running)
    run.at(3.0, request("row-1", "row-400", "nobody", unread=["row-400"]))
    run.run(until=3.0)
    tags = [next(iter(entry)) for entry in run.entries]
    assert tags.count("cancelling") == 2
    assert max(i for i, tag in enumerate(tags) if tag == "cancelling") < tags.index("heard")
    state = folded(run)
    assert (state.heard_to, state.cancel_all, "nobody" in state.journaled_rows) == (10, False, False)
    assert state.journaled_rows["row-400"].cancel == "user", "a row that is not read yet has it as well"


def test_a_request_for_an_unknown_row_is_accepted_too():
    run = Driver(3)
    run.at(0.2, request("nobody", read_to=77))
    run.run()
    assert heard(run) == [(77, False)]


def test_c06_an_early_wish_for_a_finished_row_leaves_no_trace():
    run = Driver(3, start=False)
    run.take_up([], {"row-0": "succeeded"}, 1, 0, 0, 0)
    run.feed(request("row-0", unread=["row-0"]))
    run.run()
    assert run.tags("row-0") == []
    assert set(run.records) == {"row-1", "row-2"}


def test_without_an_input_a_name_that_nobody_knows_is_left_to_a_run_with_one():
    journaled = JournaledRow()
    journaled.job_id, journaled.submitted_at = "j", 999_990.0
    run = Night(start=False, collecting=True)
    run.take_up([(Row("a"), journaled)], {"done": "failed"}, 1, 0, 0, 0)
    run.feed(request("a", read_to=20))
    run.feed(request("a", "unsent", read_to=40))
    run.feed(request("a", "done", read_to=60))
    run.run()
    assert (heard(run), run.states()) == ([(20, False), (40, False), (60, False)], {"cancelled": 1})
    assert "unsent" not in folded(run).journaled_rows
    assert folded(run).heard_to == 20, "whoever comes next reads it again, although later ones were heard"


def test_the_first_of_two_names_that_nobody_knows_is_left_too():
    run = Night(start=False, collecting=True)
    run.recover(1)
    for name, read_to in (("old-0", 20), ("unsent", 40), ("unsent too", 60)):
        run.feed(request(name, read_to=read_to))
    run.run()
    assert folded(run).heard_to == 20


def test_a_run_that_only_cancels_takes_up_rows_that_are_requested_meanwhile():
    def left(key):
        journaled = JournaledRow()
        journaled.job_id, journaled.submitted_at = f"j-{key}", 999_990.0
        return Row(key), journaled

    run = Night(start=False, collecting=True)
    run.take_up([left("a")], {"done": "failed"}, 3, 0, 0, 0)
    run.feed(request("a", read_to=40))
    run.at(0.5, m.RowsRecalled([left("a"), left("b"), left("done")]))
    run.at(0.5, request("j-b", read_to=60))
    run.run()
    assert (set(run.records), run.states()) == ({"a", "b"}, {"cancelled": 2})
    assert run.times("cancel", "j-a") == [0.0]
    assert (run.times("cancel", "j-b"), heard(run)) == ([0.5], [(40, False), (60, False)])


def test_a_wish_for_a_row_whose_record_may_still_be_lost_is_written_too():
    class Held(Night):
        def feed(self, event):
            held = isinstance(event, m.Synced) and event.file is m.BatchFile.OUTPUT
            return [] if held else super().feed(event)

    run = Held(2, submit=lambda key, n: answer(400, {"error": {"code": "invalid_prompt", "message": "no"}}))
    run.at(3.0, request("row-0"))
    run.run(until=3.0)
    assert (run.states(), heard(run)) == ({"rejected": 2}, [(10, False)])
    assert (run.tags("row-0")[-1], run.tags("row-1")[-1]) == ("cancelling", "cleared")
    assert folded(run).journaled_rows["row-0"].cancel == "user", "without its record nothing was sent that counts"


@pytest.mark.parametrize("requested", [{"a", "j"}, None], ids=["by name", "all"])
def test_c02_c07_a_run_starts_with_the_cancels_requested_before_it(requested):
    """Also a row whose answer an earlier run did not live to see: it is not written as unconfirmed first."""
    lost, watched = JournaledRow(), JournaledRow()
    lost.open_intent = True
    watched.job_id, watched.submitted_at = "j", 999_990.0
    run = Night(start=False)
    run.take_up([(Row("a"), lost), (Row("b"), watched)], {}, 1, 0, 0, 0, to_cancel=requested)
    run.feed(m.CancelRequested(requested and frozenset(requested), CancelReason.USER, read_to=40))
    run.feed(m.InputEnded())
    run.run()
    assert run.states() == {"cancelled": 2}
    assert run.records["a"]["warnings"] == ["submit_unanswered"]
    assert (run.times("cancel"), [run.tags(key)[0] for key in "ab"]) == ([0.0], ["cancelling", "cancelling"])
    tags = [next(iter(entry)) for entry in run.entries]
    assert tags.count("cancelling") == 2
    assert tags.index("heard") > 1


# --- all ---


def test_a_wish_for_all_stands_until_the_last_row_has_its_record():
    run = Night(500, concurrency=10, submits=4)
    run.at(3.0, request_all(25))
    run.run()
    assert (run.outcome, run.states()) == (m.Outcome.COMPLETE, {"cancelled": 500})
    assert heard(run) == [(25, True), (25, False)]
    last = len(run.entries) - 1 - [next(iter(entry)) for entry in run.entries][::-1].index("heard")
    assert sum("done" in entry for entry in run.entries[:last]) == 500, "fulfilled only once all is on the disk"


def test_a_wish_for_all_outlives_the_run():
    run = Driver(500, concurrency=10, submits=4, poll=running)
    run.at(3.0, request_all(25))
    run.at(3.0, m.StopRequested(m.StopMode.NOW))
    run.run()
    assert folded(run).cancel_all
    after = Night(20, start=False)
    journaled = JournaledRow()
    journaled.job_id, journaled.submitted_at = "j", 999_990.0
    after.take_up([(Row("row-0"), journaled)], {}, 1, 0, 0, 0, requests_read_to=25, cancel_all=True)
    after.run()
    assert (after.sent["submit"], after.states()) == ([], {"cancelled": 20})
    assert [name for _, name in after.sent["cancel"]] == ["j"]
    assert heard(after) == [(25, False)]


def test_a_runs_own_wish_for_all_outlives_it_too():
    """One that no other process wrote down: there are no bytes of it to be read again."""
    run = Driver(500, concurrency=10, submits=4, poll=running)
    run.at(3.0, m.CancelRequested(None, CancelReason.USER))
    run.at(3.0, m.StopRequested(m.StopMode.NOW))
    run.run()
    assert (folded(run).cancel_all, folded(run).heard_to) == (True, 0)


def test_rows_that_limit_leaves_to_the_next_run_are_still_to_end():
    run = Driver(20, start=False, limit=5)
    run.take_up([], {}, 0, 0, 0, 0, requests_read_to=25, cancel_all=True)
    run.run()
    assert (run.states(), heard(run)) == ({"cancelled": 5}, [])


def test_a_row_that_limit_leaves_to_the_next_run_may_be_named():
    run = Driver(20, limit=5, poll=running)
    run.at(3.0, request("row-10", "row-3", "nobody"))
    run.run(until=3.0)
    assert (run.tags("row-10"), heard(run)) == (["cancelling"], [(10, False)])
    assert set(folded(run).journaled_rows) == {"row-0", "row-1", "row-2", "row-3", "row-4", "row-10"}


# --- an interrupt ---


def test_an_interrupt_leaves_jobs_alone_unless_told_otherwise():
    run = Driver(20, poll=running, submits=8)
    run.at(5.0, m.StopRequested(m.StopMode.INTERRUPT))
    run.run()
    assert (run.outcome, run.records, run.sent["cancel"]) == (m.Outcome.STOPPED, {}, [])


def test_an_interrupt_may_end_what_runs_over_there_and_leaves_open_what_was_never_sent():
    run = Night(100, latency=0.5, concurrency=30, submits=8, cancel_on_interrupt=True, cancel_settle=10.0)
    run.at(4.2, m.StopRequested(m.StopMode.INTERRUPT))
    run.run()
    sent = {key for _, key in run.sent["submit"]}
    assert run.outcome is m.Outcome.STOPPED
    assert {key for key, record in run.records.items() if record["state"] == "cancelled"} == sent
    assert {record["error"]["code"] for record in run.records.values()} == {"cancelled_by_interrupt"}
    assert len(run.sent["cancel"]) == len(sent) < 100
    assert run.now < 4.2 + 12.0, "the settle looks, and no longer"
    assert not any("cancelling" in run.tags(f"row-{i}") for i in range(100) if f"row-{i}" not in sent)


def test_a_cancel_that_is_never_granted_holds_an_interrupt_no_longer_than_the_drain():
    run = Driver(3, poll=running, cancel=running, cancel_on_interrupt=True, drain=20.0, cancel_settle=10.0)
    run.at(3.0, m.StopRequested(m.StopMode.INTERRUPT))
    run.run()
    assert (run.outcome, run.now, run.records) == (m.Outcome.STOPPED, 33.0, {})
    assert all(folded(run).journaled_rows[f"row-{i}"].cancel == "interrupt" for i in range(3)), (
        "the next run goes on with it"
    )


# --- detached ---


def test_detach_puts_every_row_in_flight_whatever_the_concurrency():
    run = Driver(900, submits=8, concurrency=10)
    run.at(0.0, m.StopRequested(m.StopMode.DETACH))
    run.run()
    assert (run.outcome, run.sent["poll"], len(run.sent["submit"])) == (m.Outcome.DETACHED, [], 900)


def test_detach_waits_for_new_attempts_and_then_leaves():
    def submit(key, n):
        failed = {"id": f"f-{key}", "status": "failed", "error": {"code": "server_error", "message": "x"}}
        return answer(200, failed if n == 0 else {"id": f"j-{key}", "status": "queued"})

    run = Driver(3, submit=submit)
    run.at(0.0, m.StopRequested(m.StopMode.DETACH))
    run.run()
    assert (run.outcome, len(run.sent["submit"]), run.records) == (m.Outcome.DETACHED, 6, {})


def test_detach_with_another_key_looks_until_a_job_is_found_and_no_longer():
    journaled = JournaledRow()
    journaled.job_id, journaled.submitted_at = "j", 999_990.0
    run = Driver(20, start=False, poll=running)
    run.take_up([(Row("old"), journaled)], {}, 1, 0, 0, 0, new_key=True)
    run.feed(m.StopRequested(m.StopMode.DETACH))
    run.run()
    assert (run.outcome, len(run.sent["poll"]), len(run.sent["submit"])) == (m.Outcome.DETACHED, 1, 20)


def test_no_more_jobs_in_flight_than_can_be_looked_at_in_time():
    run = Driver(900, poll=running, concurrency=10_000, poll_rate=1.0, poll_max=300.0)
    run.run(until=200.0)
    assert run.engine.jobs.open_jobs == 300
