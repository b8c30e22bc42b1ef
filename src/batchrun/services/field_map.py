"""How the answers of a service with words of its own are read: moved to the places that core looks at.

Only what is looked at is moved. The body in the record stays as it was received, and so does the status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batchrun.core.taxonomy.states import WORDS, StateGroup, normalise
from batchrun.services.json_path import ABSENT, JsonPath

# The known word that stands for a group; for the groups that a profile may name.
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
    """Places of an answer, and `words` of the service, normalised, by the known word that each means."""

    id: JsonPath
    status: JsonPath
    error: JsonPath
    usage: JsonPath
    model: JsonPath
    result: JsonPath | None = None
    error_code: JsonPath | None = None
    words: Mapping[str, str] | None = None

    def __call__(self, body: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
        """`body` as the responses endpoint would say it, and the service's own status word."""
        found: dict[str, Any] = {}
        for name, place in (("id", self.id), ("status", self.status), ("usage", self.usage), ("model", self.model)):
            if (value := place.find(body)) is not ABSENT:
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
