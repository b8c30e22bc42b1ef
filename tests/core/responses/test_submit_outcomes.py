"""From the answer to a submit to what becomes of the row, through verdict and engine (the cases s).

What the verdicts are made of stands in test_verdict.py; limits, pauses and halts with their times in test_limits.py.
"""

import jsonschema
import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.records.record import RECORD_SCHEMA
from batchrun.core.responses.http import Cause, Failure
from batchrun.core.responses.verdict import read_submit
from tests.core.driver import DROPPED, UNSENT, Driver, answer, error

VALIDATOR = jsonschema.Draft202012Validator(RECORD_SCHEMA)
TIMEOUT = Failure(sent=True, cause=Cause.TIMEOUT, message="no answer within 120 s")
FLOOD = Failure(sent=True, cause=Cause.TIMEOUT, message="no answer within 120 s, only 100 Continue")


def accepted_as(job_id):
    return answer(200, {"id": job_id, "status": "queued"})


def first(reply, rows=3, **settings):
    """A batch whose first row meets `reply` once; all else goes well."""
    run = Driver(submit=lambda key, n: reply if (key, n) == ("row-1", 0) else run.accept(key, n), start=False, **settings)  # fmt: skip
    run.rows = Driver(rows, start=False).rows
    run.feed(m.TimerFired())
    run.run()
    for record in run.records.values():
        VALIDATOR.validate(record)
    return run


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        pytest.param(DROPPED, "answer_lost", id="s02"),
        pytest.param(TIMEOUT, "answer_lost", id="s03"),
        pytest.param(answer(200, b""), "answer_lost", id="s04-empty"),
        pytest.param(answer(200, b"<html>welcome"), "answer_lost", id="s04-html"),
        pytest.param(answer(200, b'{"id": "resp_'), "answer_lost", id="s04-broken"),
        pytest.param(answer(200, {"status": "queued"}), "answer_lost", id="s05"),
        pytest.param(accepted_as(None), "unusable_job_id", id="s06-null"),
        pytest.param(accepted_as(7), "unusable_job_id", id="s06-integer"),
        pytest.param(accepted_as(["resp_1"]), "unusable_job_id", id="s06-list"),
        pytest.param(accepted_as("x" * 10_000), "unusable_job_id", id="s06-long"),
        *[
            pytest.param(accepted_as(job_id), "unusable_job_id", id=f"s08-{n}")
            for n, job_id in enumerate(["../x", "a?b", "a/cancel", "a%2fb", "a\r\nb", ".", "", "jöb"])
        ],
        pytest.param(answer(204, b""), "answer_lost", id="s11"),
        *[pytest.param(answer(status), "answer_lost", id=f"s19-{status}") for status in (408, 409, 499)],
        *[pytest.param(answer(status), "answer_lost", id=f"s23-{status}") for status in (500, 502, 504, 520, 529)],
        pytest.param(answer(503, b"<html>Service Unavailable"), "answer_lost", id="s23-html"),
        pytest.param(FLOOD, "answer_lost", id="s26"),
    ],
)
def test_a_row_without_a_known_outcome_is_unconfirmed_and_not_sent_again(reply, code):
    run = first(reply)
    record = run.records["row-1"]
    assert (run.outcome, run.states()) == (m.Outcome.COMPLETE, {"succeeded": 2, "unconfirmed": 1})
    assert (record["error"]["code"], record["job_id"], record["billing"]) == (code, None, "unknown")
    assert record["error"]["message"]
    assert record["submitted_at"], "when it was lost, to look for it on the service"
    assert run.tags("row-1") == ["intent", "unconfirmed", "done"]
    assert len(run.times("submit", "row-1")) == 1
    assert {name for _, name in run.sent["poll"]} == {"job_row-0_0", "job_row-2_0"}
    assert run.sent["cancel"] == []


@pytest.mark.parametrize(
    ("reply", "wait"),
    [
        pytest.param(UNSENT, 0, id="s01"),
        pytest.param(error(400, "", "the queue is full"), 0, id="s13"),
        pytest.param(answer(429, {}, retry_after_ms="30000", retry_after="1"), 30, id="s20-ms"),
        pytest.param(answer(429, {}, retry_after="30"), 30, id="s20-seconds"),
        pytest.param(answer(429, {}, retry_after="Fri, 15 Jan 2027 08:00:30 GMT", date="Fri, 15 Jan 2027 08:00:00 GMT"), 30, id="s20-date"),
        pytest.param(answer(429, {}, retry_after="year 9999"), 0, id="s21"),
        pytest.param(error(503, "server_is_overloaded"), 0, id="s22-overloaded"),
        pytest.param(error(503, "slow_down"), 0, id="s22-slow-down"),
    ],
)  # fmt: skip
def test_what_created_nothing_and_may_pass_waits_and_is_sent_again(reply, wait):
    run = first(reply)
    assert (run.outcome, run.states()) == (m.Outcome.COMPLETE, {"succeeded": 3})
    assert {record["retry_count"] for record in run.records.values()} == {0}, "a refusal is no attempt"
    assert run.tags("row-1") == ["intent", "cleared", "intent", "submitted", "done"]
    refused, again = run.times("submit", "row-1")
    assert wait <= again - refused - 0.1 <= max(wait * 1.25, 2.5)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        pytest.param(error(400, "invalid_request_error"), "invalid_request_error", id="s12"),
        pytest.param(error(403, "unsupported_country_region_territory"), "unsupported_country_region_territory", id="s16"),
        pytest.param(error(404, "model_not_found"), "model_not_found", id="s17"),
        *[pytest.param(answer(status, {}), None, id=f"s18-{status}") for status in (405, 410, 413, 415, 422)],
        *[pytest.param(answer(status, b"", location="https://other.example/v1"), None, id=f"s18-{status}") for status in (301, 302, 303, 307, 308)],
    ],
)  # fmt: skip
def test_a_row_that_is_refused_for_good_is_rejected_alone(reply, code):
    run = first(reply)
    record = run.records["row-1"]
    assert (run.outcome, run.states()) == (m.Outcome.COMPLETE, {"succeeded": 2, "rejected": 1})
    assert (record["error"]["code"], record["error"]["http_status"]) == (code, reply.status)
    assert (record["billing"], record["job_id"]) == ("not_billed", None)
    assert run.tags("row-1") == ["intent", "cleared", "done"]
    assert len(run.times("submit", "row-1")) == 1
    if reply.headers.get("location"):
        assert "https://other.example/v1" in record["error"]["message"]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        pytest.param(error(401, "invalid_api_key"), "auth", id="s14"),
        pytest.param(answer(402, {"detail": "balance"}), "budget", id="s15-402"),
        pytest.param(error(429, "insufficient_quota"), "quota", id="s15-429"),
    ],
)
def test_what_would_meet_every_row_halts_and_leaves_the_row_open(reply, reason):
    run = first(reply, submits=1)
    assert (run.outcome, [halt.reason for _, halt in run.told]) == (m.Outcome.HALTED, [reason])
    assert run.states() == {"succeeded": 1}, "what was sent before is brought home"
    assert run.tags("row-1") == ["intent", "cleared"]
    assert run.times("submit", "row-2") == []


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(error(403, "unsupported_country_region_territory"), id="s16"),
        pytest.param(error(404, "model_not_found"), id="s17"),
    ],
)
@pytest.mark.parametrize("rows", [1_000, 20])
def test_the_same_refusal_for_all_first_rows_halts(reply, rows):
    run = Driver(rows, submit=lambda key, n: reply).run()
    assert (run.outcome, run.records, len(run.sent["submit"])) == (m.Outcome.HALTED, {}, 20)
    assert [halt.reason for _, halt in run.told] == ["all refused"]


class TwoIntents(Driver):
    """Two rows whose intents are journaled together; that of the first is synced, that of the second at `sync`."""

    def __init__(self, reply):
        self.held = True
        submit = lambda key, n: reply if (key, n) == ("row-0", 0) else self.accept(key, n)  # noqa: E731
        super().__init__(2, submit=submit, submits=2, start=False)
        self.engine.gate.window.size = 2.0
        self.feed(m.TimerFired())
        self.run(until=0.0)
        assert [self.tags(row.key) for row in self.rows] == [["intent"], ["intent"]]
        super().feed(m.Synced(m.BatchFile.JOURNAL, 1))

    def feed(self, event):
        if self.held and isinstance(event, m.Synced) and event.file is m.BatchFile.JOURNAL:
            return []
        return super().feed(event)

    def sync(self):
        self.held = False
        self.feed(m.Synced(m.BatchFile.JOURNAL, len(self.entries)))


@pytest.mark.parametrize(
    ("reply", "sent_from"),
    [
        pytest.param(answer(429, {}, retry_after="20"), 20.0, id="pause"),
        pytest.param(error(429, "insufficient_quota"), None, id="halt"),
    ],
)
def test_what_stops_submits_while_an_intent_is_synced_stops_its_post(reply, sent_from):
    run = TwoIntents(reply)
    run.run(until=1.0)
    assert run.sent["submit"] == [(0.0, "row-0")]
    run.sync()
    assert run.tags("row-1") == ["intent", "cleared"]
    run.run()
    times = run.times("submit", "row-1")
    if sent_from is None:
        assert (times, run.outcome, run.records) == ([], m.Outcome.HALTED, {})
    else:
        assert len(times) == 1
        assert times[0] >= sent_from
        assert run.states() == {"succeeded": 2}


def test_the_first_refusal_waits_for_the_posts_that_may_show_whose_fault_it_is():
    run = TwoIntents(error(400, "invalid_prompt"))
    assert run.run(until=1.0).records == {}
    run.sync()
    assert run.run().states() == {"rejected": 1, "succeeded": 1}


def test_the_first_refusals_are_written_once_one_row_is_accepted():
    refused = error(400, "invalid_prompt")
    run = Driver(
        3,
        submit=lambda key, n: refused if key == "row-0" else run.accept(key, n),
        poll=lambda job_id, n: answer(200, {"id": job_id, "status": "queued"}),
        submits=1,
        rpm=60,
        input_ends=False,
    )
    assert run.run(until=0.9).records == {}, "perhaps the fault of the run"
    assert run.run(until=1.9).states() == {"rejected": 1}


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize(
    ("word", "state"), [("completed", "succeeded"), ("failed", "failed"), ("incomplete", "incomplete")]
)
def test_s09_s10_over_at_once_is_a_record_without_a_poll(status, word, state):
    run = first(answer(status, {"id": "resp_1", "status": word, "output": "x"}))
    assert (run.records["row-1"]["state"], run.records["row-1"]["job_id"]) == (state, "resp_1")
    assert run.records["row-1"]["polls"] == 0
    assert "resp_1" not in {name for _, name in run.sent["poll"]}
    assert len(run.times("submit", "row-1")) == 1


@pytest.mark.parametrize(("background", "tags"), [(True, ["intent", "submitted", "done"]), (False, ["intent", "done"])])
def test_s09_over_at_once_its_id_is_in_the_journal_where_the_job_can_be_asked_for_by_it(background, tags):
    """A crash before the record then costs no result; an id that no poll would find stays out."""
    run = Driver(1)
    run.run(until=0.05)
    over = answer(200, {"id": "resp_1", "status": "completed", "output": "x"})
    job = run.engine.jobs.unsubmitted["row-0"]
    run.feed(m.SubmitAccepted(job, 1, read_submit(over, 0.0, background=background)))
    assert (run.tags("row-0"), run.records["row-0"]["state"]) == (tags, "succeeded")


@pytest.mark.parametrize("status", [201, 202])
def test_s10_accepted_with_another_2xx_is_watched(status):
    run = first(answer(status, {"id": "resp_1", "status": "queued"}))
    assert run.states() == {"succeeded": 3}
    assert len(run.times("poll", "resp_1")) == 3


def test_s07_the_second_row_of_one_id_is_unconfirmed_and_both_are_named():
    run = Driver(2, submit=lambda key, n: accepted_as("resp_1"), submits=1).run()
    assert run.states() == {"succeeded": 1, "unconfirmed": 1}
    message = run.records["row-1"]["error"]["message"]
    assert "'row-0'" in message
    assert "'row-1'" in message
