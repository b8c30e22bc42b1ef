"""Several batches with limits that hold for all of them together, told by the books of the service."""

import asyncio
import json
import threading

import pytest

import batchrun
from batchrun import errors
from tests.api.stage import on, play, rows


def test_a_shared_rate_holds_for_all_together(somewhere):
    """Each second's worth as it was let go: what the service sees of it comes later where the machine is busy."""
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
        assert loop.time() - begun >= 59 / 30, (
            "each for itself would be done in 0.7 s; 60 at 30 a second, and one at once"
        )
        assert simulator.statistics.refusals == {}

    play(scene, "[times]\nduration = '30ms'\n")
    journals = [(somewhere / f"{n}.jsonl.journal").read_bytes() for n in range(3)]
    entries = [json.loads(line[9:]) for journal in journals for line in journal.splitlines()]
    let_go = sorted(entry["intent"]["at"] for entry in entries if "intent" in entry)
    assert len(let_go) == 60
    assert all(there - here >= 1 for here, there in zip(let_go, let_go[32:], strict=False))
    # None waited for the others' end: each had its first row well before any had its last.
    firsts, lasts = [min(times) for times in sent.values()], [max(times) for times in sent.values()]
    assert max(firsts) < min(lasts)


async def in_line(limits):
    """Wait until a batch waits for a place of another's."""
    while not limits.sharing().shared._line:
        await asyncio.sleep(0.005)


def test_places_are_shared_first_come_first_served():
    order = []

    class Notes(batchrun.Observer):
        def __init__(self, name):
            self.name = name

        def recorded(self, record):
            order.append(self.name)

    async def scene(simulator):
        limits = batchrun.Limits(concurrency=4)
        settings = on(simulator, limits=limits, cancel_settle=0.05)
        many = [*rows(4, "[[sleep 2h]] a"), *rows(24, "[[sleep 40ms]] a")[4:]]
        async with batchrun.open(many, out="a.jsonl", observers=Notes("a"), **settings) as first:
            while simulator.statistics.jobs < 4:
                await asyncio.sleep(0.005)
            second = asyncio.ensure_future(
                batchrun.run(rows(6, "[[sleep 40ms]] b"), out="b.jsonl", observers=Notes("b"), **settings)
            )
            await in_line(limits)
            assert simulator.statistics.jobs == 4
            await first.cancel(*(row["custom_id"] for row in many[:4]))
        await second
        assert simulator.statistics.peak_open_jobs <= 4
        assert "0 jobs in flight" in repr(limits)

    play(scene)
    assert order.index("b") < 20, f"the second batch waited for the end of the first: {order}"
    assert order[-1] == "a"


def test_a_batch_that_stops_gives_its_places_back():
    async def scene(simulator):
        limits = batchrun.Limits(concurrency=2)
        holds = asyncio.ensure_future(
            batchrun.run(rows(9, "[[sleep 2h]] a"), out="a.jsonl", limits=limits, **on(simulator))
        )
        while simulator.statistics.jobs < 2:
            await asyncio.sleep(0.005)
        waits = asyncio.ensure_future(batchrun.run(["b"], out="b.jsonl", limits=limits, **on(simulator)))
        await in_line(limits)
        assert simulator.statistics.jobs == 2
        holds.cancel()
        with pytest.raises(batchrun.Interrupted):
            await holds
        assert (await waits)[0].ok

    play(scene)


def test_limits_are_of_one_loop_at_a_time():
    limits = batchrun.Limits(rpm=6_000)

    async def scene(simulator):
        settings = on(simulator, cancel_settle=0.05)
        async with batchrun.open(["[[sleep 2h]] a"], out=False, limits=limits, **settings) as batch:
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
            await batch.cancel(all=True)

    play(scene)
    play(scene)  # a later loop may use them


def test_what_is_no_limits():
    with pytest.raises(errors.SettingsError, match=r"expected a batchrun\.Limits, got dict"):
        batchrun.open(["a"], limits={"rpm": 5})


@pytest.mark.parametrize("given", [{"rpm": 0}, {"rpm": -5}, {"concurrency": 0}, {"concurrency": 1.5}, {"rpm": "fast"}])
def test_limits_that_make_no_sense(given):
    with pytest.raises(errors.SettingsError, match=f"^{next(iter(given))}: expected"):
        batchrun.Limits(**given)
