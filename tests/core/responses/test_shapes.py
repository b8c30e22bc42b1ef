"""What each shape of a response amounts to: only what it shows counts.

A success needs a success word, or the result in the endpoint's own form with no status and no error next to it.
"""

import itertools
import random

import orjson
import pytest

from batchrun.core.responses.http import Answer
from batchrun.core.responses.outcome import Ended, Running
from batchrun.core.responses.verdict import Accepted, Ambiguous, JobReport, read_poll, read_submit
from batchrun.core.rows.parse import ENDPOINTS
from batchrun.core.taxonomy.rules import WORDS, State, StateGroup, group_of

MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}
RESULTS = {
    "/responses": {"output": [MESSAGE]},
    "/chat/completions": {"choices": [{"message": {"content": "hi"}}]},
    "/embeddings": {"data": [{"embedding": [0.5]}]},
    "/images/generations": {"data": [{"b64_json": "aGk="}]},
}
BY_PATH = {endpoint.path: endpoint for endpoint in ENDPOINTS}
RUNS, LOST = "runs", "lost"


def posted(path, body, status=200):
    endpoint = BY_PATH[path]
    verdict = read_submit(
        Answer(status, {}, orjson.dumps(body)), 0.0, background=endpoint.background, result=endpoint.result
    )
    return named(verdict)


def polled(body, job_id="j1"):
    return named(read_poll(Answer(200, {}, orjson.dumps(body)), 0.0, job_id))


def named(verdict):
    """A verdict in a word: the state of a job that is over, or what else is known."""
    if isinstance(verdict, Ambiguous):
        return LOST
    assert isinstance(verdict, Accepted | JobReport), verdict
    if isinstance(verdict.outcome, Running):
        return RUNS if verdict.outcome.unclear is None else f"perhaps {verdict.outcome.unclear.state}"
    return str(verdict.outcome.state)


ERROR = {"code": "server_error", "message": "boom"}
IMAGES, CHAT, BACK = "/images/generations", "/chat/completions", "/responses"


@pytest.mark.parametrize(
    ("path", "body", "outcome"),
    [
        # seen: each of these was called a success once
        (IMAGES, {"id": "j1", "state": "failed"}, "failed"),
        (IMAGES, {"state": "queued"}, LOST),
        (IMAGES, {"status": "notRunning"}, LOST),
        (BACK, {"code": 200, "data": {"taskId": "j1"}}, RUNS),
        (BACK, {"data": {"status": "queued"}}, LOST),
        (BACK, {"id": "j1", "status": "no such word", "output": [MESSAGE]}, RUNS),
        (BACK, {"id": "j1", "state": "running", "output": [MESSAGE]}, RUNS),
        # a job where an endpoint should have answered with a result: where it is kept is unknown
        (IMAGES, {"id": "j1", "status": "queued"}, LOST),
        (CHAT, {"id": "j1", "status": "in_progress", **RESULTS[CHAT]}, LOST),
        # ids, at the top and in `data`
        (BACK, {"job_id": "j1", "status": "queued"}, RUNS),
        (BACK, {"task_id": "j1", "state": "PENDING"}, RUNS),
        (BACK, {"data": {"task_id": "j1", "state": "waiting"}}, RUNS),
        (BACK, {"data": {"id": "j1", "status": "completed", "output": [MESSAGE]}}, "succeeded"),
        (BACK, {"request_id": "j1", "status": "queued"}, LOST),
        (BACK, {"id": None, "status": "queued"}, LOST),
        # words that agree, and words that do not
        (BACK, {"id": "j1", "status": "completed", "state": "succeeded", "output": [MESSAGE]}, "succeeded"),
        (BACK, {"id": "j1", "status": "failed", "state": "timeout", "error": ERROR}, "internal_error"),
        (BACK, {"id": "j1", "status": "completed", "state": "running"}, RUNS),
        (BACK, {"id": "j1", "status": "completed", "state": "failed"}, "perhaps failed"),
        (BACK, {"id": "j1", "status": "completed", "data": {"state": "cancelled"}}, "perhaps failed"),
        (BACK, {"id": "j1", "status": "completed", "state": "enabled", "output": [MESSAGE]}, "succeeded"),
        # errors without a word
        (BACK, {"id": "j1", "error": ERROR}, "internal_error"),
        (BACK, {"error": ERROR}, LOST),
        (CHAT, {"error": ERROR}, LOST),
        (CHAT, {"error": ERROR, **RESULTS[CHAT]}, LOST),
        (CHAT, {"error": "boom", **RESULTS[CHAT]}, LOST),
        (CHAT, {"error": "", **RESULTS[CHAT]}, "succeeded"),
        (CHAT, {"choices": [{**RESULTS[CHAT]["choices"][0], "finish_reason": "error"}]}, LOST),
        (CHAT, {"id": "c1", "choices": [{**RESULTS[CHAT]["choices"][0], "finish_reason": "error"}]}, "failed"),
        (CHAT, {"id": "c1", "choices": [{**RESULTS[CHAT]["choices"][0], "error": ERROR}]}, "internal_error"),
        (
            CHAT,
            {"id": "c1", "choices": [{**RESULTS[CHAT]["choices"][0], "error": None, "finish_reason": "stop"}]},
            "succeeded",
        ),
        (CHAT, {"error": {}, **RESULTS[CHAT]}, "succeeded"),
        # results of another endpoint, empty ones, none
        (CHAT, RESULTS[IMAGES], LOST),
        (IMAGES, RESULTS[CHAT], LOST),
        (IMAGES, RESULTS["/embeddings"], LOST),
        (CHAT, {"choices": []}, LOST),
        (IMAGES, {"data": [{}]}, LOST),
        (IMAGES, {"data": [{"b64_json": 5}]}, LOST),
        (IMAGES, {"data": [{"url": 1}]}, LOST),
        *(("/embeddings", {"data": [{"embedding": empty}]}, LOST) for empty in (None, [], "", 0)),
        (IMAGES, {}, LOST),
        (BACK, {"output": []}, LOST),
        (BACK, {"output": [MESSAGE]}, "succeeded"),
    ],
    ids=str,
)
def test_p20_what_a_response_to_a_post_shows(path, body, outcome):
    assert posted(path, body) == outcome
    assert posted(path, body, 202) == outcome


@pytest.mark.parametrize("path", BY_PATH)
@pytest.mark.parametrize("word", sorted(WORDS))
def test_a_word_next_to_a_result_decides(path, word):
    outcome = posted(path, {"id": "j1", "status": word, **RESULTS[path]})
    if group_of(word) is StateGroup.SUCCESS:
        assert outcome == "succeeded"
    elif group_of(word) in (StateGroup.IN_PROGRESS, StateGroup.CANCELLING, StateGroup.UNKNOWN):
        assert outcome == (RUNS if BY_PATH[path].background else LOST)
    else:
        assert outcome not in (RUNS, LOST, "succeeded")


@pytest.mark.parametrize("path", BY_PATH)
def test_a_result_in_the_form_of_its_endpoint_needs_no_word(path):
    for other, result in RESULTS.items():
        assert (posted(path, result) == "succeeded") == (other == path)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ({"id": "j1", "state": "succeeded", "output": [MESSAGE]}, "succeeded"),
        ({"id": "j1", "state": "failed", "error": ERROR}, "internal_error"),
        ({"code": 200, "data": {"taskId": "j1", "state": "fail", "error": {"code": "invalid_prompt"}}}, "rejected"),
        ({"data": {"taskId": "j1", "state": "generating"}}, RUNS),
        ({"id": "j1", "output": [MESSAGE]}, RUNS),
        ({"id": "j1", "status": "weird", "output": [MESSAGE]}, RUNS),
        ({"id": "j1", "error": ERROR}, "perhaps internal_error"),
        ({"id": "j1", "status": "in_progress", "error": ERROR}, RUNS),
        ({"id": "j1", "status": "completed", "state": "failed"}, "perhaps failed"),
        ({"id": "j1", "status": "deleted"}, "expired"),
        ({"id": "j1", "status": "stopped"}, "cancelled"),
        ({"id": "j1", "status": "InProgress"}, RUNS),
    ],
    ids=str,
)
def test_p20_what_a_poll_shows(body, outcome):
    assert polled(body) == outcome


def test_a_poll_compares_the_id_that_the_post_gave():
    assert read_poll(Answer(200, {}, b'{"data":{"taskId":"j1","state":"success"}}'), 0.0, "j1").outcome.warnings == (
        "empty_output",
    )
    report = read_poll(Answer(200, {}, b'{"data":{"taskId":"j2","state":"success"}}'), 0.0, "j1")
    assert "id_changed" in report.outcome.warnings


def mutated(body, chance):
    """`body` with fields dropped, renamed, nested, and with words that contradict it."""
    body = dict(body)
    for _ in range(chance.randrange(1, 4)):
        match chance.randrange(5):
            case 0 if body:
                body.pop(chance.choice(list(body)))
            case 1 if body:
                body[chance.choice(["result", "items", "payload"])] = body.pop(chance.choice(list(body)))
            case 2:
                body = {"data": body}
            case 3:
                body[chance.choice(["status", "state"])] = chance.choice([*WORDS, "Weird", 7, None])
            case 4:
                body["error"] = chance.choice([ERROR, "boom", {}, None])
    return body


def test_no_change_of_a_response_makes_a_success_that_it_does_not_show(long):
    chance = random.Random(1)
    bodies = [{"id": "j1", **result} for result in RESULTS.values()]
    bodies += [{"id": "j1", "status": word, "output": [MESSAGE]} for word in ("completed", "queued", "failed")]
    seen = 0
    for path, body in itertools.islice(
        itertools.cycle(itertools.product(BY_PATH, bodies)), 200_000 if long else 20_000
    ):
        changed = mutated(body, chance)
        if posted(path, changed) != "succeeded":
            continue
        seen += 1
        data = changed.get("data")
        objects = [changed, *([data] if isinstance(data, dict) else [])]
        words = [one.get(name) for one in objects for name in ("status", "state")]
        good = any(group_of(word) is StateGroup.SUCCESS for word in words)
        plain = not any(words) and not changed.get("error") and all(
            changed.get(name) == value for name, value in RESULTS[path].items()
        )  # fmt: skip
        assert good or plain, (path, changed)
    assert seen > 100


def test_p23_an_error_of_a_job_is_a_rate_limit_where_a_gateway_says_so():
    def state(message, code="server_error"):
        body = {"id": "j1", "status": "failed", "error": {"code": code, "message": message}}
        return read_poll(Answer(200, {}, orjson.dumps(body)), 0.0, "j1").outcome

    for message in (
        "litellm.RateLimitError: RPM limit=5",
        "upstream: TPM limit reached",
        "status code: 429",
        "HTTP 429",
    ):
        found = state(message)
        assert (found.state, "classified_by_text" in found.warnings) == (State.RATE_LIMITED, True), message
    assert state("row 429 is bad").state is State.INTERNAL_ERROR
    assert state("HTTP 429", "invalid_prompt").state is State.REJECTED
    assert isinstance(state("x"), Ended)
