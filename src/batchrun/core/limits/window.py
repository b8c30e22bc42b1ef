"""How many submits may be in flight at once: slow start, as in TCP."""

from __future__ import annotations


class Window:
    """How many submits may be in flight: slow start, then a careful climb.

    As in TCP: below the threshold each acceptance opens the window by one (doubling it every round trip),
    above it by 1 / size.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.threshold = float(limit)
        self.size = 1.0

    def open(self) -> None:
        """All of it at once: another window watches over the start."""
        self.size = float(self.limit)

    def accepted(self) -> None:
        step = 1.0 if self.size < self.threshold else 1.0 / self.size
        self.size = min(float(self.limit), self.size + step)

    def start_again(self, *, lower: bool = False) -> None:
        """Back to one. With `lower`, the climb is slow from half of what was open."""
        if lower:
            self.threshold = max(1.0, self.size / 2)
        self.size = 1.0
