"""Results that are files: where they are in a response body, and the body that names the files instead.

An image is base64 in the JSON of a body: megabytes that no reader of a record wants to load. With `--artifacts` each
becomes a file, and the string is replaced by an object that names the file.

1. Only the strings that are files are replaced; every other byte of the body stays as received.
2. A string that is not base64 is not a file: it stays, with a warning. A paid result is never lost for its form.
3. Nothing large is copied or decoded here: a string is found by its quotes, and its first bytes tell its kind.

Where they are: `result` of an `image_generation_call` in `output` (whatever its status word), and `b64_json` in `data`.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import orjson

from batchrun.core.text.json_text import elements, has_many_parts, members

UNREADABLE = "artifact_unreadable"
_HEAD = 32  # characters of base64 that tell what they are: 24 bytes
_WHITE = b" \t\r\n"
_ANYTHING = ("application/octet-stream", ".bin")


@dataclass(frozen=True, slots=True)
class Found:
    """A file in a body: its JSON string is `body[start:end]`, quotes included; `at` is its path."""

    at: str
    start: int
    end: int
    name: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What was written to the file."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file as a record names it."""

    file: Annotated[str, "its path from the folder of the output"]
    media_type: Annotated[str, "what it is, by its first bytes"]
    size: Annotated[int, "its size in bytes"]
    sha256: Annotated[str, "its digest", {"pattern": "^[0-9a-f]{64}$"}]
    at: Annotated[str, "where the body had it"]

    def in_body(self) -> dict[str, Any]:
        """The object that replaces the base64 in the body."""
        return {"file": self.file, "media_type": self.media_type, "size": self.size, "sha256": self.sha256}


def find(body: bytes, row_name: str) -> tuple[tuple[Found, ...], bool]:
    """The files in `body`, named after the row, and whether a string that should be one is not base64.

    `body` is a JSON object, as received. The number in a name counts the strings, files or not. Of a body with more
    parts than MAX_STEPS every string stays: to find them would stop the event loop for too long.
    """
    if b"image_generation_call" not in body and b"b64_json" not in body:
        return (), False
    if has_many_parts(body):
        return (), True
    found: list[Found] = []
    count = 0
    for count, (at, start, end) in enumerate(_places(body), 1):
        kind = _kind(body, start, end)
        if kind is not None:
            media_type, suffix = kind
            found.append(Found(at, start, end, f"{row_name}-{count - 1}{suffix}", media_type))
    return tuple(found), len(found) < count


def base64_of(body: bytes, start: int, end: int) -> memoryview:
    """The JSON string at `body[start:end]` without white space; copied only where it has any or is escaped."""
    if body.find(b"\\", start, end) < 0 and body.find(b" ", start, end) < 0:
        return memoryview(body)[start + 1 : end - 1]
    text: str = orjson.loads(memoryview(body)[start:end])
    return memoryview(text.encode("utf-8").translate(None, _WHITE))


def referring(body: bytes, artifacts: Iterable[tuple[Found, Artifact]]) -> bytes:
    """`body` with each of these strings replaced by an object that names the file."""
    pieces: list[bytes | memoryview] = []
    whole, copied = memoryview(body), 0
    for found, artifact in artifacts:
        pieces += (whole[copied : found.start], orjson.dumps(artifact.in_body()))
        copied = found.end
    return b"".join((*pieces, whole[copied:]))


def _places(body: bytes) -> Iterator[tuple[str, int, int]]:
    """Every string that should be a file, in the order of the body."""
    lists = {one.key: one for one in members(body) if one.key in ("output", "data") and body[one.value] == ord("[")}
    for one in sorted(lists.values(), key=lambda one: one.start):
        for index, (start, _) in enumerate(elements(body, one.value)):
            if body[start] != ord("{"):
                continue
            fields = {field.key: field for field in members(body, start)}
            name = "b64_json" if one.key == "data" else "result"
            kind = fields.get("type")
            if one.key == "output" and (kind is None or body[kind.value : kind.end] != b'"image_generation_call"'):
                continue
            text = fields.get(name)
            if text is not None and body[text.value] == ord('"') and text.end - text.value > len('""'):
                yield f"{one.key}[{index}].{name}", text.value, text.end


def _kind(body: bytes, start: int, end: int) -> tuple[str, str] | None:
    """Media type and suffix by the first bytes; None for what is not base64."""
    try:
        head = a2b_base64(base64_of(body, start, end)[:_HEAD], strict_mode=True)
    except ValueError:
        return None
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png", ".png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg", ".jpg"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp", ".webp"
    return ("image/gif", ".gif") if head.startswith((b"GIF87a", b"GIF89a")) else _ANYTHING
