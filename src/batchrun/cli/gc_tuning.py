"""The garbage collector, kept out of the way of a run: for the command alone, whose process is ours.

A collection of the oldest generation walks over every job in memory: 0.3 s at a hundred thousand jobs, seconds
at a million, while no response is read. Jobs hold no cycles: what ends is freed at once, without a collector. So
what exists is frozen, first when the files are read, then each time the jobs in memory have grown; the collector
then visits only what was created since. Young garbage is collected before it is frozen with the rest.

The library never does this: a notebook's objects are not ours to freeze.
"""

from __future__ import annotations

import gc
from types import TracebackType
from typing import Self

THRESHOLDS = (10_000, 20, 50)
"""New objects before a young collection, young ones before a middle one, middle ones before a full one."""
GROWTH = 5_000
"""Jobs in memory beyond those frozen, and a tenth of these, before the next freezing."""
YOUNG = 1


class Collector:
    """Freezes what exists while it is entered; leaving it restores the collector."""

    def __enter__(self) -> Self:
        self._thresholds = gc.get_threshold()
        self._frozen = 0
        gc.set_threshold(*THRESHOLDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    def freeze(self, jobs: int = 0) -> None:
        """Freeze all that exists now, `jobs` of it jobs."""
        self._frozen = jobs
        gc.collect(YOUNG)
        gc.freeze()

    def freeze_if_grown(self, jobs: int) -> None:
        """Freeze again if the `jobs` in memory have grown; called a few times per second."""
        if jobs >= self._frozen * 1.1 + GROWTH:
            self.freeze(jobs)
        elif jobs < self._frozen:
            self._frozen = jobs
