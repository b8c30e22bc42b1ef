"""The bodies of the endpoints that end at the submit: chat completions, embeddings, images."""

from __future__ import annotations

import base64
import math
from array import array
from collections.abc import Mapping
from hashlib import shake_128
from typing import Any

from batchrun.simulator.bodies import refusal_text, text_of
from batchrun.simulator.jobs import SimulatedJob
from batchrun.simulator.pictures import picture

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
            text, refused = None, refusal_text()
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
    given = body.get("input")
    inputs = given if isinstance(given, list) and given and isinstance(given[0], str | list) else [given]
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
        made = [{"url": f"https://images.invalid/{job.nonce:08x}.png", "revised_prompt": None}] * count
    else:
        made = [{"b64_json": picture(image_bytes, job.nonce, index)} for index in range(count)]
    return {
        "created": int(job.created),
        "background": "opaque",
        "data": made,
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
