"""Token counts, normalised across endpoints; unknown is null and never a guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True, slots=True)
class Usage:
    """The `usage` of a record."""

    input_tokens: Annotated[int | None, "tokens of the input"] = None
    output_tokens: Annotated[int | None, "tokens of the output, `reasoning_tokens` included"] = None
    total_tokens: Annotated[int | None, "tokens in all"] = None
    cached_tokens: Annotated[int | None, "tokens of the input that the service had cached"] = None
    reasoning_tokens: Annotated[int | None, "tokens of the output that were spent on reasoning"] = None

    @property
    def paid(self) -> bool | None:
        """Whether tokens were counted at all; None where nothing was said."""
        counts = [n for n in (self.input_tokens, self.output_tokens, self.total_tokens) if n is not None]
        return any(counts) if counts else None


NO_USAGE = Usage()


def read_usage(value: Any) -> Usage:
    """The counts of a ``usage`` object in the words of the responses, chat or embeddings endpoints."""
    if not isinstance(value, Mapping):
        return NO_USAGE
    details_in = value.get("input_tokens_details") or value.get("prompt_tokens_details")
    details_out = value.get("output_tokens_details") or value.get("completion_tokens_details")
    return Usage(
        input_tokens=_count(value, "input_tokens", "prompt_tokens"),
        output_tokens=_count(value, "output_tokens", "completion_tokens"),
        total_tokens=_count(value, "total_tokens"),
        cached_tokens=_count(details_in, "cached_tokens"),
        reasoning_tokens=_count(details_out, "reasoning_tokens"),
    )


def _count(value: Any, *names: str) -> int | None:
    if isinstance(value, Mapping):
        for name in names:
            number = value.get(name)
            if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**63:
                return number
    return None
