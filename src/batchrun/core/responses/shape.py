"""A response to a submit that shows neither a job nor a result: what it says, and where its parts may be.

What is found is a proposal to a person who writes a profile, and decides nothing. So the names are guesses: what is
called like a job's id, with a value that could be one, is taken for it. A place is written as a profile writes it,
``data.taskId`` or ``jobs[0].id``; a field whose name cannot be written so is passed over.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from batchrun.core.taxonomy.rules import StateGroup, group_of
from batchrun.core.text.readable import visible

SHOWN = 400
"""Characters of the response that are shown."""
_LONGEST_URL = 2_000
_URL_STARTS = ("https://", "http://", "/")
_FIELDS, _ELEMENTS = 1_000, 3  # as many are looked at: of the whole, and of each list

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_CALLED_ID = re.compile(r"(?:.*[_-])?(?:id|uuid)|.*[a-z0-9](?:Id|ID)|(?:job|task|request|run)id", re.ASCII)
# Ids of something else, and of the HTTP request.
_OF_OTHERS = re.compile(
    r"(?:user|account|org|organi[sz]ation|project|model|trace|span|correlation|session|tenant|team|custom|parent|client|"
    r"app|key|customer|owner|group|workspace|deployment)[_-]?id",
    re.IGNORECASE,
)
_STATUS_NAMES = frozenset({"status", "state", "jobstatus", "jobstate", "taskstatus", "taskstate"})
_RESULT_NAMES = frozenset(
    "results output outputs image images video videos audio embedding embeddings choices predictions generations "
    "artifacts files".split()
)
_RUNNING = frozenset({StateGroup.IN_PROGRESS, StateGroup.CANCELLING})


@dataclass(frozen=True, slots=True)
class UnknownShape:
    """What a response shows in which neither a job nor a result was found. Places are as a profile writes them.

    `path` is the endpoint's, and whether it works in the `background`.
    `status` is the status's place, with the `word` there; without a word the place is a guess. `has_other_status`: there
    is a field `status` at the top that is not the job's. `urls` are the URLs that contain the id, by the names of
    their fields. `result` is the place of what is likely to be a result.
    """

    shown: str
    background: bool
    path: str = ""
    id: str | None = None
    job_id: str | None = None
    status: str = "status"
    word: str | None = None
    has_other_status: bool = False
    result: str | None = None
    urls: tuple[tuple[str, str], ...] = ()

    def beside_id(self, name: str) -> str:
        """The place of a field `name` in the object that holds the id."""
        return _beside(self.id, name)


def unknown_shape(body: Any, text: bytes, *, background: bool, is_safe_id: Callable[[object], bool]) -> UnknownShape:
    """What `body` shows, whose JSON is `text`: the response of an endpoint that works in the `background`, or not."""
    fields = list(_fields_of(body))
    ids = (one for one in fields if is_safe_id(one.value) and _id_rank(one) is not None)
    found_id = min(ids, key=_order_of_ids, default=None)
    status = _status(fields, found_id)
    top = body.get("status") if isinstance(body, dict) else None
    return UnknownShape(
        shown=visible(text[: 4 * SHOWN].decode("utf-8", "replace"), SHOWN),
        background=background,
        id=None if found_id is None else found_id.place,
        job_id=None if found_id is None else found_id.value,
        status=status.place if status is not None else _beside(None if found_id is None else found_id.place, "status"),
        word=None if status is None else status.value,
        has_other_status=isinstance(top, str) and (status is None or status.place != "status"),
        result=_result(fields),
        urls=() if found_id is None else tuple(_urls(fields, found_id.value)),
    )


@dataclass(frozen=True, slots=True)
class _Field:
    place: str
    name: str
    value: Any
    depth: int


def _fields_of(body: Any) -> Iterator[_Field]:
    """The fields of a JSON value, those nearest to the top first."""
    queue: deque[tuple[str, Any, int]] = deque([("", body, 0)])
    count = 0
    while queue and count < _FIELDS:
        place, value, depth = queue.popleft()
        if isinstance(value, dict):
            for name, inner in value.items():
                count += 1
                if count > _FIELDS:
                    return
                if _NAME.fullmatch(name) is not None:
                    field = _Field(f"{place}.{name}" if place else name, name, inner, depth)
                    yield field
                    queue.append((field.place, inner, depth + 1))
        elif isinstance(value, list):
            count += 1
            queue.extend((f"{place}[{position}]", inner, depth + 1) for position, inner in enumerate(value[:_ELEMENTS]))


def _id_rank(field: _Field) -> int | None:
    """How likely a field holds the job's id, 0 first; None where it does not."""
    name = field.name
    if _OF_OTHERS.fullmatch(name):
        return None
    if _CALLED_ID.fullmatch(name) is None:
        return 4 if name.lower() in ("job", "task") else None
    match _plain(name):
        case "jobid" | "taskid":
            return 0
        case "id" | "uuid":
            return 1
        case "requestid":
            return 3
        case _:
            return 2


def _order_of_ids(field: _Field) -> tuple[int, int]:
    rank = _id_rank(field)
    assert rank is not None
    return rank, field.depth


def _status(fields: list[_Field], found_id: _Field | None) -> _Field | None:
    """The job's status: next to its id, or anywhere with a word that says that it runs."""
    words = [one for one in fields if _plain(one.name) in _STATUS_NAMES and isinstance(one.value, str) and one.value]
    beside = [one for one in words if found_id is not None and one.place == _beside(found_id.place, one.name)]
    return next(iter(beside), None) or next((one for one in words if group_of(one.value) in _RUNNING), None)


def _result(fields: list[_Field]) -> str | None:
    """What is called like a result, and is no text: that could be an error's."""
    called = (one for one in fields if _plain(one.name) in _RESULT_NAMES)
    return next((one.place for one in called if isinstance(one.value, dict | list) and one.value), None)


def _urls(fields: list[_Field], job_id: str) -> Iterator[tuple[str, str]]:
    for one in fields:
        url = one.value
        if isinstance(url, str) and len(url) <= _LONGEST_URL and url.startswith(_URL_STARTS) and job_id in url:
            yield one.name, url


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _beside(place: str | None, name: str) -> str:
    above, dot, _ = (place or "").rpartition(".")
    return f"{above}{dot}{name}"
