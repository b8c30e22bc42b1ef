"""A tape whose lines are counted: what the engine asks for, and what it is told, is a number of lines.

The engine numbers the lines that it gives from 1, since it cannot know where they will stand; a tape tells
offsets, since marks stand between the lines. This is the one place where the two meet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from batchrun.edge.append_file.append_file import AppendFile
from batchrun.edge.append_file.opening import OpenFile
from batchrun.edge.append_file.refusals import AppendFailed


class Lines:
    """The lines that the engine of this process gives to one file, in order.

    `safe(count)` is called with the number of lines that are on the disk, whenever there are more of them;
    the other arguments are those of the `AppendFile`, which is there as `tape` to be driven and closed.
    A line that the engine does not know of (the journal's header, `started`) is appended to `tape` itself.
    """

    def __init__(
        self,
        file: OpenFile,
        *,
        safe: Callable[[int], object],
        failed: Callable[[AppendFailed], object],
        mark: Callable[[int], bytes] | None = None,
        wake: Callable[[], object] | None = None,
    ) -> None:
        self.tape = AppendFile(file, synced=self._synced, failed=failed, mark=mark, wake=wake)
        self.count = 0
        self._safe = safe
        self._offsets: deque[int] = deque()  # of the lines that are not safe yet

    def give(self, line: bytes, *, lazy: bool = False) -> None:
        """Append `line`; a lazy one is not synced for its own sake. Raises TapeFailed or TapeClosed: it is not taken."""
        tape = self.tape
        self._offsets.append(tape.append_lazily(line) if lazy else tape.append(line))

    def _synced(self, upto: int) -> None:
        offsets = self._offsets
        before = len(offsets)
        while offsets and offsets[0] < upto:
            offsets.popleft()
        if len(offsets) < before:
            self.count += before - len(offsets)
            self._safe(self.count)
