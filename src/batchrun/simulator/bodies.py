"""The bodies of responses, made from the job's facts at the moment of the request; nothing is stored.

Every field that the openai SDK's models demand is there, and those that a response always has. Chat completions,
embeddings and images end at the submit.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from array import array
from collections.abc import Mapping
from functools import lru_cache
from hashlib import shake_128
from typing import Any

import orjson

from batchrun.simulator.jobs import SimulatedJob
from batchrun.simulator.outcomes import CODES

_WORDS = (
    b"the output of this row was made up by a simulator so that a batch can be simulated before it is paid for "
    b"every word of it follows from the seed and says nothing about the question that was asked "
)
_TEXT = (_WORDS * (16_384 // len(_WORDS) + 2)).decode()
_STARTS = [i + 1 for i, char in enumerate(_TEXT[: len(_WORDS)]) if char == " "]
_LONGEST = 16_384
_LETTERS_PER_TOKEN = 5
_REFUSAL = "this simulated model refuses to answer"

_HEAD = b'{"id":"%b","object":"response","created_at":%d,"status":"%b","background":%b,"completed_at":%b,"error":%b,"incomplete_details":%b,'
_MIDDLE = (
    b'"instructions":null,"max_tool_calls":null,"model":%b,"output":%b,"parallel_tool_calls":true,"previous_response_id":null,'
    b'"prompt_cache_key":null,"reasoning":{"effort":null,"summary":null},"safety_identifier":null,"service_tier":"default","store":true,'
    b'"temperature":1.0,"text":{"format":{"type":"text"},"verbosity":"medium"},"tool_choice":"auto","tools":[],"top_logprobs":0,'
    b'"top_p":1.0,"truncation":"disabled","usage":%b,"user":null,'
)
PLAIN_ECHO = b'"max_output_tokens":null,"metadata":{}}'
_BOOLEAN = (b"false", b"true")
_NULL = b"null"
_as_json = lru_cache(maxsize=1_000)(orjson.dumps)  # of a model


def echo_of(body: dict[str, Any]) -> bytes | None:
    """What every answer repeats of the request; None if nothing."""
    cap, metadata = body.get("max_output_tokens"), body.get("metadata")
    if not isinstance(cap, int) and not metadata:
        return None
    return b'"max_output_tokens":%b,"metadata":%b}' % (
        orjson.dumps(cap if isinstance(cap, int) else None),
        orjson.dumps(metadata if isinstance(metadata, dict) else {}),
    )


def response(
    job: SimulatedJob, name: bytes, status: str, end: float, echo: bytes = PLAIN_ECHO, image_bytes: int = 0
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
    head = _HEAD % (name, int(job.created), status.encode(), _BOOLEAN[job.background], completed, error, reason)
    return head + _MIDDLE % (_as_json(job.model), output, usage) + echo


def text_of(job: SimulatedJob) -> str:
    """The text of a job: its own part of an endless sentence, as long as its tokens."""
    start = _STARTS[job.nonce % len(_STARTS)]
    length = min(job.output_tokens * _LETTERS_PER_TOKEN, _LONGEST - len(_WORDS))
    end = _TEXT.find(" ", start + max(length - 1, 0))
    return _TEXT[start:end]


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
    own_id = name.decode().removeprefix("resp_")[:40]
    match outcome:
        case "completed" | "error_completed":
            return [_message(own_id, "completed", _text_part(text_of(job)))]
        case "incomplete" | "filtered" | "partial":
            return [_message(own_id, "incomplete", _text_part(text_of(job)))]
        case "refusal":
            return [_message(own_id, "completed", {"type": "refusal", "refusal": _REFUSAL})]
        case "tool_failed":
            return [_image(own_id, "failed", None)]
        case "image":
            return [_image(own_id, "completed", picture(image_bytes, job.nonce))]
        case "image_generating":
            return [_image(own_id, "generating", picture(image_bytes, job.nonce))]
        case _:
            return []


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(own_id: str, status: str, part: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"msg_{own_id}", "type": "message", "status": status, "role": "assistant", "content": [part]}


def _image(own_id: str, status: str, result: str | None) -> dict[str, Any]:
    item: dict[str, Any] = {"id": f"ig_{own_id}", "type": "image_generation_call", "status": status, "result": result}
    if result is None:
        item["error"] = {
            "code": "server_error",
            "message": "simulated: no image was generated",
            "param": None,
            "type": "server_error",
        }
    return item


_DIMENSIONS = 1536
_MOST_CHOICES = 128
_IMAGE_TOKENS = 272


def _count(body: Mapping[str, Any], key: str, default: int, most: int) -> int:
    value = body.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most else default


def chat_completion(job: SimulatedJob, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """A chat completion with as many choices as `n` asks for."""
    text: str | None = text_of(job)
    refused: str | None = None
    finish = "stop"
    match job.outcome:
        case "incomplete":
            finish = "length"
        case "filtered":
            finish = "content_filter"
        case "empty":
            text = None
        case "refusal":
            text, refused = None, _REFUSAL
        case _:
            pass
    choices = _count(body, "n", 1, _MOST_CHOICES)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": refused, "annotations": []}
    output_tokens = job.output_tokens * choices
    return {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": int(job.created),
        "model": job.model,
        "choices": [
            {"index": i, "message": message, "logprobs": None, "finish_reason": finish} for i in range(choices)
        ],
        "usage": {
            "prompt_tokens": job.input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": job.input_tokens + output_tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
        "system_fingerprint": None,
    }


def embeddings(job: SimulatedJob, _name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """A list of unit vectors, one for each input; as base64 of little-endian floats where the request asks for it."""
    value_ = body.get("input")
    inputs = value_ if isinstance(value_, list) and value_ and isinstance(value_[0], str | list) else [value_]
    dimensions = _count(body, "dimensions", _DIMENSIONS, 8192)
    as_text = body.get("encoding_format") == "base64"
    data = []
    for index, text in enumerate(inputs if job.outcome != "empty" else []):
        vector = _unit_vector(f"{job.model} {text}", dimensions)
        value = base64.b64encode(vector.tobytes()).decode() if as_text else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": value})
    return {
        "object": "list",
        "data": data,
        "model": job.model,
        "usage": {"prompt_tokens": job.input_tokens, "total_tokens": job.input_tokens},
    }


def images(job: SimulatedJob, _name: str, body: Mapping[str, Any], image_bytes: int = 0) -> dict[str, Any]:
    """As many images as `n` asks for; as addresses where the request asks for those."""
    count = 0 if job.outcome == "empty" else _count(body, "n", 1, 10)
    if body.get("response_format") == "url":
        data = [{"url": f"https://images.invalid/{job.nonce:08x}.png", "revised_prompt": None}] * count
    else:
        data = [{"b64_json": picture(image_bytes, job.nonce, index)} for index in range(count)]
    return {
        "created": int(job.created),
        "background": "opaque",
        "data": data,
        "output_format": "png",
        "quality": "low",
        "size": "1024x1024",
        "usage": {
            "input_tokens": job.input_tokens,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": job.input_tokens},
            "output_tokens": _IMAGE_TOKENS * count,
            "total_tokens": job.input_tokens + _IMAGE_TOKENS * count,
        },
    }


def model_list(models: tuple[str, ...], since: float) -> dict[str, Any]:
    data = [{"id": name, "object": "model", "created": int(since), "owned_by": "simulator"} for name in models]
    return {"object": "list", "data": data}


def _unit_vector(text: str, dimensions: int) -> array[float]:
    """A direction that follows from `text` alone: equal texts have equal vectors."""
    raw = shake_128(text.encode("utf-8", "surrogatepass")).digest(2 * dimensions)
    numbers = memoryview(raw).cast("h")
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return array("f", [number / length for number in numbers])


# The smallest PNG there is: one transparent pixel.
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)  # fmt: skip
_WIDTH = 256
_LINE = 1 + 3 * _WIDTH  # a byte that says how the line is coded, and three a pixel


def picture(size: int, nonce: int, index: int = 0) -> str:
    """A PNG of about `size` bytes in base64; its content follows from `nonce` and `index`. PIXEL for a size of 0."""
    if not size:
        return PIXEL
    height = max(1, size // _LINE)
    noise = shake_128(b"%d %d" % (nonce, index)).digest(height * (_LINE - 1))
    lines = b"".join(
        b"\0" + noise[start : start + _LINE - 1] for start in range(0, len(noise), _LINE - 1)
    )  # 0: as they are
    head = struct.pack(">IIBBBBB", _WIDTH, height, 8, 2, 0, 0, 0)  # eight bits, red green blue
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 0)), (b"IEND", b""))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
