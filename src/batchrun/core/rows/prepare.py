"""What is sent for a row: the path it goes to, and its body with our fields in it.

Ours are `background` and `stream`: batchrun submits and polls, so a row cannot choose them. `store` is set
where the user left it out, because a service may keep an unstored result for ten minutes only. `--model` fills rows that name none. `--set` sets a field in every row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from batchrun.core.settings.settings import UsageError
from batchrun.core.text.json_text import edited
from batchrun.core.text.readable import Option, visible

_OURS = frozenset({"background", "stream", "stream_options"})
_PREFIX = re.compile(r"(?:(?:/openai)?/v1)?(?=/)")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path of the service under its base URL, to which rows are POSTed.

    With `background` the response names a job; without, it is the result. Of a row's body, `ours` are fields that
    we always set, `default` those that the row may set itself, `dropped` those that are removed unless they are false.
    """

    path: str
    background: bool = False
    ours: Mapping[str, Any] = field(default_factory=dict)
    default: Mapping[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ("background", "stream", "stream_options")


RESPONSES = Endpoint(
    "/responses",
    background=True,
    ours={"background": True},
    default={"store": True},
    dropped=("stream", "stream_options"),
)
SYNCHRONOUS = (Endpoint("/chat/completions"), Endpoint("/embeddings"), Endpoint("/images/generations"))
ENDPOINTS = (RESPONSES, *SYNCHRONOUS)


def plain_path(path: str) -> str:
    """`path` without the prefixes under which services offer the same: `/v1`, `/openai/v1`, a last slash.

    >>> plain_path("/openai/v1/responses")
    '/responses'
    """
    return _PREFIX.sub("", path, count=1).rstrip("/") if path.startswith("/") else path


@dataclass(frozen=True, slots=True)
class BodyFlags:
    """The flags that enter bodies; a batch keeps those that it was started with. `settings` are names with JSON."""

    model: str | None = None
    settings: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def read(cls, model: str | None = None, settings: Iterable[str] = ()) -> BodyFlags:
        """The flags as they are typed, each setting `name=value`. Raises UsageError."""
        if model is not None and not model:
            raise UsageError("it is empty", "name a model", Option("model"))
        return cls(model, tuple(dict(map(_setting, settings)).items()))

    def to_dict(self) -> dict[str, Any]:
        """As the journal's header keeps them."""
        return {"model": self.model, "set": {name: value.decode() for name, value in self.settings}}


NO_FLAGS = BodyFlags()


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is sent: `body` is JSON in bytes. `warnings` go to the record."""

    path: str
    body: bytes
    warnings: tuple[str, ...] = ()


def prepared(endpoint: Endpoint, text: bytes, body: Mapping[str, Any], flags: BodyFlags) -> Prepared:
    """`text`, which is the object `body`, with the fields that batchrun and the flags set."""
    put = dict(flags.settings)
    if flags.model is not None and "model" not in put and not body.get("model"):
        put["model"] = orjson.dumps(flags.model)
    for name, value in endpoint.ours.items():
        if name not in body or body[name] is not value:
            put[name] = orjson.dumps(value)
    for name, value in endpoint.default.items():
        if body.get(name) is None and name not in put:
            put[name] = orjson.dumps(value)
    drop = tuple(name for name in endpoint.dropped if name in body and _unwanted(name, body[name]))
    return Prepared(endpoint.path, edited(text, put, drop, body.keys()), overridden(endpoint, body))


def overridden(endpoint: Endpoint, body: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields of the row that will not be sent as written, as warnings."""
    ours = [name for name, value in endpoint.ours.items() if body.get(name) is not None and body[name] != value]
    gone = [name for name in endpoint.dropped if name != "stream_options" and _unwanted(name, body.get(name))]
    return tuple(f"{name}_overridden" for name in (*ours, *gone)) if ours or gone else ()


def _unwanted(name: str, value: Any) -> bool:
    if name == "background":
        return value is True  # an image's background is a colour
    return value is not None and value is not False


def _setting(text: str) -> tuple[str, bytes]:
    name, equals, value = text.partition("=")
    shown = visible(text, 60)
    if not equals or not name:
        raise UsageError(
            ("expected ", Option("set", "name=value"), f", came {shown!r}"),
            ("write ", Option("set", "temperature=0.2")),
        )
    if name in _OURS:
        raise UsageError(
            (Option("set", visible(name, 60)), " is refused: batchrun itself decides how a job runs and is followed")
        )
    if "." in name:
        first, rest = name.split(".", 1)
        nested = Option("set", visible(f"'{first}={{\"{rest}\": …}}'", 84))
        raise UsageError(
            (Option("set"), f" sets whole fields of the body, came {visible(name, 60)!r}"), ("write ", nested)
        )
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError:
        return name, orjson.dumps(value)  # a bare word is a string
    if name == "model" and (not isinstance(parsed, str) or not parsed):
        raise UsageError(("expected ", Option("set", "model=NAME"), f", came {shown!r}: a model is a string"))
    return name, value.strip().encode()
