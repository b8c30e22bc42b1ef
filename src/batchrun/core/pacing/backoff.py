"""The schedule that learns nothing: `--pacing backoff`, and polls after a cancel."""

from __future__ import annotations

from dataclasses import dataclass, field

from batchrun.core.settings.settings import LONGEST_GAP


@dataclass(frozen=True, slots=True)
class Backoff:
    """The next poll of a job is ``min(longest, first × growth^polls) × uniform(0.5, 1.5)`` seconds away, never above LONGEST_GAP.

    Each job has its own jitter: jobs that were accepted in the same instant are spread over a whole first gap, so they
    never come back in step.
    """

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
        """Seconds from now to the next poll of a job that was polled `polls` times; `chance` is in [0, 1)."""
        gaps = self._gaps
        base = gaps[polls] if polls < len(gaps) else gaps[-1]
        return min(base * (0.5 + chance), LONGEST_GAP)
