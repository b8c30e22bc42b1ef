"""What people call: `run`, `run_sync`, `open`. (`read` is in `reading`.)"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Iterable
from typing import Any, Unpack

from batchrun.api.api_key import key_of, without_other_keys
from batchrun.api.batch import Batch
from batchrun.api.limits import Limits
from batchrun.api.observers import Observer, observers_of
from batchrun.api.rows import Rows
from batchrun.api.run_task import RunTask, Wanted
from batchrun.api.setting_types import ApiKey, Paths, SettingArguments
from batchrun.api.wording import in_python, refusals_in_python
from batchrun.core.rows.body_fields import SETTABLE
from batchrun.core.settings.parsing import from_arguments
from batchrun.core.settings.settings import Secret
from batchrun.edge.credentials import KeyFunction
from batchrun.results import run_errors as endings
from batchrun.results.record import BatchrunError
from batchrun.results.records import Records

_OWN = ("out", "fresh", "observers", "limits", "progress", "demo", "api_key")


async def run(
    rows: Rows,
    *,
    out: Paths | bool | None = None,
    fresh: bool = False,
    observers: Observer | Iterable[Observer] = (),
    limits: Limits | None = None,
    progress: bool = True,
    demo: bool = False,
    api_key: ApiKey = None,
    **settings: Unpack[SettingArguments],
) -> Records:
    """Run every row as a background job and return one record per row, in the order of the rows.

    records = await batchrun.run(["Name a colour", "Name a fish"], model="gpt-5")

    rows      a path, a list or any (async) iterable of prompts and mappings, a DataFrame. A mapping is what would
              be on a line of a file: {"prompt": …}, {"model", "input", …} or {"custom_id", "url", "body"}
    out       where the records are kept. Without it the batch is kept in ./.batchrun/, named after its rows and the
              settings that enter them. The same call finds it there and resumes it, or returns the finished records
              at once. False keeps nothing: if the process ends, what was in flight is billed and lost
    fresh     move what an earlier call left aside and start again; pays again
    observers called during the run, see `batchrun.Observer`
    limits    a `batchrun.Limits` that several batches share
    progress  a bar, and a line on where the batch is kept; False is silent
    demo      run on the simulated service inside: no key, no cost
    api_key   the API key, or a function (async too) that returns one and is called again when the service refuses it,
              as azure.identity's get_bearer_token_provider gives. Left out, it is read from the environment, as with
              the command. It is kept in memory only, and shown nowhere
    settings  every option of the command by its name: model="gpt-5", concurrency=500, rpm=600, deadline="2h",
              retries=0, set={"temperature": 0}, retry_failed=["timeout"]; `batchrun --help` lists them all

    A row that fails raises nothing: see `records.failed`, or call `record.raise_for_state()`. Raises `Interrupted`
    when it is interrupted (Ctrl-C, a stopped cell, a cancelled task) and `Halted` when the service accepts no more
    (quota, API key, outage): both have `.records` so far, and the same call resumes from there. Raises
    `errors.InputError`, `errors.SettingsError` and `errors.FilesError` before anything is sent.
    """
    key, api_key = key_of(api_key), None  # from here on no frame of ours holds it as text
    given, variables = _given(settings, fresh=fresh, api_key=key)
    running = RunTask(
        Wanted(
            rows=_some(rows),
            out=out,
            given=given,
            variables=variables,
            observers=observers_of(observers),
            limits=_shared(limits),
            progress=progress,
            demo=demo,
            api_key=key,
            grows=False,
        ),
        lambda _: None,
    )
    await running.start()
    return await running.close()


def open(  # noqa: A001 - batchrun.open, as gzip.open
    rows: Rows | None = None,
    *,
    out: Paths | bool | None = None,
    fresh: bool = False,
    observers: Observer | Iterable[Observer] = (),
    limits: Limits | None = None,
    progress: bool = True,
    demo: bool = False,
    api_key: ApiKey = None,
    **settings: Unpack[SettingArguments],
) -> Batch:
    """Open a batch, to get its records as they are finished and to submit and cancel rows while it runs.

    async with batchrun.open("in.jsonl", out="out.jsonl") as batch:
        async for record in batch:
            ...

    Arguments are those of `batchrun.run`; without `rows` it waits for `batch.submit(row)` until `batch.close()`, and
    needs `out`. Rows that were submitted are part of the batch: opened again, it still has them.
    """
    key, api_key = key_of(api_key), None  # from here on no frame of ours holds it as text
    given, variables = _given(settings, fresh=fresh, api_key=key)
    return Batch(
        Wanted(
            rows=rows,
            out=out,
            given=given,
            variables=variables,
            observers=observers_of(observers),
            limits=_shared(limits),
            progress=progress,
            demo=demo,
            api_key=key,
            grows=True,
        )
    )


def run_sync(
    rows: Rows,
    *,
    out: Paths | bool | None = None,
    fresh: bool = False,
    observers: Observer | Iterable[Observer] = (),
    limits: Limits | None = None,
    progress: bool = True,
    demo: bool = False,
    api_key: ApiKey = None,
    **settings: Unpack[SettingArguments],
) -> Records:
    """As `batchrun.run`, for scripts: waits, and works where an event loop runs already.

    The run has a loop in a thread of its own. Ctrl-C stops it cleanly and raises `Interrupted`; a second one
    quits at once. Observers are called in that thread.
    """

    key: Any = key_of(api_key)
    api_key = None

    async def main() -> Records:
        return await run(
            rows, out=out, fresh=fresh, observers=observers, limits=limits, progress=progress, demo=demo,
            api_key=key, **settings,
        )  # fmt: skip

    return _Thread(main).result()


class _Thread:
    """A coroutine in a loop of its own, in a thread of its own, waited for here."""

    def __init__(self, main: Any) -> None:
        self._main = main
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Records] | None = None
        self._records: Records | None = None
        self._error: BaseException | None = None
        self._begun = threading.Event()
        self._ended = threading.Event()

    def result(self) -> Records:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self._carry_out,), name="batchrun", daemon=True)
        thread.start()
        pressed = False
        while True:
            try:
                self._ended.wait()
                thread.join()
                break
            except KeyboardInterrupt:
                pressed = True
                self._interrupt()
        if self._error is not None:
            error, self._error = self._error, None
            if isinstance(error, endings.Interrupted | BatchrunError):  # where in us says nothing to whoever waits
                error.with_traceback(None)
            raise error
        assert self._records is not None
        if pressed:  # when all was done: it must not be lost all the same
            raise endings.Interrupted(self._records, path=self._records.path)
        return self._records

    def _interrupt(self) -> None:
        self._begun.wait(1)
        loop, task = self._loop, self._task
        if loop is not None and task is not None and not self._ended.is_set():
            try:
                loop.call_soon_threadsafe(task.cancel)
            except RuntimeError:  # it has just ended
                return

    def _carry_out(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                self._records = runner.run(self._begin())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._error = error
        finally:
            self._ended.set()

    async def _begin(self) -> Records:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._begun.set()
        records: Records = await self._main()
        return records


def _loop_factory() -> Any:
    """uvloop's where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - an option
    except ImportError:
        return None
    return uvloop.new_event_loop


def _some(rows: Any) -> Any:
    if rows is None:
        raise endings.InputError("rows: expected rows or a path, got None; an empty list is a batch of no rows")
    return rows


for _call in (run, run_sync, open):
    _call.__module__ = "batchrun"  # where people find them


def _shared(limits: Any) -> Limits | None:
    if limits is None or isinstance(limits, Limits):
        return limits
    raise endings.SettingsError(
        f"limits: expected a batchrun.Limits, got {type(limits).__name__}; write Limits(rpm=600)"
    )


def _given(
    settings: SettingArguments, *, fresh: bool, api_key: Secret | KeyFunction | None
) -> tuple[dict[str, Any], frozenset[str]]:
    """The settings of a call and of the environment, and which came from there. Raises TypeError for an unknown name."""
    with refusals_in_python():
        found, variables = from_arguments(dict(settings), os.environ, _OWN, in_python, SETTABLE)
    if api_key is not None:
        found = without_other_keys(found, variables)
    return found | {"fresh": True} if fresh else found, variables
