"""Interrupted at any moment: nothing orphaned, nothing unclosed, nothing paid twice, and the same call goes on."""

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

import batchrun
from tests.api.stage import on, play, rows

ROOT = Path(__file__).parents[2]
ROWS = 12
PYTHON = sys.version_info[:2]


async def interrupted(simulator, call, requests, delay, twice_after):
    """`call()` as a task, cancelled `delay` seconds after so many requests and perhaps once more; what it ended with."""

    def sent():
        return simulator.statistics.posts + simulator.statistics.polls

    before = sent()
    task = asyncio.ensure_future(call())
    while sent() < before + requests and not task.done():
        await asyncio.sleep(0.001)
    await asyncio.sleep(delay)
    task.cancel()
    if twice_after is not None:
        await asyncio.sleep(twice_after)
        task.cancel()
    try:
        return await task
    except batchrun.Interrupted as error:
        return error
    except asyncio.CancelledError:
        return None


async def posted(simulator, count=1):
    """Wait until so many submits have come."""
    while simulator.statistics.posts < count:
        await asyncio.sleep(0.005)


@pytest.mark.timeout(300)
def test_interrupted_at_random_moments(long):
    trials, met = 100 if long else 15, {"whole": 0, "interrupted": 0, "at once": 0}
    dice = random.Random(20261120)

    async def scene(simulator):
        never_sent = 0
        for trial in range(trials):
            arguments = on(simulator, out=f"{trial}.jsonl", retries=0)
            given = [{**row, "body": {**row["body"], "metadata": {"custom_id": f"{trial}-{row['custom_id']}"}}} for row in rows(ROWS, "[[sleep 60ms]] x")]  # fmt: skip

            async def whole(given=given, arguments=arguments):
                return await batchrun.run(given, **arguments)

            async def streamed(given=given, arguments=arguments):
                async with batchrun.open(given, **arguments) as batch:
                    return [record async for record in batch]

            for _ in range(dice.randint(1, 2)):
                twice = dice.uniform(0, 0.03) if dice.random() < 0.3 else None
                found = await interrupted(
                    simulator, dice.choice([whole, streamed]), dice.randrange(2 * ROWS), dice.uniform(0, 0.01), twice
                )
                if isinstance(found, batchrun.Interrupted):
                    met["interrupted"] += 1
                    met["at once"] += twice is not None
                    assert {record.state for record in found.records} <= {"succeeded", "unconfirmed"}
                elif found is not None:
                    met["whole"] += 1
                left = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
                assert not left, f"trial {trial}: tasks that nobody ended: {left}"
            records = await whole()
            assert len(records) == ROWS
            lost = [record for record in records if not record.ok]
            assert {record.state for record in lost} <= {batchrun.State.UNCONFIRMED}, lost
            never_sent += sum(not simulator.statistics.posts_of(f"{trial}-{record.key}") for record in lost)
        paid = simulator.statistics.posts_per_row()
        assert set(paid.values()) == {1}, {row: posts for row, posts in paid.items() if posts != 1}
        assert len(paid) + never_sent == trials * ROWS

    with warnings.catch_warnings():
        warnings.simplefilter(
            "error", ResourceWarning
        )  # what is not closed is an unraisable error, which pytest raises
        play(scene, "[times]\nduration = '60ms'\npost = '5ms..40ms'\n")
        gc.collect()
    print(met)
    assert met["interrupted"] > trials / 2


@pytest.mark.parametrize(("post", "going_on"), [("300ms", 1), ("2h", 0)])
def test_the_first_interrupt_waits_for_the_posts_in_flight_and_the_second_does_not(post, going_on):
    """A POST that is answered in hours would be waited for: the second interrupt ends it, or nothing would."""

    async def scene(simulator):
        task = asyncio.ensure_future(
            batchrun.run(rows(4, "[[sleep 2h]] x"), out="x.jsonl", **on(simulator, submits=1, drain=7_200))
        )
        await posted(simulator)
        task.cancel()
        if not going_on:
            assert await asyncio.wait({task}, timeout=0.1) == (set(), {task})
            task.cancel()
        with pytest.raises(batchrun.Interrupted) as caught:
            await task
        assert caught.value.running_jobs == going_on
        assert "the same call resumes and pays nothing twice" in str(caught.value)

    play(scene, f"[times]\npost = '{post}'\n")


def test_asyncio_sees_a_cancellation():
    """`except Exception` must not swallow it, and a task that ends with it is cancelled, whatever the Python."""
    assert not issubclass(batchrun.Interrupted, Exception)

    async def scene(simulator):
        task = asyncio.create_task(batchrun.run(["[[sleep 2h]] a"], out="a.jsonl", **on(simulator)))
        await posted(simulator)
        task.cancel()
        with pytest.raises(batchrun.Interrupted):
            await task
        assert task.cancelled()
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(batchrun.run(["[[sleep 2h]] b"], out="b.jsonl", **on(simulator)))
                group.create_task(batchrun.run([{"foo": 1}], out="c.jsonl", **on(simulator)))
        assert len(caught.value.exceptions) == 1

    play(scene)


def test_what_asyncio_makes_of_it_is_what_the_help_says_of_each_python():
    """Each limit ends a run that has sent its row: where a machine was too slow for that a longer one is tried."""

    async def by_wait_for(call, limit):
        await asyncio.wait_for(call, limit)

    async def by_timeout(call, limit):
        async with asyncio.timeout(limit):
            await call

    async def scene(simulator):
        for number, (by, ends) in enumerate(
            [
                (by_wait_for, batchrun.Interrupted if PYTHON == (3, 12) else TimeoutError),
                (by_timeout, batchrun.Interrupted if PYTHON < (3, 13) else TimeoutError),
            ]
        ):
            for limit in (0.2, 2.0, 20.0):
                call = batchrun.run(["[[sleep 2h]] a"], out=f"{number} {limit}.jsonl", **on(simulator))
                with pytest.raises((batchrun.Interrupted, TimeoutError)) as caught:
                    await by(call, limit)
                if simulator.statistics.posts > number:
                    break
            assert (caught.type, simulator.statistics.posts) == (ends, number + 1)

    play(scene)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_cancelled_scope_of_anyio_interrupts_once(streamed):
    """It cancels whatever awaits in it again and again; that is no second Ctrl-C, and POSTs in flight are waited for."""

    async def scene(simulator):
        async def call():
            given, arguments = rows(4, "[[sleep 2h]] x"), on(simulator, submits=1, drain=7_200)
            if not streamed:
                await batchrun.run(given, out="x.jsonl", **arguments)
            async with batchrun.open(given, out="x.jsonl", **arguments) as batch:
                async for _ in batch:
                    pass

        async def cancel_once_posted(scope):
            await posted(simulator)
            scope.cancel()

        with suppress(batchrun.Interrupted), anyio.CancelScope() as scope:
            canceller = asyncio.create_task(cancel_once_posted(scope))
            with pytest.raises(batchrun.Interrupted) as caught:
                await call()
            raise caught.value
        await canceller
        assert caught.value.running_jobs == 1

    play(scene, "[times]\npost = '300ms'\n")


def test_a_generator_around_a_batch_may_be_left_early():
    """Python closes it in a task of its own, where a group that was entered here could not be left."""

    async def scene(simulator):
        async def records():
            async with batchrun.open(rows(3, "[[sleep 10ms]] x"), out="x.jsonl", **on(simulator)) as batch:
                async for record in batch:
                    yield record

        with anyio.move_on_after(60):
            async for record in records():
                assert record.ok
                break
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)
        assert len(await batchrun.run(rows(3, "[[sleep 10ms]] x"), out="x.jsonl", **on(simulator))) == 3

    play(scene)


def test_before_the_first_request_it_ends_without_one():
    async def scene(simulator):
        task = asyncio.ensure_future(batchrun.run(rows(5), out="a.jsonl", **on(simulator)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert simulator.statistics.posts == 0

    play(scene)


def test_while_the_rows_are_gathered():
    async def scene(simulator):
        asked = asyncio.Event()

        async def never():
            yield "a"
            asked.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(batchrun.run(never(), **on(simulator)))
        await asked.wait()
        task.cancel()
        with pytest.raises(batchrun.Interrupted, match="nothing was sent"):
            await task

    play(scene)


SCRIPT = """
    import sys
    import batchrun
    try:
        batchrun.run_sync(["[[sleep 2h]] a"] * 5, out="x.jsonl", demo=True, model="gpt-5", poll_min=0.05, progress=True)
    except batchrun.Interrupted as error:
        print("interrupted", error.remaining, error.running_jobs, flush=True)
        sys.exit(7)
"""


@pytest.mark.timeout(300)
def test_ctrl_c_in_a_script(somewhere):
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(SCRIPT)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        journal = somewhere / "x.jsonl.journal"
        while not (journal.exists() and journal.read_text().count('"submitted"') == 5) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate()
    assert (out, process.returncode) == ("interrupted 5 5\n", 7), said
    assert "Traceback" not in said
