"""When to look again: one question with exchangeable answers.

The answer now: exponential with jitter, for each job on its own. Jobs that were accepted in the same
instant are spread over a whole first gap, so they never come back in step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from batchrun.core.settings.settings import LONGEST_GAP


class Pacing(Protocol):
    """The part that decides when a job is looked at again."""

    def gap(self, polls: int, chance: float) -> float:
        """Seconds from now to the next look at a job that was looked at `polls` times.

        `chance` is a random number in [0, 1).
        """
        ...


@dataclass(frozen=True, slots=True)
class Exponential:
    """``min(longest, first × growth^polls) × uniform(0.5, 1.5)`` seconds, never above LONGEST_GAP."""

    first: float = 1.0
    longest: float = 30.0
    growth: float = 1.5
    _gaps: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        gaps = [min(self.first, self.longest)]
        while gaps[-1] < self.longest and self.growth > 1:
            gaps.append(min(self.longest, gaps[-1] * self.growth))
        object.__setattr__(self, "_gaps", tuple(gaps))

    def gap(self, polls: int, chance: float) -> float:
        gaps = self._gaps
        base = gaps[polls] if polls < len(gaps) else gaps[-1]
        return min(base * (0.5 + chance), LONGEST_GAP)
