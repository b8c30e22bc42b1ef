"""A batch that runs: its records as they are finished, rows that are submitted meanwhile, cancels, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.lowlevel

from batchrun.api.reading import RecordStream
from batchrun.api.rows import Row, line_of
from batchrun.api.run_task import RunTask, Wanted
from batchrun.api.submitting import Submitting
from batchrun.core.status.snapshot import Snapshot
from batchrun.core.text.readable import many, visible
from batchrun.edge.source import Growing
from batchrun.results.record import Record
from batchrun.results.run_errors import InputError, Interrupted
from batchrun.runner.session import Opening


class Batch:
    """A batch that runs, from `batchrun.open`::

        async with batchrun.open("in.jsonl", out="out.jsonl") as batch:
            async for record in batch:
                ...

    Leaving the block waits until every row is done; an exception in it stops the batch cleanly first.
    """

    __module__ = "batchrun"

    def __init__(self, wanted: Wanted) -> None:
        self._run = RunTask(wanted, self._opened)
        self._submitting: Submitting | None = None
        self._ending = False

    async def __aenter__(self) -> Self:
        await self._run.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = isinstance(error, asyncio.CancelledError | KeyboardInterrupt)
        if error is None:
            self.close()
        else:
            self._run.stop()
        try:
            await self._run.close(interrupted=interrupted)
        except Interrupted as ended:
            raise ended from error
        except Exception:
            if error is None:
                raise
        finally:
            if self._submitting is not None:
                self._submitting.close()
        if interrupted:
            raise self._run.interrupted() from error

    # --- records and counts ---

    def __aiter__(self) -> AsyncIterator[Record]:
        """Every record of the batch, those of earlier runs first, each once it is safe on the disk.

        For a batch that was opened with rows it ends when all of them have their records; for one without, after `close()`.
        """
        self._open()
        assert self._run.place is not None
        return RecordStream(Path(self._run.place.output), self._safe_beyond, self._run.raise_if_cut_short)

    @property
    def stats(self) -> Snapshot:
        """The counts of the batch now."""
        return self._open().snapshot()

    @property
    def path(self) -> Path | None:
        """The output; None where nothing is kept."""
        return None if self._run.place is None else self._run.place.path

    # --- rows, cancels, the end ---

    async def submit(self, row: Row) -> str:
        """Add a row to the batch, a prompt or a mapping; returns its key once the row is safe on the disk.

        The same row again (same custom_id, same content) is not added twice, so that a program that was restarted may
        submit all its rows again; without a custom_id every row is a new one. Raises InputError for a row that cannot
        be sent, Halted when nothing is sent any more.
        """
        if self._open().snapshot().halted is not None:
            raise self._run.halted()
        if self._submitting is None or self._ending or self._run.over:
            raise InputError("this batch has ended and takes no more rows; open it again to give it more")
        return await self._submitting.submit(line_of(row))

    def close(self) -> None:
        """No more rows will be submitted: the batch ends once all it has are done."""
        self._ending = True
        self._end_if_all_are_taken()

    def end(self) -> None:
        """The earlier name of `close`."""
        self.close()

    async def cancel(self, *keys: str, all: bool = False) -> None:  # noqa: A002 - what it says
        """Cancel these rows, or `all`: their jobs are cancelled on the service, and their records say `cancelled`.

        Rows that are done stay as they are. It may take a while (`cancel_settle`) until the records are written.
        """
        opening = self._open()
        if all == bool(keys):
            raise InputError("cancel: expected keys of rows, or all=True; say which")
        if self._run.over:
            return
        source = opening.source
        for key in keys:
            if source is None or (source.ordinal_of(key) is None and key not in opening.batch.vanished):
                raise InputError(f"cancel: this batch has no row {visible(str(key), 60)!r}; see .key of a record")
        opening.cancel(None if all else frozenset(keys))
        await anyio.lowlevel.checkpoint()

    async def stop(self) -> None:
        """Stop cleanly: nothing more is submitted, and the jobs in flight keep running on the service.

        Opened again, the batch resumes from here.
        """
        self._open()
        self._run.stop()
        if (interrupted := await self._run.wait()) is not None:
            raise interrupted

    def __repr__(self) -> str:
        if self._run.opening is None:
            return "<Batch: not open>"
        stats = self.stats
        how = "over" if self._run.over else f"{stats.in_flight:,} in flight"
        return f"<Batch {visible(str(self.path), 200)}: {stats.done:,} of {many(self._run.total, 'row')} done, {how}>"

    # --- within ---

    def _open(self) -> Opening:
        if self._run.opening is None:
            raise InputError("the batch is not open; use it within: async with batchrun.open(…) as batch")
        return self._run.opening

    def _opened(self, opening: Opening) -> None:
        if isinstance(opening.source, Growing):
            self._submitting = Submitting(opening.batch.names.submitted, opening.source, self._on_taken)

    def _on_taken(self) -> None:
        """There are rows that were not there."""
        self._run.grew()
        if not self._run.over:
            self._open().read_on()
        self._end_if_all_are_taken()
        self._run.tell_news()

    def _end_if_all_are_taken(self) -> None:
        source = None if self._run.opening is None else self._run.opening.source
        if self._ending and not self._taking and isinstance(source, Growing) and not source.ended:
            source.ended = True
            if not self._run.over:
                self._open().read_on()

    @property
    def _taking(self) -> bool:
        return self._submitting is not None and self._submitting.pending > 0

    async def _safe_beyond(self, safe: int, seen: int) -> int | None:
        """Bytes of the output that are safe, once they are more than `safe`; None when the run is over."""
        run = self._run
        while True:
            if (more := run.safe()) > safe and not run.over:
                return more
            if run.over:
                return None
            if run.wanted.rows is not None and seen >= run.total and not self._taking:
                self.close()
            await run.news.wait()
