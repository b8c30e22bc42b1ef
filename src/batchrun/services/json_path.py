"""Where something stands in a JSON answer: names joined by dots, positions in brackets.

``status``, ``data.task.state``, ``output[0].url``, ``[0].id``. A name is letters, digits, ``_`` and ``-``.
That is all: no wildcards, no filters, no negative positions. What is not there is absent, never an error.
"""

from __future__ import annotations

import re
from typing import Any, Final

from batchrun.core.settings.usage_error import UsageError

_WHOLE = re.compile(r"(?:[A-Za-z0-9_-]+|\[[0-9]{1,6}\])(?:\.[A-Za-z0-9_-]+|\[[0-9]{1,6}\])*", re.ASCII)
_STEP = re.compile(r"\[([0-9]+)\]|([A-Za-z0-9_-]+)", re.ASCII)
ABSENT: Final = object()


class JsonPath:
    """A place in JSON, read once and looked up often."""

    __slots__ = ("_steps", "text")

    def __init__(self, text: str, where: str) -> None:
        if _WHOLE.fullmatch(text) is None:
            raise UsageError(f"{where}: expected a place such as data.job.state or output[0].url, got {text[:100]!r}")
        self.text = text
        self._steps = tuple(int(found[1]) if found[1] else found[2] for found in _STEP.finditer(text))

    def find(self, body: Any) -> Any:
        """What stands there in `body`, or ABSENT."""
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
        return f"Place({self.text!r})"
