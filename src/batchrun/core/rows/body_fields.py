"""The fields that a body may have at each endpoint, as the types of the openai package name them.

A field that is not among them is sent all the same, and the check warns of it: it may be a service's own (vLLM's
`top_k`), or a column that was never meant for the service. A test compares the lists with the installed package.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from batchrun.core.rows.parse import Endpoint, Form, kind_of, plain_path
from batchrun.core.text.readable import visible

BODY_FIELDS: dict[str, frozenset[str]] = {
    "/responses": frozenset(
        """
        access_programs background background_options context_management conversation image include input
        instructions max_output_tokens max_tool_calls metadata model moderation parallel_tool_calls
        previous_response_id prompt prompt_cache_key prompt_cache_options prompt_cache_retention reasoning
        safety_identifier service_tier store stream stream_options temperature text tool_choice tools
        top_logprobs top_p truncation user
        """.split()
    ),
    "/chat/completions": frozenset(
        """
        audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens
        messages metadata modalities model moderation n parallel_tool_calls prediction presence_penalty
        prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort response_format
        safety_identifier seed service_tier stop store stream stream_options temperature tool_choice tools
        top_logprobs top_p user verbosity web_search_options
        """.split()
    ),
    "/embeddings": frozenset(
        """
        dimensions encoding_format input model user
        """.split()
    ),
    "/images/generations": frozenset(
        """
        background complexity frame_count frame_duration_ms model moderation n output_compression
        output_format partial_images prompt quality response_format safety_identifier size stream style svg
        user
        """.split()
    ),
}

SETTABLE = frozenset().union(*BODY_FIELDS.values()) - {
    "background", "stream", "stream_options", "input", "messages", "prompt", "model", "metadata", "user",
}  # fmt: skip
"""The fields that people set for all rows alike."""

_MEANT = {
    ("/responses", "max_tokens"): "max_output_tokens",
    ("/responses", "max_completion_tokens"): "max_output_tokens",
    ("/responses", "messages"): "input",
    ("/responses", "reasoning_effort"): "reasoning",
    ("/responses", "response_format"): "text",
    ("/chat/completions", "max_output_tokens"): "max_completion_tokens",
    ("/chat/completions", "input"): "messages",
    ("/chat/completions", "prompt"): "messages",
    ("/embeddings", "prompt"): "input",
    ("/images/generations", "input"): "prompt",
}
"""What a field of one endpoint is called at another."""


_LOOKED_AT = frozenset({"prompt", "background", "stream"})  # by their values


def has_usual_fields(endpoint: Endpoint, form: Form, names: Iterable[str]) -> bool:
    """Whether a body with these fields has none that anything is to be said of.

    For one that has `unknown_fields`, `odd_prompt` and `overridden` say more, or nothing.
    """
    fields = BODY_FIELDS.get(plain_path(endpoint.path))
    if fields is None:  # of an endpoint that nobody listed every field may be one
        return _LOOKED_AT.isdisjoint(names)
    ours = frozenset[str]() if form is Form.BATCH else form.value
    shorthand = {"prompt"} if form is Form.SHORTHAND else frozenset[str]()  # which is text
    return ((fields - _LOOKED_AT) | ours | shorthand).issuperset(names)


def unknown_fields(endpoint: Endpoint, form: Form, body: dict[str, Any]) -> list[str]:
    """The fields of the body that are sent and that the endpoint is not known to have."""
    known = BODY_FIELDS.get(plain_path(endpoint.path))
    if known is None:
        return []
    apart = frozenset[str]() if form is Form.BATCH else form.value
    return [name for name in body if name not in known and name not in apart]


def unknown_field_message(endpoint: Endpoint, form: Form, name: str) -> str:
    """What the check says of such a field."""
    path = plain_path(endpoint.path)
    known = BODY_FIELDS[path]
    meant = _MEANT.get((path, name)) or next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.85)), None)
    if meant is not None:
        advice = f"did you mean {visible(meant, 60)}?"
    elif form is Form.BARE:
        advice = "leave it out"
    else:
        advice = "leave it out, or put it into metadata"
    return f"unknown field {visible(name, 60)!r} of {path}, sent as it is: {advice}"


def odd_prompt(endpoint: Endpoint, form: Form, body: dict[str, Any]) -> str | None:
    """What is odd about the prompt of a body; None where nothing is."""
    prompt, path = body.get("prompt"), plain_path(endpoint.path)
    if prompt is None or form is Form.SHORTHAND:
        return None
    if path == "/responses" and type(prompt) is not dict:
        if type(prompt) is str:
            return "expected an object as prompt here (a stored prompt), got a string: write the text as input"
        return f"expected a string as prompt, got {kind_of(prompt)}"
    if path == "/images/generations" and type(prompt) is not str:
        return f"expected a string as prompt, got {kind_of(prompt)}"
    return None
