"""The body of a response, made from the job's facts at the moment of the look; nothing is stored.

Every field that the openai SDK's models demand is there, and those that a response always has.
"""

from __future__ import annotations

from typing import Any

import orjson

from batchrun.simulator.jobs import SimulatedJob
from batchrun.simulator.pictures import picture
from batchrun.simulator.words import CODES

_WORDS = (
    b"the answer to this row was made up by a simulator so that a batch can be rehearsed before it is paid for "
    b"every word of it follows from the seed and says nothing about the question that was asked "
)
_TEXT = (_WORDS * (16_384 // len(_WORDS) + 2)).decode()
_STARTS = [i + 1 for i, char in enumerate(_TEXT[: len(_WORDS)]) if char == " "]
_LONGEST = 16_384
_LETTERS_A_TOKEN = 5

_HEAD = b'{"id":"%b","object":"response","created_at":%d,"status":"%b","background":%b,"completed_at":%b,"error":%b,"incomplete_details":%b,'
_MIDDLE = (
    b'"instructions":null,"max_tool_calls":null,"model":%b,"output":%b,"parallel_tool_calls":true,"previous_response_id":null,'
    b'"prompt_cache_key":null,"reasoning":{"effort":null,"summary":null},"safety_identifier":null,"service_tier":"default","store":true,'
    b'"temperature":1.0,"text":{"format":{"type":"text"},"verbosity":"medium"},"tool_choice":"auto","tools":[],"top_logprobs":0,'
    b'"top_p":1.0,"truncation":"disabled","usage":%b,"user":null,'
)
PLAIN_NOTE = b'"max_output_tokens":null,"metadata":{}}'
_BOOLEAN = (b"false", b"true")
_NULL = b"null"
_MODEL_JSON: dict[str, bytes] = {}


def note_of(body: dict[str, Any]) -> bytes | None:
    """What every answer echoes of the request; None if that is nothing."""
    cap, metadata = body.get("max_output_tokens"), body.get("metadata")
    if not isinstance(cap, int) and not metadata:
        return None
    return b'"max_output_tokens":%b,"metadata":%b}' % (
        orjson.dumps(cap if isinstance(cap, int) else None),
        orjson.dumps(metadata if isinstance(metadata, dict) else {}),
    )


def response(
    job: SimulatedJob, name: bytes, status: str, end: float, note: bytes = PLAIN_NOTE, image_bytes: int = 0
) -> bytes:
    """The response object of `job` with status `status`; `end` is when it ended, if it did."""
    completed = error = reason = usage = _NULL
    output = b"[]"
    if status not in ("queued", "in_progress", "cancelled"):
        outcome = job.outcome if status == job.final else "completed"
        if status == "completed":
            completed = b"%d" % end
        items = _items(job, name, outcome, image_bytes)
        if items:
            output = orjson.dumps(items)
        if status in ("failed", "completed"):
            error = _error(outcome)
        if status == "incomplete":
            reason = b'{"reason":"%b"}' % (b"content_filter" if outcome == "filtered" else b"max_output_tokens")
        if status in ("completed", "incomplete") or items:
            usage = _usage(job)
    model = _MODEL_JSON.get(job.model)
    if model is None:
        if len(_MODEL_JSON) > 1000:
            _MODEL_JSON.clear()
        model = _MODEL_JSON[job.model] = orjson.dumps(job.model)
    head = _HEAD % (name, int(job.created), status.encode(), _BOOLEAN[job.background], completed, error, reason)
    return head + _MIDDLE % (model, output, usage) + note


def text_of(job: SimulatedJob) -> str:
    """The text that a job answers: its own part of an endless sentence, as long as its tokens."""
    start = _STARTS[job.nonce % len(_STARTS)]
    length = min(job.output_tokens * _LETTERS_A_TOKEN, _LONGEST - len(_WORDS))
    end = _TEXT.find(" ", start + max(length - 1, 0))
    return _TEXT[start:end]


def refusal_text() -> str:
    return "this simulated model refuses to answer"


def _usage(job: SimulatedJob) -> bytes:
    return (
        b'{"input_tokens":%d,"input_tokens_details":{"cache_write_tokens":0,"cached_tokens":0},"output_tokens":%d,'
        b'"output_tokens_details":{"reasoning_tokens":0},"total_tokens":%d}'
        % (job.input_tokens, job.output_tokens, job.input_tokens + job.output_tokens)
    )


def _error(outcome: str) -> bytes:
    if outcome in ("error_completed", "partial"):
        outcome = "server_error"
    rule = CODES.get(outcome)
    if rule is None:
        return _NULL
    return orjson.dumps({"code": rule.word, "message": f"simulated: {rule.advice}", "param": None, "type": None})


def _items(job: SimulatedJob, name: bytes, outcome: str, image_bytes: int) -> list[dict[str, Any]]:
    own = name.decode().removeprefix("resp_")[:40]
    match outcome:
        case "completed" | "error_completed":
            return [_message(own, "completed", _text_part(text_of(job)))]
        case "incomplete" | "filtered" | "partial":
            return [_message(own, "incomplete", _text_part(text_of(job)))]
        case "refusal":
            return [_message(own, "completed", {"type": "refusal", "refusal": refusal_text()})]
        case "tool_failed":
            return [_image(own, "failed", None)]
        case "image":
            return [_image(own, "completed", picture(image_bytes, job.nonce))]
        case "image_generating":
            return [_image(own, "generating", picture(image_bytes, job.nonce))]
        case _:
            return []


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(own: str, status: str, part: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"msg_{own}", "type": "message", "status": status, "role": "assistant", "content": [part]}


def _image(own: str, status: str, result: str | None) -> dict[str, Any]:
    item: dict[str, Any] = {"id": f"ig_{own}", "type": "image_generation_call", "status": status, "result": result}
    if result is None:
        item["error"] = {
            "code": "server_error",
            "message": "simulated: no image came",
            "param": None,
            "type": "server_error",
        }
    return item
