"""Each service against a scripted server: path, headers and body of what it asks, and what it makes of answers."""

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from batchrun.core.responses.outcome import Ended, Running
from batchrun.core.responses.verdict import Accepted, Ambiguous, JobReport, Refused, Trouble, Unclear
from batchrun.core.taxonomy.rules import State
from batchrun.services.choice import choose
from batchrun.services.custom import read_profile
from tests.edge.hostile_server import answer
from tests.services.over_socket import BODY, KEY, verdicts_of

SAMPLE = Path(__file__).parent.parent.parent / "samples" / "profile.toml"
MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "hello"}]}


def known(environment, base="", **options):
    return lambda origin: choose(environment, base_url=origin + base, **options)


def sample(origin):
    profile = read_profile(tomllib.loads(SAMPLE.read_text()), "profile.toml")
    return choose({"RENDER_API_KEY": KEY}, service=profile, base_url=f"{origin}/api/v2")


@dataclass
class Case:
    """A service, where its endpoint stands, which headers it must send, and how its job looks at each stage."""

    service_of: object
    path: str = "/responses"
    root: str = "/v1"
    head: dict = field(default_factory=lambda: {"authorization": f"Bearer {KEY}", "api-key": None})
    job: object = lambda status, **more: {"id": "job_1", "object": "response", "status": status, **more}
    running: str = "in_progress"
    done: str = "completed"
    failed: str = "failed"
    output: object = field(default_factory=lambda: {"output": [MESSAGE]})
    error: object = field(default_factory=lambda: {"error": {"code": "server_error", "message": "boom"}})
    error_state: State = State.INTERNAL_ERROR
    cancel: str = "POST"
    cancel_path: str = "/responses/job_1/cancel"
    cancelled: str = "cancelled"
    poll_path: str = "/responses/job_1"
    fault: object = lambda code: {"error": {"message": f"no: {code}", "code": code}}
    text: str | None = "hello"


def rendering(status, **more):
    return {"job": {"id": "job_1", "state": status, **more}}


BACKGROUND = {
    "openai": Case(known({"OPENAI_API_KEY": KEY, "OPENAI_ORG_ID": "org-1", "OPENAI_PROJECT_ID": "proj-1", "OPENAI_CUSTOM_HEADERS": "X-Team: seven\nX-Gate: 8"}, "/v1", service="openai"), head={"authorization": f"Bearer {KEY}", "api-key": None, "openai-organization": "org-1", "openai-project": "proj-1", "x-team": "seven", "x-gate": "8"}),
    "azure": Case(known({"AZURE_OPENAI_API_KEY": KEY, "OPENAI_ORG_ID": "org-1"}), root="/openai/v1", head={"api-key": KEY, "authorization": None, "openai-organization": None}),
    "azure with a token": Case(known({"AZURE_OPENAI_AD_TOKEN": KEY, "AZURE_OPENAI_API_KEY": "other"}, "/openai/v1/"), root="/openai/v1"),
    "proxyapi": Case(known({"PROXYAPI_API_KEY": KEY, "OPENAI_ORG_ID": "org-1"}, "/openai/v1", service="proxyapi"), root="/openai/v1", head={"authorization": f"Bearer {KEY}", "openai-organization": None}, fault=lambda code: {"detail": f"no: {code}"}),
    "compatible": Case(known({}, "/v1"), head={"authorization": None, "api-key": None}),
    "compatible at the root": Case(known({"OPENAI_API_KEY": KEY}), root=""),
    "sample": Case(sample, path="/jobs", root="/api/v2", head={"x-render-key": KEY, "authorization": None, "x-tenant": "team-7"}, job=rendering, running="baking", done="Baked", failed="burnt", output={"files": ["https://files.example/1.png"]}, error={"problem": {"kind": "server_error", "message": "boom"}}, cancel="DELETE", cancel_path="/jobs/job_1", cancelled="scraped", poll_path="/jobs/job_1", text=None),
}  # fmt: skip


def chat(**more):
    return {"id": "chatcmpl_1", "object": "chat.completion", "model": "m-1", "choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}], **more}  # fmt: skip


SYNCHRONOUS = {
    "/chat/completions": (chat(), "hello"),
    "/embeddings": ({"object": "list", "data": [{"embedding": [0.5]}], "model": "m-1"}, None),
    "/images/generations": ({"created": 1, "data": [{"b64_json": "aGk="}]}, None),
}


@pytest.fixture(params=BACKGROUND)
def case(request):
    return BACKGROUND[request.param]


def ask(case, status, body, kind, what):
    """The verdict on one exchange, whose request is checked on the way."""

    async def script(conversation):
        received = await conversation.request()
        method, path = {
            "submit": ("POST", case.path),
            "poll": ("GET", case.poll_path),
            "cancel": (case.cancel, case.cancel_path),
        }[kind]
        assert (received.method, received.path) == (method, case.root + path)
        for name, value in case.head.items():
            assert received.header(name) == value, name
        assert received.header("content-type") == ("application/json" if kind == "submit" else None)
        assert received.header("accept") == "application/json"
        assert received.header("user-agent").startswith("batchrun/")
        assert received.header("cookie") is None
        assert received.body == (BODY if kind == "submit" else b"")
        await conversation.send(answer(status, body, x_request_id="req_1"))

    (verdict,) = verdicts_of(script, (kind, what), service_of=case.service_of)
    return verdict


def test_submit(case):
    verdict = ask(case, 200, case.job("queued"), "submit", case.path)
    assert isinstance(verdict, Accepted)
    assert (verdict.job_id, verdict.outcome, verdict.request_id) == ("job_1", Running("queued", started=False), "req_1")


def test_poll(case):
    verdict = ask(case, 200, case.job(case.running), "poll", "job_1")
    assert isinstance(verdict, JobReport)
    assert verdict.outcome == Running(case.running, started=True)


def test_success(case):
    body = case.job(case.done, **case.output)
    verdict = ask(case, 200, body, "poll", "job_1")
    assert isinstance(verdict.outcome, Ended)
    assert (verdict.outcome.state, verdict.outcome.status, verdict.outcome.warnings) == (State.SUCCEEDED, case.done, ())
    assert verdict.outcome.text == case.text
    assert json.loads(verdict.body) == body, "the record keeps what was received"


def test_failed(case):
    verdict = ask(case, 200, case.job(case.failed, **case.error), "poll", "job_1")
    assert (verdict.outcome.state, verdict.outcome.status) == (case.error_state, case.failed)
    assert (verdict.outcome.problem.code, verdict.outcome.problem.message) == ("server_error", "boom")


def test_cancel(case):
    verdict = ask(case, 200, case.job(case.cancelled), "cancel", "job_1")
    assert (verdict.outcome.state, verdict.outcome.status) == (State.CANCELLED, case.cancelled)
    finished = ask(case, 409, case.fault("conflict"), "cancel", "job_1")
    assert isinstance(finished, Unclear)
    assert finished.trouble is Trouble.TRANSIENT


@pytest.mark.parametrize(
    ("status", "code", "again", "halts", "state"),
    [
        (401, "invalid_api_key", False, True, State.REJECTED),
        (402, "balance", False, True, State.BLOCKED_BUDGET),
        (429, "rate_limit_exceeded", True, False, State.RATE_LIMITED),
    ],
)
def test_refusals(case, status, code, again, halts, state):
    verdict = ask(case, status, case.fault(code), "submit", case.path)
    assert isinstance(verdict, Refused)
    assert (verdict.again, verdict.rule.halts, verdict.rule.state) == (again, halts, state)
    assert verdict.problem.message == f"no: {code}"
    unclear = ask(case, status, case.fault(code), "poll", "job_1")
    assert unclear.trouble is (Trouble.TRANSIENT if status == 429 else Trouble.UNAUTHORISED)


@pytest.mark.parametrize("path", SYNCHRONOUS)
@pytest.mark.parametrize("azure", [False, True], ids=["openai", "azure"])
def test_endpoints_that_end_at_the_submit(path, azure):
    environment = {"AZURE_OPENAI_API_KEY": KEY} if azure else {"OPENAI_API_KEY": KEY}
    head = {"api-key": KEY, "authorization": None} if azure else {"authorization": f"Bearer {KEY}", "api-key": None}
    root = "/openai/v1" if azure else "/v1"
    case = Case(known(environment, root), path=path, root=root, head=head)
    body, text = SYNCHRONOUS[path]
    verdict = ask(case, 200, body, "submit", path)
    assert (verdict.outcome.state, verdict.outcome.text) == (State.SUCCEEDED, text)
    cut = {**body, "error": {"code": "server_error", "message": "boom"}, "data": [], "choices": [], "output": []}
    assert ask(case, 200, {"id": "x", **cut}, "submit", path).outcome.state is State.INTERNAL_ERROR
    del cut["data"]
    cut.pop("id", None)
    lost = ask(case, 200, cut, "submit", path)
    assert (isinstance(lost, Ambiguous), "server_error: boom" in lost.problem.message) == (True, True)
    for status, state in ((401, State.REJECTED), (402, State.BLOCKED_BUDGET), (429, State.RATE_LIMITED)):
        assert ask(case, status, case.fault("x"), "submit", path).rule.state is state
    service = case.service_of("http://127.0.0.1:1")
    assert not {one.path: one.background for one in service.profile.endpoints}[path]


def test_a_code_that_a_profile_overrides_decides_whether_a_row_may_be_sent_again():
    case = BACKGROUND["sample"]
    assert isinstance(ask(case, 500, {"error": {"code": "oven_full"}}, "submit", "/jobs"), Refused)
    assert isinstance(ask(case, 507, b"full", "submit", "/jobs"), Refused)
    assert not isinstance(ask(case, 500, {"error": {"code": "other"}}, "submit", "/jobs"), Refused)
    assert not isinstance(ask(case, 404, b"gone", "submit", "/jobs"), Refused)


@pytest.mark.parametrize(
    ("word", "state"),
    [("baked", State.SUCCEEDED), ("BAKED", State.SUCCEEDED), ("oven cold", State.SERVICE_UNAVAILABLE), ("completed", State.SUCCEEDED)],
)  # fmt: skip
def test_words_of_a_profile_are_known_in_any_spelling_besides_the_common_ones(word, state):
    verdict = ask(BACKGROUND["sample"], 200, rendering(word, files=["x"]), "poll", "job_1")
    assert (verdict.outcome.state, verdict.outcome.status) == (state, word)


def test_a_word_that_a_profile_does_not_know_is_polled_on():
    verdict = ask(BACKGROUND["sample"], 200, rendering("molten"), "poll", "job_1")
    assert verdict.outcome == Running("molten", started=False, warnings=("unknown_status",))
    assert ask(BACKGROUND["sample"], 200, {"job": []}, "poll", "job_1").outcome.status is None


def test_the_sample_can_preview_at_once():
    service = sample("http://127.0.0.1:1")
    assert [(one.path, one.background) for one in service.profile.endpoints] == [("/jobs", True), ("/previews", False)]
