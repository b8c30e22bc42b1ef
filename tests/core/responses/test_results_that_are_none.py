"""A result that is none: no image, a tool's error, half a message, as many tokens as the cap allows. Each has a warning."""

import orjson
import pytest

from batchrun.core.jobs.job import About, Job, Row
from batchrun.core.jobs.jobs import record_of
from batchrun.core.responses.error import ToolError
from batchrun.core.responses.http import Answer
from batchrun.core.responses.outcome import ended
from batchrun.core.responses.verdict import read_poll, read_submit
from batchrun.core.taxonomy.rules import State, StateGroup

MESSAGE = {"type": "message", "status": "completed", "content": [{"type": "output_text", "text": "hi"}]}
CUT = {**MESSAGE, "status": "incomplete"}
IMAGE = {"type": "image_generation_call", "status": "completed", "result": "aGk="}
NO_IMAGE = {"type": "image_generation_call", "status": "completed"}
MCP = {"type": "mcp_call", "status": "completed", "name": "search", "server_label": "s", "output": "3 hits"}
BLOCKED = {
    "code": "moderation_blocked",
    "message": "not that",
    "param": "prompt",
    "type": "image_generation_user_error",
}
PROTOCOL = {"type": "mcp_protocol_error", "code": -32602, "message": "no such tool"}
UNAUTHORISED = {"type": "http_error", "code": 401, "message": "Unauthorized"}
EXECUTION = {
    "type": "mcp_tool_execution_error",
    "content": [{"type": "text", "text": "disk"}, {"type": "text", "text": "full"}],
}
NO_IMAGE_WARNING, MCP_WARNING = "tool_failed:image_generation_call", "tool_failed:mcp_call"


def polled(**body):
    answer = Answer(200, {}, orjson.dumps({"id": "j1", "status": "completed", **body}))
    return read_poll(answer, 0.0, "j1").outcome


def record(outcome, token_cap=0):
    """The record of a row with that cap, as it is written."""
    job = Job(Row("row-1", About(token_cap=token_cap)))
    return orjson.loads(record_of(job, outcome, None, "run", 1_800_000_000.0).to_json())


@pytest.mark.parametrize("status", ["completed", "generating", "in_progress", "failed", "incomplete", None, 7])
@pytest.mark.parametrize("result", [{"result": None}, {"result": ""}, {}], ids=["null", "empty", "missing"])
def test_p22_an_image_call_without_an_image_whatever_its_status(status, result):
    item = {"type": "image_generation_call", "status": status, **result}
    outcome = polled(output=[item])
    assert (outcome.state, outcome.warnings, outcome.problem) == ("succeeded", (NO_IMAGE_WARNING,), None)
    assert polled(output=[item, MESSAGE]).warnings == (NO_IMAGE_WARNING,)
    assert polled(output=[item, IMAGE]).warnings == (NO_IMAGE_WARNING,), "one of two images is missing"
    assert polled(output=[{**item, "result": "aGk="}]).warnings == ()


@pytest.mark.parametrize(
    ("items", "warnings"),
    [
        ([MCP], ()),
        ([{**MCP, "error": None}], ()),
        ([{**MCP, "error": PROTOCOL}], (MCP_WARNING,)),
        ([{**MCP, "error": "the server is gone"}, MESSAGE], (MCP_WARNING,)),
        ([{**MCP, "error": EXECUTION}, {**MCP, "error": PROTOCOL}, MESSAGE], (MCP_WARNING,)),
        ([{"type": "mcp_list_tools", "error": "no answer"}, MESSAGE], ("tool_failed:mcp_list_tools",)),
        ([{"type": "web_search_call", "status": "failed"}, MESSAGE], ("tool_failed:web_search_call",)),
        ([CUT], ("incomplete_message",)),
        ([MESSAGE, CUT], ("incomplete_message",)),
        ([{**CUT, "content": []}], ("empty_output", "incomplete_message")),
        ([NO_IMAGE, CUT, {**MCP, "error": PROTOCOL}], (NO_IMAGE_WARNING, MCP_WARNING, "incomplete_message")),
    ],
)
def test_p22_items_of_a_completed_response(items, warnings):
    outcome = polled(output=items)
    assert (outcome.state, outcome.warnings, outcome.problem) == ("succeeded", warnings, None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PROTOCOL, ToolError("mcp_call", "-32602", "mcp_protocol_error", "no such tool", None)),
        (UNAUTHORISED, ToolError("mcp_call", "401", "http_error", "Unauthorized", None)),
        (EXECUTION, ToolError("mcp_call", None, "mcp_tool_execution_error", "disk full", None)),
        ("the server is gone", ToolError("mcp_call", None, None, "the server is gone", None)),
    ],
)
def test_p22_the_record_tells_what_the_tool_said(error, expected):
    written = record(polled(output=[{**MCP, "error": error}, MESSAGE]))
    assert written["error"] is None
    assert written["tool_errors"] == [orjson.loads(orjson.dumps(expected))]


def test_p22_each_tool_is_told_of_once_and_ten_at_most():
    failed = {**MCP, "error": PROTOCOL}
    assert len(record(polled(output=[failed, failed, {**NO_IMAGE, "error": BLOCKED}]))["tool_errors"]) == 2
    many = [{**MCP, "error": {**PROTOCOL, "code": n}} for n in range(1_000)]
    assert len(record(polled(output=many))["tool_errors"]) == 10
    assert record(polled(output=[NO_IMAGE, MESSAGE]))["tool_errors"] == [], "it failed and did not say why"


@pytest.mark.parametrize(
    ("body", "state", "source", "code", "kind"),
    [
        # the service's own error is the job's; without one, that of the tool that failed
        ({"output": [{**NO_IMAGE, "error": BLOCKED}]}, "blocked", "tool", "moderation_blocked", "ContentPolicyError"),
        ({"output": [{**NO_IMAGE, "error": BLOCKED}], "error": {"code": "server_error"}}, "internal_error", "service", "server_error", "InternalServerError"),
        # a code of somebody else's server is no code of the service: its 401 halts no run, its limits are not ours
        ({"output": [{**MCP, "error": UNAUTHORISED}]}, "failed", "tool", "401", "JobFailed"),
        ({"output": [{**MCP, "error": {**PROTOCOL, "code": 429, "message": "exceeded your current quota"}}]}, "failed", "tool", "429", "JobFailed"),
        ({"output": [{**MCP, "error": UNAUTHORISED}], "status": "timeout"}, "timeout", "tool", "401", "APITimeoutError"),
        ({"output": [{**MCP, "error": UNAUTHORISED}], "status": "incomplete"}, "incomplete", "tool", "401", "JobIncomplete"),
        ({"output": [{**MCP, "error": UNAUTHORISED}], "status": "cancelled"}, "cancelled", "service", None, "JobCancelled"),
        ({"output": [NO_IMAGE]}, "failed", "service", None, "JobFailed"),
    ],
)  # fmt: skip
def test_p22_a_job_that_failed_by_its_tool(body, state, source, code, kind):
    outcome = polled(**{"status": "failed", **body})
    assert not outcome.halts
    written = record(outcome)
    error = written["error"]
    assert (written["state"], error["source"], error["code"], error["kind"]) == (state, source, code, kind)
    assert any(warning.startswith("tool_failed:") for warning in written["warnings"])
    assert len(written["tool_errors"]) == ("error" in body["output"][0])


# --- as many tokens as the cap allows ---


def chat(tokens, finish="stop"):
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": "hi"}}
    body = {"id": "c1", "choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": tokens}}
    return read_submit(Answer(200, {}, orjson.dumps(body)), 0.0, background=False, result="choices").outcome


def response(tokens, **more):
    return polled(output=[MESSAGE], usage={"input_tokens": 5, "output_tokens": tokens}, **more)


@pytest.mark.parametrize(
    ("outcome", "token_cap", "warnings"),
    [
        (response(64, max_output_tokens=64), 0, ["truncated"]),
        (response(64, max_output_tokens=64), 64, ["truncated"]),
        (response(63, max_output_tokens=64), 63, []),  # the service's own word of the cap counts
        (response(64, max_output_tokens=128), 64, []),
        (response(64), 64, ["truncated"]),
        (response(64, max_output_tokens=None), 64, ["truncated"]),
        (response(63), 64, []),
        (response(65), 64, []),  # the service does not know this cap
        (response(0), 0, []),
        (polled(output=[MESSAGE]), 64, []),
        (polled(output=[CUT], usage={"output_tokens": 64}), 64, ["incomplete_message", "truncated"]),
        (chat(64), 64, ["truncated"]),
        (chat(63), 64, []),
        (chat(64), 0, []),
    ],
)  # fmt: skip
def test_p22_as_many_tokens_as_the_cap_allows(outcome, token_cap, warnings):
    written = record(outcome, token_cap)
    assert (written["state"], written["warnings"], written["error"]) == ("succeeded", warnings, None)


def test_p22_what_the_service_calls_cut_off_needs_no_warning():
    for outcome in (chat(64, "length"), response(64, status="incomplete"), response(64, status="failed")):
        assert outcome.state != "succeeded"
        assert record(outcome, 64)["warnings"] in ([], ["partial_output"])


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}}]},
        {"status": "completed", "output_text": "ab"},
        {"status": "completed", "output": "ab"},
    ],
)
def test_a_text_is_found_in_parts_and_without_a_list_of_items(body):
    end = ended(body, body.get("status"), StateGroup.SUCCESS)
    assert (end.state, end.text, end.warnings) == (State.SUCCEEDED, "ab", ())
