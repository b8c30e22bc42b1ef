"""A job that an earlier run submitted, and a wall clock that was off in one of the two runs: it never cancels the job.

The driver's wall clock stands at 1,000,000 when a run takes up what an earlier one left. `TRUE` is what time it is then;
the service's clock is right.
"""

from email.utils import formatdate

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import Row
from batchrun.core.journal.fold import JournaledRow
from batchrun.core.responses.service_clock import ServiceClock
from tests.core.driver import Driver, answer

WALL = 1_000_000.0
HOUR, DAY = 3600.0, 86_400.0
DONE = {"status": "completed", "output": [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}]}


class Service:
    """Jobs that were created `age` seconds ago, run until they are `length` old, and say what time it is."""

    def __init__(self, age=HOUR, *, off=0.0, length=float("inf"), created=True, dated=True):
        self.true = WALL - off  # the clock of this run is `off` seconds ahead
        self.age, self.length, self.created, self.dated = age, length, created, dated
        self.run = None
        self.before = lambda job_id, n: None  # a reply in place of the usual one

    def poll(self, job_id, n):
        reply = self.before(job_id, n)
        if reply is not None:
            return reply
        now = self.run.now
        body = DONE if self.age + now >= self.length else {"status": "in_progress"}
        more = {"created_at": int(self.true - self.age)} if self.created else {}
        headers = {"date": formatdate(self.true + now, usegmt=True)} if self.dated else {}
        return answer(200, {"id": job_id, **body, **more}, **headers)

    def resumed(self, *, off_then=0.0, jobs=1, **given):
        """A run that takes up what an earlier one submitted, whose clock was `off_then` seconds ahead."""
        self.run = Driver(poll=self.poll, **given)
        return self.run.recover(jobs, age=WALL - (self.true - self.age + off_then))


# --- neither too early … ---


@pytest.mark.parametrize(
    ("off", "off_then", "says"),
    [
        (3 * DAY, 0.0, {}),
        (3 * DAY, 0.0, {"created": False}),
        (0.0, -3 * DAY, {}),
        (0.0, -3 * DAY, {"dated": False}),
        (3 * DAY, -3 * DAY, {}),
        (0.0, 3 * DAY, {}),
        (-3 * DAY, 0.0, {}),
        (-3 * DAY, 0.0, {"dated": False}),
        (-3 * DAY, 0.0, {"created": False}),
        (-3 * DAY, 0.0, {"created": False, "dated": False}),
    ],
    ids=[
        "ahead now", "ahead now, by the Date alone", "behind then", "behind then, by created_at alone", "both", "ahead then",
        "behind now", "behind now, by created_at alone", "behind now, by the Date alone", "behind now, by nothing",
    ],
)  # fmt: skip
def test_o29_a_clock_that_was_days_off_in_one_of_two_runs_cancels_nothing_and_is_told(off, off_then, says):
    service = Service(off=off, length=12 * HOUR, **says)
    run = service.resumed(off_then=off_then, deadline=DAY).run()
    assert run.records["old-0"]["state"] == "succeeded"
    assert (run.sent["cancel"], run.records["old-0"]["warnings"]) == ([], [])
    (note,) = run.noted
    assert "this machine's clock" in note
    assert "the service's clock decides" in note
    assert run.now == pytest.approx(11 * HOUR, abs=60)


@pytest.mark.parametrize("off", [3 * DAY, 0.0, -3 * DAY])
@pytest.mark.parametrize("off_then", [3 * DAY, 0.0, -3 * DAY])
def test_o29_the_deadline_counts_by_the_services_clock(off, off_then):
    run = Service(off=off).resumed(off_then=off_then, deadline=DAY).run()
    assert run.records["old-0"]["error"]["code"] == "deadline_exceeded"
    assert run.times("cancel") == [pytest.approx(23 * HOUR, abs=2)]
    assert len(run.noted) == (off != off_then)


def test_o29_what_is_wrong_is_said_once_for_all_jobs():
    run = Service(off=3 * DAY, length=2 * HOUR).resumed(jobs=20, deadline=DAY).run()
    assert run.states() == {"succeeded": 20}
    (note,) = run.noted
    first = run.sent["poll"][0][1]
    assert note == (
        f"this machine's clock is wrong, or was before: by it the job {first} is 3 d 1 h old, by the service's 1 h; "
        "the service's clock decides how old jobs are, and none is cancelled for it"
    )


def test_o29_a_job_that_cannot_be_seen_is_not_cancelled_for_its_age_either():
    """While it cannot be seen the service does not say how old it is, whatever it says of others."""
    service = Service(off=3 * DAY, length=12 * HOUR)
    service.before = lambda job_id, n: answer(500) if job_id == "job_old-0" and service.run.now < 5 * HOUR else None
    run = service.resumed(jobs=3, deadline=DAY).run()
    assert (run.states(), run.sent["cancel"]) == ({"succeeded": 3}, [])


def test_o29_a_job_that_cannot_be_seen_at_all_ends_once_its_time_is_up_in_this_run():
    service = Service(off=3 * DAY)
    service.before = lambda job_id, n: answer(500)
    run = service.resumed(deadline=DAY).run(until=2 * DAY)
    assert DAY + HOUR <= run.times("cancel")[0] <= DAY + HOUR + 60


def test_o29_an_answer_that_cannot_be_read_once_does_not_end_a_job_for_its_age():
    service = Service(off=3 * DAY, length=2 * HOUR)
    service.before = lambda job_id, n: answer(200, b'{"paid": "for", ') if n == 0 else None
    run = service.resumed(deadline=DAY).run()
    assert (run.states(), run.kept) == ({"succeeded": 1}, [])


def test_o29_a_poll_for_the_age_that_fails_is_sent_again():
    service = Service(off=3 * DAY, length=2 * HOUR)
    service.before = lambda job_id, n: answer(502) if n in (1, 2, 4) else None
    run = service.resumed(deadline=DAY).run()
    assert (run.states(), run.sent["cancel"]) == ({"succeeded": 1}, [])


def test_o29_a_result_is_not_late_by_a_wrong_clock():
    run = Service(off=3 * DAY, length=0.0).resumed(deadline=DAY).run()
    assert (run.records["old-0"]["state"], run.records["old-0"]["warnings"]) == ("succeeded", [])
    assert len(run.noted) == 1


# --- … nor too late ---


@pytest.mark.parametrize("says", [{}, {"created": False}, {"dated": False}, {"created": False, "dated": False}])
def test_a_job_whose_time_is_up_is_polled_twice_and_cancelled(says):
    """The second poll is for the service's clock."""
    run = Service(age=30 * HOUR, **says).resumed(deadline=DAY)
    run.run()
    assert (run.records["old-0"]["state"], run.noted) == ("timeout", [])
    first, second, *_ = run.times("poll")
    assert second == pytest.approx(first + 0.1)
    assert run.times("cancel") == [pytest.approx(second + 0.1)]


@pytest.mark.parametrize("off", [-3 * DAY, 3 * DAY])
def test_a_job_whose_time_is_up_by_the_services_clock_is_cancelled_whatever_ours_says(off):
    run = Service(age=30 * HOUR, off=off).resumed(deadline=DAY).run()
    assert run.records["old-0"]["state"] == "timeout"
    assert run.times("cancel")[0] < 2


def test_also_where_taking_up_takes_its_time():
    service = Service(age=30 * HOUR, off=-3 * DAY)
    service.run = run = Driver(poll=service.poll, deadline=DAY)
    journaled = JournaledRow()
    journaled.job_id, journaled.submitted_at = "job_old-0", service.true - service.age
    run.feed(m.Recovered({}, 1, 0, 0, 0))
    run.feed(m.RowsTakenUp([], more=True))
    run.now = 5.0
    run.feed(m.RowsTakenUp([(Row("old-0"), journaled)]))
    run.run()
    assert run.times("cancel")[0] < 7


@pytest.mark.parametrize("seconds", [-50.0, 50.0])
def test_clocks_that_are_less_than_a_minute_apart_agree(seconds):
    run = Service(off=seconds).resumed(deadline=DAY).run()
    assert (run.records["old-0"]["state"], run.noted) == ("timeout", [])
    assert run.times("cancel") == [pytest.approx(23 * HOUR - seconds, abs=1)]


def test_a_job_of_this_run_has_its_deadline_by_the_clock_of_this_run():
    service = Service(off=3 * DAY, age=0.0)
    service.run = run = Driver(1, poll=service.poll, deadline=HOUR)
    run.run()
    assert (run.records["row-0"]["state"], run.noted) == ("timeout", [])
    assert run.times("cancel") == [pytest.approx(HOUR, abs=1)]
    assert not [one for one in run.instructions if isinstance(one, m.Poll) and one.dated]


def test_a_job_that_is_not_late_is_never_asked_for_its_age():
    run = Service(length=12 * HOUR).resumed(jobs=5, deadline=DAY).run()
    assert run.states() == {"succeeded": 5}
    assert not [one for one in run.instructions if isinstance(one, m.Poll) and one.dated]


def test_a_retry_is_as_old_as_itself():
    """What was found out of an attempt says nothing of the next one."""
    service = Service(off=3 * DAY)
    failed = {"status": "failed", "error": {"code": "server_error", "message": "again"}}
    service.before = lambda job_id, n: (
        answer(200, {"id": job_id, **failed})
        if job_id == "job_old-0" and service.run.now > 2 * HOUR
        else answer(200, {"id": job_id, "status": "in_progress"})
        if job_id != "job_old-0"
        else None
    )
    run = service.resumed(deadline=DAY).run()
    assert run.records["old-0"]["retry_count"] == 1
    assert run.times("cancel", "job_old-0_0") == [pytest.approx(26 * HOUR, abs=120)]


offsets = st.sampled_from([-8 * DAY, -2 * DAY, -HOUR, 0.0, HOUR, 2 * DAY, 8 * DAY]) | st.floats(-10 * DAY, 10 * DAY)


@settings(max_examples=25, deadline=None)
@given(off=offsets, off_then=offsets, age=st.floats(0.0, 3 * DAY), created=st.booleans(), failing=st.integers(0, 3))
@example(off=8 * DAY, off_then=-8 * DAY, age=0.0, created=True, failing=1)
def test_o29_no_clocks_cancel_a_job_before_its_time(off, off_then, age, created, failing):
    service = Service(age=age, off=off, created=created)
    service.before = lambda job_id, n: answer(503) if n < failing else None
    run = service.resumed(off_then=off_then, deadline=DAY, poll_min=300.0, poll_max=300.0)
    run.run(until=3 * DAY)
    (at,) = run.times("cancel")
    assert at <= (DAY if created else 2 * DAY) + 600, "a wrong clock gives it no time without end either"
    if created or off_then >= 0.0:  # a Date alone tells nothing of the clock of the earlier run
        assert at + age >= DAY - 65


# --- what the service says ---


@pytest.mark.parametrize(
    ("created_at", "date", "age"),
    [
        (999_000, formatdate(1_000_500, usegmt=True), 1_500.0),
        (999_000.5, None, 999.5),
        (1_000_900, formatdate(1_000_500, usegmt=True), 0.0),
        (1_700_000_000_000, formatdate(1_700_000_100, usegmt=True), 100.0),
        (None, formatdate(999_800, usegmt=True), 800.0),
        (None, formatdate(999_980, usegmt=True), None),
        (None, formatdate(1_000_500, usegmt=True), None),
        *[(odd, "soon", None) for odd in ("yesterday", True, -1, 0, 1e300, float("nan"), [], None, 10**400)],
    ],
)
def test_the_age_by_the_services_clock(created_at, date, age):
    assert ServiceClock(created_at, date).age(999_000.0, 1_000_000.0) == age
