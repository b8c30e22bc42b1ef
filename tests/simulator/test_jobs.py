"""What becomes of jobs: by scenario and by the row's own word; how looks, cancels and oddities answer."""

import json
from typing import get_args

import pytest
from openai.types.responses import Response, ResponseError, ResponseStatus

from batchrun.core.responses.http import Answer
from batchrun.core.responses.outcome import Ended
from batchrun.core.responses.verdict import Accepted, JobReport, is_safe_id, read_poll, read_submit
from batchrun.core.taxonomy.rules import State
from batchrun.simulator.outcomes import CODES, OUTCOMES
from tests.simulator.bench import Bench, error_of


def fates(seed: int, order: list[int], attempts: int = 1) -> dict[int, list[str]]:
    """How the rows end, submitted in `order`."""
    bench = Bench(f"seed = {seed}\n[times]\nduration = '1s..9s'\n[jobs]\nserver_error = 0.3\nempty = 0.2")
    jobs = {row: [bench.job(f"row {row}") for _ in range(attempts)] for row in order}
    bench.now += 4
    seen = {row: [bench.look(job) for job in jobs[row]] for row in order}
    return {
        row: [
            f"{outcome['status']} {outcome['error'] and outcome['error']['code']} {outcome['usage']}"
            for outcome in seen[row]
        ]
        for row in seen
    }


def test_fates_follow_from_the_seed_and_the_row_and_not_from_the_order():
    forward, backward = fates(7, list(range(60)), 2), fates(7, list(reversed(range(60))), 2)
    assert forward == backward
    assert forward != fates(8, list(range(60)), 2)
    assert any(first != second for first, second in forward.values()), "a row's second attempt has a chance of its own"


def test_shares_are_kept():
    bench = Bench("[jobs]\nserver_error = '20%'\nincomplete = '10%'")
    jobs = [bench.job(f"row {i}") for i in range(2000)]
    bench.now += 3
    words = [bench.look(job)["status"] for job in jobs]
    assert 340 < words.count("failed") < 460
    assert 150 < words.count("incomplete") < 250


SDK_CODES = get_args(ResponseError.model_fields["code"].annotation)
EXPECTED = {
    "completed": (State.SUCCEEDED, ()),
    "incomplete": (State.INCOMPLETE, None),
    "filtered": (State.INCOMPLETE, None),
    "empty": (State.SUCCEEDED, ("empty_output",)),
    "refusal": (State.SUCCEEDED, ("refusal",)),
    "tool_failed": (State.SUCCEEDED, ("tool_failed:image_generation_call",)),
    "image": (State.SUCCEEDED, ()),
    "image_generating": (State.SUCCEEDED, ()),
    "error_completed": (State.SUCCEEDED, ("partial_output",)),
    "partial": (State.INTERNAL_ERROR, None),
    "failed": (State.FAILED, None),
    "expired": (State.EXPIRED, None),
    "cancelled": (State.CANCELLED, None),
    "requires_action": (State.REQUIRES_ACTION, None),
}


@pytest.mark.parametrize("word", [*OUTCOMES, *CODES])
def test_every_outcome_is_reached_by_a_directive_and_read_by_batchrun(word):
    bench = Bench()
    job = bench.job(f"[[fail {word}]] x" if word in CODES else f"[[{word}]] x")
    bench.now += 100_000
    answer = bench.ask("GET", f"/v1/responses/{job}")
    body = json.loads(answer.body)
    if body["status"] in get_args(ResponseStatus) and (word in OUTCOMES or word in SDK_CODES):
        Response.model_validate_json(answer.body)  # every field is there and of its type
    seen = read_poll(Answer(answer.status, {}, answer.body), bench.now, job)
    assert isinstance(seen, JobReport)
    if word.startswith("stuck_"):
        assert body["status"] == {"stuck_queued": "queued", "stuck_running": "in_progress"}[word]
        return
    assert isinstance(seen.outcome, Ended)
    state, warnings = EXPECTED.get(word) or (CODES[word].state, None)
    assert seen.outcome.state is state
    if warnings is not None:
        assert seen.outcome.warnings == warnings
    if word in CODES:
        assert seen.outcome.problem is not None
        assert seen.outcome.problem.code == word


@pytest.mark.parametrize("word", ["completed", "incomplete", "empty", "image", "stuck_queued"])
def test_every_answer_has_what_the_sdk_needs_from_the_submit_on(word):
    bench = Bench("[times]\nqueued = '1s'\nduration = '1s'")
    answer = bench.submit(f"[[{word}]]", metadata={"a": "b"}, max_output_tokens=50)
    for _ in range(3):
        told = Response.model_validate_json(answer.body, strict=True)
        assert (told.object, told.model, told.background, told.metadata) == ("response", "gpt-5", True, {"a": "b"})
        assert told.max_output_tokens == 50
        assert told.usage is None or told.usage.output_tokens <= 50
        assert is_safe_id(told.id)
        bench.now += 1
        answer = bench.ask("GET", f"/v1/responses/{told.id}")


def test_the_submit_is_read_as_accepted():
    answer = Bench().submit()
    assert isinstance(read_submit(Answer(answer.status, {}, answer.body), 0.0), Accepted)


def test_a_job_waits_works_and_ends():
    bench = Bench("[times]\nqueued = '1s'\nduration = '2s'")
    job = bench.job()
    assert [bench.status_after(delay, job) for delay in (0.999, 0.001, 1.999, 0.001)] == [
        "queued", "in_progress", "in_progress", "completed",
    ]  # fmt: skip
    outcome = bench.look(job)
    assert outcome["completed_at"] - outcome["created_at"] == 3
    assert outcome["output"][0]["content"][0]["text"]
    assert outcome["usage"]["total_tokens"] == outcome["usage"]["input_tokens"] + outcome["usage"]["output_tokens"]
    assert bench.look(job) == outcome, "a finished job shows the same for ever"


def test_rows_script_themselves():
    bench = Bench()
    assert bench.status_after(0.5, bench.job("[[sleep 0.5]] x")) == "completed"
    assert bench.status_after(59, bench.job("[[queue 1m]] x")) == "queued"
    job = bench.job("x", metadata={"simulate": "queue 1; sleep 2; incomplete"})
    assert [bench.status_after(1.5, job), bench.status_after(1.5, job)] == ["in_progress", "incomplete"]
    failing = "[[fail server_error 2]] x"
    jobs = [bench.job(failing) for _ in range(3)]
    bench.now += 3
    assert [bench.look(job)["status"] for job in jobs] == ["failed", "failed", "completed"]
    answers = [bench.submit("[[refuse http_503 2]] y").status for _ in range(3)]
    assert answers == [503, 503, 200]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"input": "[[fail server_eror]]"}, "did you mean 'server_error'?"),
        ({"input": "[[sleep]]"}, "directive 'sleep': expected one argument, got 'none'"),
        ({"input": "[[incomplete 3]]"}, "expected no argument, got '3'"),
        ({"input": "[[fail server_error often]]"}, "expected how many times as a number"),
        ({"input": "x", "metadata": {"simulate": "slep 2"}}, "directive 'slep': unknown; did you mean 'sleep'?"),
    ],
)
def test_a_wrong_directive_is_refused_with_what_was_meant(row, says):
    answer = Bench().ask("POST", "/v1/responses", {"model": "m", "background": True, **row})
    assert answer.status == 400
    assert says in error_of(answer)["message"]


def test_brackets_that_are_no_directive_are_text():
    bench = Bench("directives = false")
    assert Bench().submit("see [[wiki page]] and [[x]], a[[0]]").status == 200
    assert bench.status_after(3, bench.job("[[fail server_error]]")) == "completed"


def test_zombies_stay_for_ever_and_can_be_cancelled():
    bench = Bench("[jobs]\nstuck_queued = 0.5\nstuck_running = 0.5")
    jobs = [bench.job(f"row {i}") for i in range(20)]
    bench.now += 1e9
    assert {bench.look(job)["status"] for job in jobs} == {"queued", "in_progress"}
    assert bench.statistics.open_jobs(bench.now) == 20
    assert {json.loads(bench.cancel(job).body)["status"] for job in jobs} == {"cancelled"}
    assert bench.statistics.open_jobs(bench.now) == 0


def test_a_hidden_job_heals():
    bench = Bench("[times]\nhidden = '32s'\nduration = '2s'\n[traits]\nhidden = 1")
    job = bench.job()
    assert [bench.status_after(delay, job) for delay in (0, 31.999, 0.001)] == ["404", "404", "completed"]
    assert bench.status_after(2.9, bench.job("[[hidden 3]] x", model="m")) == "404"


def test_ids_change_at_every_poll_and_only_the_first_leads_anywhere():
    bench = Bench("[traits]\nid_changes = 1")
    job = bench.job()
    names = [bench.look(job)["id"] for _ in range(3)]
    assert len({job, *names}) == 4
    assert all(map(is_safe_id, names))
    assert [bench.status_after(0, name) for name in names] == ["404"] * 3


def test_a_result_is_kept_for_a_while():
    bench = Bench("[times]\nduration = '2s'\nretention = '10m'")
    job = bench.job()
    assert [bench.status_after(delay, job) for delay in (601.999, 0.001)] == ["completed", "404"]
    cancelled = bench.job("[[stuck_running]]")
    bench.cancel(cancelled)
    assert [bench.status_after(delay, cancelled) for delay in (599.9, 0.1)] == ["cancelled", "404"]


def test_polls_go_wrong_as_scripted_and_the_job_does_not():
    bench = Bench("[polls]\nhttp_502 = 0.3\nrate_limit_exceeded = 0.2")
    job = bench.job()
    bench.now += 3
    answers = [bench.ask("GET", f"/v1/responses/{job}").status for _ in range(400)]
    assert {status: round(answers.count(status) / 400, 1) for status in (200, 502, 429)} == {
        200: 0.5,
        502: 0.3,
        429: 0.2,
    }


@pytest.mark.parametrize(
    ("way", "at_once", "then", "last"),
    [
        ("cancelled", "cancelled", "cancelled", "cancelled"),
        ("slow", "in_progress", "in_progress", "cancelled"),
        ("late_completed", "cancelled", "cancelled", "completed"),
        ("ignored", "in_progress", "in_progress", "in_progress"),
    ],
)
def test_the_cancel_race(way, at_once, then, last):
    bench = Bench(f"[times]\nduration = '60s'\nlate = '5s'\n[cancels]\n{way} = 1")
    job = bench.job()
    assert json.loads(bench.cancel(job).body)["status"] == at_once
    assert [bench.status_after(4.999, job), bench.status_after(0.001, job)] == [then, last]
    assert bench.statistics.open_jobs(bench.now) == (1 if way == "ignored" else 0)
    if last == "completed":
        assert bench.look(job)["output"], "the tokens were spent: here they are"
    if way == "ignored":
        assert bench.status_after(55, job) == "completed"
    assert json.loads(bench.cancel(job).body)["status"] == bench.look(job)["status"], "twice is harmless"
    assert bench.statistics.cancels == 2


@pytest.mark.parametrize(("way", "status"), [("conflict", 409), ("refused", 400), ("http_500", 500)])
def test_a_cancel_may_be_refused(way, status):
    bench = Bench()
    job = bench.job(f"[[cancel {way}]] x")
    assert bench.cancel(job).status == status
    assert bench.status_after(2, job) == "completed"


@pytest.mark.parametrize("status", [200, 400, 409])
def test_a_cancel_of_a_finished_job(status):
    bench = Bench(f"finished_cancel = {status}")
    job = bench.job()
    bench.now += 3
    assert bench.cancel(job).status == status
    assert bench.look(job)["status"] == "completed"


def test_a_deleted_job_is_gone():
    bench = Bench()
    job = bench.job()
    assert json.loads(bench.ask("DELETE", f"/v1/responses/{job}").body)["deleted"] is True
    assert bench.status_after(0, job) == "404"
    assert bench.cancel(job).status == 404
    assert bench.ask("DELETE", f"/v1/responses/{job}").status == 404
    assert bench.statistics.open_jobs(bench.now) == 0


@pytest.mark.parametrize(
    "name", ["resp_1", "resp_", "x", "resp_00000000" + "0" * 24, "resp_-0000001" + "0" * 24, "..", "%00"]
)
def test_an_unknown_job_is_not_found(name):
    bench = Bench()
    bench.job()
    assert bench.status_after(0, name) == "404"


def test_a_service_of_another_seed_does_not_know_the_job():
    ours, theirs = Bench("seed = 1"), Bench("seed = 2")
    job = ours.job()
    theirs.job()
    assert (ours.status_after(0, job), theirs.status_after(0, job)) == ("in_progress", "404")
