"""What is in the payload of a job that is called completed.

Services call a job completed whose output is empty, whose tool failed, or that was cut off; each of these
was seen in the wild. How the job ended is decided in ``outcome``, from these findings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batchrun.core.responses.error import ErrorParts, read_error
from batchrun.core.taxonomy.rules import normalise

_FAILED_WORDS = frozenset({"failed", "incomplete"})
_STOPPED_EARLY = frozenset({"length", "content_filter", "max_tokens"})


@dataclass(frozen=True, slots=True)
class PayloadFindings:
    """What a payload holds. `stopped_by` is the service's reason for an early end."""

    text: str | None = None
    has_output: bool = False
    refused: bool = False
    stopped_by: str | None = None
    failed_tools: tuple[str, ...] = ()
    tool_error: ErrorParts | None = None

    def warnings(self) -> tuple[str, ...]:
        """The warnings of a job that otherwise succeeded."""
        found = [f"tool_failed:{tool}" for tool in self.failed_tools]
        if not self.has_output and not self.failed_tools and not self.refused:
            found.append("empty_output")
        if self.refused:
            found.append("refusal")
        return tuple(dict.fromkeys(found))


def inspect(body: Mapping[str, Any]) -> PayloadFindings:
    """The findings of a response of the responses, chat, embeddings or images endpoint."""
    if isinstance(output := body.get("output"), list):
        return _responses(body, output)
    if isinstance(choices := body.get("choices"), list):
        return _chat(choices)
    if isinstance(data := body.get("data"), list):
        return PayloadFindings(has_output=any(data))
    return PayloadFindings(
        text=output if isinstance(output, str) else None,
        has_output=bool(output),
        stopped_by=_reason(body),
    )


def _responses(body: Mapping[str, Any], output: list[Any]) -> PayloadFindings:
    texts: list[str] = []
    failed: list[str] = []
    has_output = refused = False
    tool_error: ErrorParts | None = None
    for item in _mappings(output):
        kind = item.get("type")
        if kind == "message" or (kind is None and "content" in item):
            for part in _parts(item):
                if isinstance(text := part.get("text"), str) and text:
                    texts.append(text)
                refused |= bool(part.get("refusal"))
        elif kind != "reasoning":
            if item.get("result") or normalise(item.get("status")) not in _FAILED_WORDS:
                has_output = True
            else:
                failed.append(str(kind)[:100])
                tool_error = tool_error or read_error(item)
    # Some compatible services put the text next to an empty list.
    if not texts and isinstance(extra := body.get("output_text"), str) and extra:
        texts.append(extra)
    return PayloadFindings(
        text="".join(texts) or None,
        has_output=has_output or bool(texts),
        refused=refused and not texts,
        stopped_by=_reason(body) or _reached_cap(body),
        failed_tools=tuple(failed),
        tool_error=tool_error,
    )


def _chat(choices: list[Any]) -> PayloadFindings:
    text: str | None = None
    has_output = refused = False
    stopped_by: str | None = None
    for choice in _mappings(choices):
        message = choice.get("message")
        message = message if isinstance(message, Mapping) else {}
        content = message.get("content") or choice.get("text")
        if isinstance(content, str):
            text = content if text is None else text  # the first choice counts
        has_output |= bool(content or message.get("tool_calls") or message.get("audio"))
        refused |= bool(message.get("refusal"))
        finish = choice.get("finish_reason")
        if stopped_by is None and isinstance(finish, str) and finish in _STOPPED_EARLY:
            stopped_by = finish
    return PayloadFindings(text, has_output, refused and not has_output, stopped_by)


def _reason(body: Mapping[str, Any]) -> str | None:
    details = body.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, Mapping) else None
    return reason[:100] if isinstance(reason, str) and reason else None


def _reached_cap(body: Mapping[str, Any]) -> str | None:
    """As long as the cap allows: cut off, although called complete (llama.cpp has no other sign of it)."""
    cap, usage = body.get("max_output_tokens"), body.get("usage")
    used = usage.get("output_tokens") if isinstance(usage, Mapping) else None
    if isinstance(cap, int) and isinstance(used, int) and not isinstance(cap, bool) and used >= cap > 0:
        return "max_output_tokens"
    return None


def _parts(item: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    content = item.get("content")
    if isinstance(content, str):
        yield {"text": content}
    elif isinstance(content, list):
        yield from _mappings(content)


def _mappings(items: list[Any]) -> Iterator[Mapping[str, Any]]:
    return (item for item in items if isinstance(item, Mapping))
