"""Responses of a service with its own field names, moved to the fields that core reads.

A `JsonPath` names a field: ``status``, ``data.task.state``, ``output[0].url``, ``[0].id``. Names are letters, digits, ``_``
and ``-``. That is all: no wildcards, no filters, no negative positions. What is not there is absent, never an error.

Only what core reads is moved. The body in the record stays as it was received, and so does the status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from batchrun.core.settings.settings import UsageError
from batchrun.core.taxonomy.rules import WORDS, StateGroup, normalise

_WHOLE = re.compile(r"(?:[A-Za-z0-9_-]+|\[[0-9]{1,6}\])(?:\.[A-Za-z0-9_-]+|\[[0-9]{1,6}\])*", re.ASCII)
_STEP = re.compile(r"\[([0-9]+)\]|([A-Za-z0-9_-]+)", re.ASCII)
ABSENT: Final = object()


class JsonPath:
    """A field in JSON, parsed once and read often."""

    __slots__ = ("_steps", "text")

    def __init__(self, text: str, where: str) -> None:
        if _WHOLE.fullmatch(text) is None:
            raise UsageError(f"{where}: expected a path such as data.job.state or output[0].url, got {text[:100]!r}")
        self.text = text
        self._steps = tuple(int(found[1]) if found[1] else found[2] for found in _STEP.finditer(text))

    def find(self, body: Any) -> Any:
        """The value in `body`, or ABSENT."""
        for step in self._steps:
            if isinstance(step, int):
                if not isinstance(body, list) or step >= len(body):
                    return ABSENT
                body = body[step]
            else:
                if not isinstance(body, dict) or step not in body:
                    return ABSENT
                body = body[step]
        return body

    def __repr__(self) -> str:
        return f"JsonPath({self.text!r})"


# The status word that stands for each group that a profile may name.
WORD_OF_GROUP: dict[str, str] = {
    StateGroup.IN_PROGRESS.value: "in_progress",
    StateGroup.CANCELLING.value: "cancelling",
    StateGroup.SUCCESS.value: "completed",
    StateGroup.PARTIAL.value: "incomplete",
    StateGroup.FAILURE.value: "failed",
    StateGroup.INPUT.value: "rejected",
    StateGroup.BILLING.value: "blocked_budget",
    StateGroup.CANCELLED.value: "cancelled",
    StateGroup.EXPIRED.value: "expired",
    StateGroup.RETRYABLE.value: "service_unavailable",
    StateGroup.PERSON.value: "requires_action",
}
_RESULTS = ("output", "output_text", "choices", "data", "incomplete_details")


@dataclass(frozen=True, slots=True)
class FieldMap:
    """Where a response has its fields; and for each status `word` of the service, normalised, the known word that it means."""

    id: JsonPath
    status: JsonPath
    error: JsonPath
    usage: JsonPath
    model: JsonPath
    result: JsonPath | None = None
    error_code: JsonPath | None = None
    words: Mapping[str, str] | None = None

    def __call__(self, body: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
        """`body` with the field names of the responses endpoint, and the service's own status word."""
        found: dict[str, Any] = {}
        for name, path in (("id", self.id), ("status", self.status), ("usage", self.usage), ("model", self.model)):
            if (value := path.find(body)) is not ABSENT:
                found[name] = value
        error = self.error.find(body)
        if error is not ABSENT and error:
            found["error"] = self._error(error, body)
        word = found.get("status")
        if isinstance(word, str) and self.words:
            found["status"] = self.words.get(normalise(word) or "", word)
        if self.result is None:
            found.update((name, body[name]) for name in _RESULTS if name in body)
        elif (result := self.result.find(body)) is not ABSENT:
            found["output" if _is_output(result) else "data"] = result
        return found, word if isinstance(word, str) else None

    def _error(self, error: Any, body: Mapping[str, Any]) -> Any:
        code = ABSENT if self.error_code is None else self.error_code.find(body)
        if code is ABSENT:
            return error
        return {**error, "code": code} if isinstance(error, dict) else {"message": str(error), "code": code}


def _is_output(result: Any) -> bool:
    """Whether a result has the form of the responses endpoint; a list of anything else is plain data."""
    return not isinstance(result, list) or any(isinstance(item, dict) and "type" in item for item in result)


def meaning_of(text: str) -> str | None:
    """The known word for the name of a group, or for a known word; None for anything else."""
    name = text.strip().lower()
    if name in WORD_OF_GROUP:
        return WORD_OF_GROUP[name]
    word = normalise(text)
    return word if word in WORDS and WORDS[word] is not StateGroup.UNKNOWN else None
