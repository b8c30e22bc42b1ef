"""Where the files of one batch stand: all of them beside the output, under its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileNames:
    """The paths of one batch. `output` is None where the records go to stdout and only the rest is kept."""

    output: str | None
    journal: str
    lock: str
    requests: str
    spool: str
    unreadable: str
    submitted: str

    @classmethod
    def of(cls, output: str | os.PathLike[str] | None, journal: str | os.PathLike[str] | None = None) -> FileNames:
        """The names that go with `output`, or with `journal` where there is no output file. Made absolute here,
        so that a later chdir in the same process changes nothing."""
        out = None if output is None else _absolute(output)
        kept = None if journal is None else _absolute(journal)
        base = out or kept
        if base is None:
            raise ValueError("expected an output or a journal to name the files after, got neither; give journal=")
        return cls(
            output=out,
            journal=kept or f"{base}.journal",
            lock=f"{base}.lock",
            requests=f"{base}.requests",
            spool=f"{base}.input",
            unreadable=f"{base}.unreadable",
            submitted=f"{base}.submitted",
        )

    @property
    def locks(self) -> tuple[str, ...]:
        """What a run locks: two outputs must not share one journal either."""
        own = f"{self.journal}.lock"
        return (self.lock,) if self.output is None or self.journal == f"{self.output}.journal" else (self.lock, own)

    def all(self) -> Iterator[str]:
        """Every path above, the journal first: without it nothing else is mistaken for a batch to resume."""
        yield self.journal
        if self.output is not None:
            yield self.output
        yield from (self.requests, self.spool, self.unreadable, self.submitted, self.lock)


def torn_of(path: str) -> str:
    """Where the torn tail of `path` is kept."""
    return f"{path}.torn"


def new_of(path: str) -> str:
    """Where the next generation of `path` is written."""
    return f"{path}.new"


def _absolute(path: str | os.PathLike[str]) -> str:
    # Not abspath: it takes "link/.." for nothing, which leads elsewhere where link is a symbolic link.
    return os.path.join(os.getcwd(), os.fspath(path))  # noqa: PTH109, PTH118 - pathlib drops a trailing slash, which says folder
