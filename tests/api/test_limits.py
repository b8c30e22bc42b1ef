"""Several batches with limits that hold for all of them together, told by the books of the service."""

import asyncio
import threading

import pytest

import batchrun
from batchrun import errors
from tests.api.stage import on, play, rows


def test_a_shared_rate_holds_for_all_together():
    sent = {}

    class Notes(batchrun.Observer):
        def __init__(self, name):
            self.name = name

        def recorded(self, record):
            sent.setdefault(self.name, []).append(record.submitted_at)

    async def scene(simulator):
        limits = batchrun.Limits(rpm=1_800)  # 30 a second
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await asyncio.gather(
            *(
                batchrun.run(
                    rows(20, f"part {n}"), out=f"{n}.jsonl", limits=limits, observers=Notes(n), **on(simulator)
                )
                for n in range(3)
            )
        )
        took = loop.time() - begun
        # Each for itself would be done in 0.7 s. 60 at 30 a second and one at once; the second's worth that the books count holds one more at most
        assert took >= 59 / 30
        assert simulator.books.peak_submits_per_second <= 32
        assert simulator.books.refusals == {}
        return took

    play(scene, "[times]\nduration = '30ms'\n")
    # None waited for the others' end: each had its first row well before any had its last.
    firsts, lasts = [min(times) for times in sent.values()], [max(times) for times in sent.values()]
    assert max(firsts) < min(lasts)


def test_places_are_shared_first_come_first_served():
    order = []

    class Notes(batchrun.Observer):
        def __init__(self, name):
            self.name = name

        def recorded(self, record):
            order.append(self.name)

    async def scene(simulator):
        limits = batchrun.Limits(concurrency=4)
        first = asyncio.ensure_future(
            batchrun.run(
                rows(24, "[[sleep 40ms]] a"), out="a.jsonl", limits=limits, observers=Notes("a"), **on(simulator)
            )
        )
        while simulator.books.jobs < 4:
            await asyncio.sleep(0.005)
        second = batchrun.run(
            rows(6, "[[sleep 40ms]] b"), out="b.jsonl", limits=limits, observers=Notes("b"), **on(simulator)
        )
        await asyncio.gather(first, second)
        assert simulator.books.peak_open_jobs <= 4
        assert "0 jobs in flight" in repr(limits)

    play(scene)
    assert order.index("b") < 20, f"the second batch waited for the end of the first: {order}"
    assert order[-1] == "a"


def test_a_batch_that_stops_gives_its_places_back():
    async def scene(simulator):
        limits = batchrun.Limits(concurrency=2)
        holds = asyncio.ensure_future(
            batchrun.run(rows(9, "[[sleep 30]] a"), out="a.jsonl", limits=limits, **on(simulator))
        )
        while simulator.books.jobs < 2:
            await asyncio.sleep(0.005)
        waits = asyncio.ensure_future(batchrun.run(["b"], out="b.jsonl", limits=limits, **on(simulator)))
        await asyncio.sleep(0.1)
        assert simulator.books.jobs == 2
        holds.cancel()
        with pytest.raises(batchrun.Interrupted):
            await holds
        assert (await waits)[0].ok

    play(scene)


def test_limits_are_of_one_loop_at_a_time():
    limits = batchrun.Limits(rpm=6_000)

    async def scene(simulator):
        async with batchrun.open(["[[sleep 500ms]] a"], out=False, limits=limits, **on(simulator)):
            caught = []

            def elsewhere():
                try:
                    batchrun.run_sync(["b"], out="b.jsonl", limits=limits, **on(simulator))
                except errors.SettingsError as error:
                    caught.append(str(error))

            thread = threading.Thread(target=elsewhere)
            thread.start()
            while thread.is_alive():
                await asyncio.sleep(0.01)
            assert "another event loop" in caught[0]

    play(scene)
    play(scene)  # a later loop may use them


def test_what_is_no_limits():
    with pytest.raises(errors.SettingsError, match=r"expected a batchrun\.Limits, got dict"):
        batchrun.open(["a"], limits={"rpm": 5})


@pytest.mark.parametrize("given", [{"rpm": 0}, {"rpm": -5}, {"concurrency": 0}, {"concurrency": 1.5}, {"rpm": "fast"}])
def test_limits_that_make_no_sense(given):
    with pytest.raises(errors.SettingsError, match=f"^{next(iter(given))}: expected"):
        batchrun.Limits(**given)
