"""Results that are files: how an instruction becomes files in a folder, and what became of them an event."""

from __future__ import annotations

from collections.abc import Callable

from batchrun.core.jobs.messages import (
    ArtifactsDiscarded,
    ArtifactsFailed,
    ArtifactsStored,
    DiscardArtifacts,
    Event,
    StoreArtifacts,
)
from batchrun.core.records.artifact_names import left_behind
from batchrun.core.records.artifacts import Stored
from batchrun.core.text.units import many
from batchrun.core.text.wording import Action
from batchrun.edge.append_file import FileRefused
from batchrun.edge.append_file.writer_thread import Loop
from batchrun.edge.artifacts import ArtifactWriter, Folder
from batchrun.runner.opening.open import OpenBatch


class ArtifactFiles:
    """Carries out what the engine asks for in `folder`; its end comes back by `feed`."""

    def __init__(self, folder: Folder, feed: Callable[[Event], None], loop: Loop) -> None:
        self._storer = ArtifactWriter(folder, loop)
        self._feed = feed
        self.close = self._storer.close

    def store(self, order: StoreArtifacts) -> None:
        job, attempt, body, found = order

        def told(result: tuple[Stored | None, ...] | str) -> None:
            if isinstance(result, str):
                self._feed(ArtifactsFailed(job, attempt, result))
            else:
                self._feed(ArtifactsStored(job, attempt, result))

        self._storer.store(body, found, told)

    def discard(self, order: DiscardArtifacts) -> None:
        job, attempt, names = order

        def told(result: tuple[Stored | None, ...] | str) -> None:
            if isinstance(result, str):
                self._feed(ArtifactsFailed(job, attempt, result))
            else:
                self._feed(ArtifactsDiscarded(job, attempt, names))

        self._storer.discard(names, told)


def find_files(batch: OpenBatch, folder: Folder) -> None:
    """Note the files that an earlier run stored for rows whose record it did not get to write; remove half written ones.

    Raises FileRefused where the folder cannot be read or written.
    """
    try:
        batch.files, halves = left_behind(folder.names(), batch.header.run_id, batch.recovery.open_trails)
        folder.remove(halves)
    except OSError as error:
        told = f"expected to read and write it, but: {error}"
        raise FileRefused(folder.path, told, ("mend the cause, then ", Action.RUN_AGAIN)) from error
    if batch.files:
        count = sum(map(len, batch.files.values()))
        batch.notes.append(f"{many(count, 'file')} of {many(len(batch.files), 'open row')} found in {folder.path}")
