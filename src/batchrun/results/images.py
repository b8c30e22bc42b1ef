"""The images in a response body, of any endpoint."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any


def images_in(body: Any) -> list[bytes]:
    """Every image of a body, decoded, in order; what is not base64 is left out."""
    return [data for text in _encoded(body) if (data := _decoded(text)) is not None]


def _encoded(body: Any) -> Iterator[str]:
    """The strings of a body that hold an image, of the responses, images and chat endpoints."""
    if not isinstance(body, Mapping):
        return
    for one in _mappings(body.get("output")):
        if one.get("type") == "image_generation_call":
            yield from _texts(one, "result")
    for one in _mappings(body.get("data")):
        yield from _texts(one, "b64_json")
    for choice in _mappings(body.get("choices")):
        message = choice.get("message")
        for one in _mappings(message.get("images") if isinstance(message, Mapping) else None):
            yield from _texts(one.get("image_url"), "url")


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, Mapping))


def _texts(value: Any, name: str) -> Iterator[str]:
    text = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(text, str) and text:
        yield text


def _decoded(text: str) -> bytes | None:
    head, comma, rest = text.partition(",")  # data:image/png;base64,…
    try:
        return base64.b64decode(rest if comma and head.startswith("data:") else text, validate=False)
    except (binascii.Error, ValueError):
        return None
