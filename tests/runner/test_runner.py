"""A run's tasks: what goes wrong in one of them ends the run and leaves it as it was raised, and none outlives it."""

import asyncio

import anyio
import anyio.lowlevel
import pytest

from batchrun.runner.loop.exchanges import task_group
from batchrun.runner.loop.runner import Runner
from tests.runner.night import Night, Observer, row


class Broken(Exception):
    """What should never happen."""


@pytest.fixture
def night(tmp_path):
    night = Night(tmp_path)
    night.rows(*(row(name) for name in "abcd"))
    return night


def run(night, alongside=None, observer=None):
    """What a run ends with, or raises; no task is left, and the files were closed."""
    night.open()

    async def main():
        runner = Runner(
            night.batch, night.source, night.service(), night.wire, night.settings(), observer or Observer()
        )
        try:
            return await runner.run(alongside)
        finally:
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert night.journal.read_bytes().splitlines()[-2].find(b'"stopped"') > 0

    try:
        return asyncio.run(main())
    finally:
        night.close()


def test_an_error_in_an_exchange_leaves_the_run_as_it_is(night):
    def broken(_):
        raise Broken

    night.wire.before = broken
    with pytest.raises(Broken):
        run(night)
    night.wire.before = None
    night.complete()
    assert len(night.wire.posts) == 3, "one row may have been sent, and is unconfirmed"


def test_an_error_in_the_heartbeat_leaves_the_run_as_it_is(night):
    class Failing(Observer):
        def progressed(self, snapshot):
            if snapshot.in_flight:
                raise Broken

    night.wire.status = "in_progress"
    with pytest.raises(Broken):
        run(night, observer=Failing())


def test_what_runs_alongside_is_cancelled_at_the_end_and_may_fail(night):
    ends = []

    async def alongside():
        try:
            await anyio.sleep_forever()
        finally:
            ends.append("cancelled")

    run(night, alongside)
    assert ends == ["cancelled"]

    async def failing():
        raise Broken

    (night.folder / "out.jsonl").unlink()
    (night.folder / "out.jsonl.journal").unlink()
    night.batch = None
    with pytest.raises(Broken):
        run(night, failing)


def test_a_cancellation_that_nobody_asked_for_is_an_error_and_no_end(night):
    def cancelled(_):
        raise asyncio.CancelledError

    night.wire.before = cancelled
    with pytest.raises(RuntimeError, match="cancelled from outside the run"):
        run(night)


def test_a_group_raises_what_was_raised_first_alone():
    async def fail(error, ready):
        await ready.wait()
        raise error

    async def main(body):
        ready = asyncio.Event()
        async with task_group() as group:
            group.start_soon(fail, Broken("task"), ready)
            group.start_soon(fail, ValueError("another"), ready)
            await anyio.lowlevel.checkpoint()
            if body is None:
                ready.set()
                await anyio.sleep_forever()
            raise body

    with pytest.raises(Broken, match="task") as caught:
        asyncio.run(main(None))
    assert not isinstance(caught.value.__context__, BaseExceptionGroup)
    with pytest.raises(KeyError):
        asyncio.run(main(KeyError("body")))
