"""A service that is never reached, and one that does not respond any more: exact times."""

from collections import Counter
from random import Random

import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.limits.reach import Reach
from batchrun.core.responses.http import Cause, Failure
from tests.core.driver import DROPPED, UNSENT, Driver, answer

WHY = "no connection to api.example.com:443: the name does not exist"
NO_NAME = Failure(sent=False, cause=Cause.DNS, message=f"{WHY}; nothing was sent")


# --- never reached ---


def test_s33_a_service_that_is_never_reached_halts_the_run_and_harms_no_row():
    run = Driver(5, submit=lambda key, n: NO_NAME).run()
    (at, halt), = run.told  # fmt: skip
    assert (run.outcome, halt.reason) == (m.Outcome.HALTED, "unreachable")
    assert 90.0 <= at <= 91.0
    assert halt.message == f"{WHY}, tried {len(run.sent['submit'])} times in 1 min 30 s"
    assert (run.records, len(run.noted)) == ({}, 3)
    assert run.noted[0] == f"{WHY}; trying again for 1 min 30 s"
    assert 8 <= len(run.sent["submit"]) <= 20
    assert all(run.tags(f"row-{n}").count("intent") == run.tags(f"row-{n}").count("cleared") for n in range(5))


@pytest.mark.parametrize("jobs", [1, 1_000])
@pytest.mark.parametrize("pacing", ["learned", "backoff"])
def test_s33_a_resumed_batch_that_has_only_jobs_to_poll_halts_too(jobs, pacing):
    """However rarely jobs of their age are polled; and without a thousand connections at a time."""
    run = Driver(poll=lambda job_id, n: NO_NAME, start=False, pacing=pacing).recover(jobs, age=20_000.0).run()
    (at, halt), = run.told  # fmt: skip
    assert (run.outcome, halt.reason, run.records) == (m.Outcome.HALTED, "unreachable", {})
    assert 90.0 <= at <= 93.0
    assert len(run.sent["poll"]) <= 8 * 20
    assert max(Counter(at for at, _ in run.sent["poll"]).values()) <= 8


def test_s33_a_batch_that_only_has_cancels_to_send_halts_too():
    run = Driver(poll=lambda *_: NO_NAME, cancel=lambda *_: NO_NAME, start=False, collecting=True)
    run.recover(2, age=60.0, cancel="user").run()
    assert [halt.reason for _, halt in run.told] == ["unreachable"]
    assert run.records == {}, "whether they were cancelled is for the next run to see"


def test_a_network_that_comes_up_in_time_is_used():
    def submit(key, n):
        return NO_NAME if run.now < 60 else run.accept(key, n)

    run = Driver(3, start=False, submit=submit)
    run.feed(m.TimerFired())
    run.run()
    assert (run.states(), run.told) == ({"succeeded": 3}, [])
    assert run.noted[-1].startswith("the service responds again, after 1 min")


@pytest.mark.parametrize(
    "made", [DROPPED, answer(502), answer(404, {"error": {"code": "no_such_path", "message": "x"}})]
)
def test_a_connection_that_was_made_once_halts_for_no_lack_of_one(made):
    replies = iter([UNSENT, UNSENT, UNSENT, made])
    run = Driver(50, submit=lambda key, n: next(replies, UNSENT)).run(until=600.0)
    assert len(run.sent["submit"]) > 10
    assert run.told == []


def test_what_was_tried_before_a_suspension_does_not_count():
    reach = Reach()
    for at in (0.0, 80.0):
        reach.failed(reach.submits, at, WHY, unconnected=True)
    reach.suspended(3_600.0)
    assert reach.unreachable(3_600.0 + 89.0) is None
    assert reach.unreachable(3_600.0 + 90.0) == f"{WHY}, tried 2 times in 1 min 30 s"


# --- an outage ---


def failing_between(begin, end, failure, rows=400, **settings):
    """A run whose service does not respond from `begin` to `end`."""

    def reply(otherwise):
        return lambda name, n: failure if begin <= run.now < end else otherwise(name, n)

    run = Driver(rows, start=False, concurrency=20, **settings)
    run.script = {kind: reply(otherwise) for kind, otherwise in run.script.items()}
    run.feed(m.TimerFired())
    return run


@pytest.mark.parametrize("failure", [UNSENT, answer(502, b"<html>Bad Gateway")])
def test_an_outage_is_told_once_then_every_half_minute_and_when_it_is_over(failure):
    run = failing_between(30.0, 150.0, failure)
    told = []
    while run.outcome is None:
        before = len(run.noted)
        run.run(until=run.now + 0.5)
        told += [(run.now, text) for text in run.noted[before:]]
    *lasting, (over_at, over) = told
    assert [text.partition(":")[0] for _, text in lasting if "the service" in text] == [
        f"the service has not responded for {lasted}" for lasted in ("10 s", "40 s", "1 min 10 s", "1 min 40 s")
    ]
    assert [round(at) for at, _ in lasting[:4]] == pytest.approx([40, 70, 100, 130], abs=1)
    assert over.startswith("the service responds again, after 2 min")
    assert 150.0 <= over_at <= 155.0, "a poll that is answered lets a submit be tried at once"
    assert run.told == []


def test_submits_alone_that_get_no_response_are_told_as_such():
    run = Driver(400, start=False, concurrency=20)
    accept = run.script["submit"]
    run.script["submit"] = lambda key, n: answer(502) if 30 <= run.now < 100 else accept(key, n)
    run.script["poll"] = lambda job_id, n: run.third_time(
        job_id, n if int(job_id.split("_")[1][4:]) > 9 else run.now // 55
    )
    run.feed(m.TimerFired())
    run.run()
    assert "no submit got a response for 40 s" in " ".join(run.noted)
    assert not any("the service has not" in text for text in run.noted)


def test_single_failures_are_no_outage_and_hold_nothing_back():
    chance = Random(1)

    def poll(job_id, n):
        return answer(503) if chance.random() < 0.2 else run.third_time(job_id, n)

    run = Driver(2_000, start=False, poll=poll, concurrency=100)
    run.feed(m.TimerFired())
    run.run()
    assert (run.states(), run.noted) == ({"succeeded": 2_000}, [])
    assert run.engine.gate._catch_up.ready_at() == float("-inf")


def test_what_failed_last_is_no_outage_once_nothing_is_left_to_ask():
    def submit(key, n):
        return answer(502) if key in ("row-8", "row-9") else run.accept(key, n)

    run = Driver(10, start=False, submit=submit, poll=lambda job_id, n: answer(200, {"id": job_id, "status": "queued"}))
    run.feed(m.TimerFired())
    run.run(until=3_600.0)
    assert run.noted == []
    assert run.engine.snapshot().silent_for is None


def test_an_outage_that_was_told_ends_without_a_word_once_nothing_is_left_to_ask():
    def submit(key, n):
        return answer(502) if int(key[4:]) >= 40 else run.accept(key, n)

    def poll(job_id, n):
        return answer(200, {"id": job_id, "status": "queued"})

    run = Driver(48, start=False, submit=submit, poll=poll, submits=1)
    run.feed(m.TimerFired())
    run.run(until=3_600.0)
    assert run.states() == {"unconfirmed": 8}
    assert run.noted
    assert all(text.startswith("no submit got a response") for text in run.noted)


# --- after an outage ---


@pytest.mark.parametrize("worked", [0.0, 5.0])
def test_a_run_that_has_hardly_begun_has_no_rate_to_be_held_to(worked):
    run = failing_between(worked, worked + 40.0, UNSENT, rows=2_000)
    run.run(until=worked + 60.0)
    assert run.engine.gate._catch_up.ready_at() == float("-inf")
    assert len(run.sent["submit"]) > 20


class Steady(Driver):
    """Jobs of 15 to 25 s, 240 at a time, and a service that does not respond from BEGIN to END."""

    BEGIN, END = 120.0, 240.0

    def __init__(self, failure, hangs):
        chance, ends = Random(3), {}

        def submit(key, n):
            ends[f"job_{key}_{n}"] = self.now + 15.0 + 10.0 * chance.random()
            return self.accept(key, n)

        def poll(job_id, n):
            over = self.now >= ends[job_id]
            return answer(200, {"id": job_id, "status": "completed" if over else "in_progress", "output": "x"})

        self.failure, self.hangs = failure, hangs
        super().__init__(6_000, submit=submit, poll=poll, concurrency=240, pacing="learned", start=False)
        self.feed(m.TimerFired())

    def _exchange(self, kind, name, event_of):
        if self.BEGIN <= self.now < self.END:
            self.sent[kind].append((self.now, name))
            self.at(self.now + self.hangs, lambda: event_of(self.failure))
        else:
            super()._exchange(kind, name, event_of)

    def per_second(self, kind):
        return Counter(int(at) for at, _ in self.sent[kind])


HANGS = Failure(sent=False, cause=Cause.CONNECT, message="no connection to x:443: it does not respond in time")


@pytest.mark.parametrize(
    ("failure", "hangs"),
    [(UNSENT, 0.1), (answer(502), 0.1), (HANGS, 10.0)],
    ids=["refused", "502", "silent"],
)
def test_no_herd_comes_after_an_outage_of_two_minutes(failure, hangs, long, request):
    if "502" not in request.node.name and not long:
        pytest.skip("--long")
    run = Steady(failure, hangs).run(until=400.0)
    submits, polls = run.per_second("submit"), run.per_second("poll")
    for counts in (submits, polls):
        steady = sum(counts[second] for second in range(60, 120)) / 60
        assert max(counts[second] for second in range(240, 400)) <= 1.5 * steady
    steady, later = (sum(submits[second] for second in range(since, since + 60)) for since in (60, 320))
    assert later >= 0.9 * steady, "nothing is lost by it"
