"""A batch that goes on: records as they come, rows given meanwhile, cancels, leaving it."""

import asyncio
import json

import pytest

import batchrun
from batchrun import errors
from batchrun.core.rows.parse import canonical, content_key
from tests.api.stage import lines, on, play, rows


def keys(records):
    return sorted(record.key for record in records)


def test_records_come_as_they_are_safe_and_the_loop_ends_with_the_rows():
    async def scene(simulator):
        seen = []
        async with batchrun.open(rows(6), out="x.jsonl", **on(simulator)) as batch:
            async for record in batch:
                seen.append(record)
                stored = [line["custom_id"] for line in lines(batch.path)]
                assert record.key in stored
        again = []
        async with batchrun.open(rows(6), out="x.jsonl", **on(simulator)) as batch:
            again = [record async for record in batch]
            twice = [record async for record in batch]
        assert simulator.statistics.posts == 6
        return seen, again, twice

    seen, again, twice = play(scene)
    assert keys(seen) == [f"row-{n}" for n in range(6)]
    assert seen == again == twice


def test_a_row_that_is_submitted_is_on_the_disk_before_it_is_sent(somewhere):
    async def scene(simulator):
        async with batchrun.open(out="x.jsonl", **on(simulator)) as batch:
            key = await batch.submit({"custom_id": "one", "prompt": "a"})
            assert json.loads((somewhere / "x.jsonl.submitted").read_text()) == {"custom_id": "one", "prompt": "a"}
            assert key == "one"
            other = await batch.submit("b")
            async for record in batch:
                if record.key == other:
                    batch.close()
        return keys(batchrun.read("x.jsonl"))

    assert play(scene) == ["one", content_key(canonical({"prompt": "b"}))]


def test_what_was_submitted_is_there_after_a_stop_and_goes_on():
    async def scene(simulator):
        async with batchrun.open(rows(2), out="x.jsonl", **on(simulator)) as batch:
            await batch.submit({"custom_id": "slow", "body": {**rows(1)[0]["body"], "input": "[[sleep 400ms]] a", "metadata": {"custom_id": "slow"}}})  # fmt: skip
            await batch.stop()
        assert "slow" not in keys(batchrun.read("x.jsonl"))
        async with batchrun.open(rows(2), out="x.jsonl", **on(simulator)) as batch:
            found = [record.key async for record in batch]
        assert sorted(found) == ["row-0", "row-1", "slow"]
        assert set(simulator.statistics.posts_per_row().values()) == {1}

    play(scene)


def test_whoever_goes_on_with_the_batch_has_what_was_submitted(somewhere):
    slow = {"custom_id": "slow", "body": {"model": "gpt-5", "input": "[[sleep 300ms]] a"}}

    async def scene(simulator):
        async with batchrun.open(rows(2), out="x.jsonl", **on(simulator, concurrency=1)) as batch:
            await batch.submit(slow)
            await batch.submit({"custom_id": "unsent", "prompt": "b"})
            await batch.stop()
        records = await batchrun.run(rows(2), out="x.jsonl", **on(simulator))
        assert [record.key for record in records] == ["row-0", "row-1", "slow", "unsent"]
        assert simulator.statistics.posts == 4
        await batchrun.run(rows(2), out="x.jsonl", fresh=True, **on(simulator))
        assert simulator.statistics.posts == 6, "begun anew without them"

    play(scene)
    assert not (somewhere / "x.jsonl.submitted").exists()


def test_a_row_that_a_crash_cut_off_was_never_taken(somewhere):
    (somewhere / "x.jsonl.submitted").write_text('{"custom_id": "whole", "prompt": "a"}\n{"custom_id": "to')

    async def scene(simulator):
        async with batchrun.open(out="x.jsonl", **on(simulator)) as batch:
            await batch.submit({"custom_id": "next", "prompt": "b"})
        return keys(batchrun.read("x.jsonl"))

    assert play(scene) == ["next", "whole"]
    assert [line["custom_id"] for line in lines(somewhere / "x.jsonl.submitted")] == ["whole", "next"]


def test_the_same_row_again_is_no_second_one():
    row = {"custom_id": "one", "prompt": "a", "metadata": {"n": 1}}

    async def scene(simulator):
        for _ in range(2):  # the second time the program was restarted
            async with batchrun.open(out="x.jsonl", **on(simulator)) as batch:
                assert await asyncio.gather(*(batch.submit(dict(row)) for _ in range(3))) == ["one"] * 3
                with pytest.raises(errors.InputError, match="another row has the custom_id 'one'"):
                    await batch.submit({"custom_id": "one", "prompt": "b"})
                same = await asyncio.gather(batch.submit("again"), batch.submit("again"))
                assert len(set(same)) == 2, "without an id each is a row of its own"
        assert simulator.statistics.posts == 5
        return len(lines(batch.path))

    assert play(scene) == 5


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"foo": 1}, "no_body"),
        ({"custom_id": 5.5, "prompt": "x"}, "invalid_custom_id"),
        (7, "expected a prompt or a mapping"),
    ],
)
def test_a_row_that_cannot_be_sent_is_refused_and_not_kept(somewhere, row, told):
    async def scene(simulator):
        async with batchrun.open(out="x.jsonl", **on(simulator)) as batch:
            with pytest.raises(errors.InputError, match=told):
                await batch.submit(row)
        return len(batchrun.read("x.jsonl"))

    assert play(scene) == 0
    assert not (somewhere / "x.jsonl.submitted").exists()


def test_after_the_end_nothing_is_taken():
    async def scene(simulator):
        async with batchrun.open(rows(1), out="x.jsonl", **on(simulator)) as batch:
            batch.close()
            with pytest.raises(errors.InputError, match="has ended and takes no more rows"):
                await batch.submit("a")

    play(scene)


def test_rows_that_follow_from_records_are_part_of_the_batch():
    async def scene(simulator):
        async with batchrun.open(["first"], out="x.jsonl", **on(simulator)) as batch:
            seen = 0
            async for record in batch:
                seen += 1
                if seen < 4:
                    await batch.submit(f"{seen} more after {record.key}")
        return seen, simulator.statistics.posts

    assert play(scene) == (4, 4)


def test_a_refused_row_has_its_record_although_more_may_come():
    """A refusal before anything was accepted is held back, as it may be the run's fault; not for ever."""

    async def scene(simulator):
        async with batchrun.open(out="x.jsonl", **on(simulator)) as batch:
            await batch.submit("[[refuse invalid_prompt]] a")
            async for record in batch:
                assert record.state is batchrun.State.REJECTED
                batch.close()

    play(scene)


def test_many_rows_at_once_are_all_taken_before_the_end():
    async def scene(simulator):
        async with batchrun.open(out="x.jsonl", **on(simulator)) as batch:
            submits = [asyncio.ensure_future(batch.submit({"custom_id": f"n{n}", "prompt": "a"})) for n in range(300)]
            await asyncio.sleep(0)
            batch.close()  # they are on their way
            assert len(await asyncio.gather(*submits)) == 300
        return len(batchrun.read("x.jsonl")), simulator.statistics.posts

    assert play(scene) == (300, 300)


def test_cancel_ends_rows_by_key_and_all_of_them():
    slow = rows(6, "[[sleep 2h]] x")

    async def scene(simulator):
        async with batchrun.open(slow, out="x.jsonl", **on(simulator, cancel_settle=0.05)) as batch:
            while simulator.statistics.jobs < 6:
                await asyncio.sleep(0.01)
            with pytest.raises(errors.InputError, match="has no row 'row-77'"):
                await batch.cancel("row-1", "row-77")
            with pytest.raises(errors.InputError, match="or all=True"):
                await batch.cancel()
            await batch.cancel("row-1", "row-2")
            seen = []
            async for record in batch:
                seen.append(record.key)
                if len(seen) == 2:
                    assert sorted(seen) == ["row-1", "row-2"]
                    assert batch.stats.in_flight == 4
                    await batch.cancel(all=True)
            await batch.cancel("row-1")  # harmless
        states = {record.state for record in batchrun.read("x.jsonl")}
        assert simulator.statistics.cancels == 6
        return states

    assert play(scene) == {"cancelled"}


def test_an_exception_in_the_block_stops_it_in_good_order_and_goes_on():
    class MineError(Exception):
        pass

    async def scene(simulator):
        with pytest.raises(MineError):
            async with batchrun.open(rows(5, "[[sleep 300ms]] x"), out="x.jsonl", **on(simulator)):
                while simulator.statistics.jobs < 5:
                    await asyncio.sleep(0.01)
                raise MineError
        assert len(await batchrun.run(rows(5, "[[sleep 300ms]] x"), out="x.jsonl", **on(simulator))) == 5
        assert simulator.statistics.posts == 5

    play(scene)


def test_a_halt_is_raised_at_the_end_of_the_block_and_by_submit():
    async def scene(simulator):
        with pytest.raises(batchrun.Halted, match="quota") as caught:
            async with batchrun.open(rows(2), out="x.jsonl", **on(simulator)) as batch:
                async for _ in batch:
                    pass
                raise AssertionError("the loop ended although a row is open")
        assert len(caught.value.records) == 1
        with pytest.raises(batchrun.Halted):
            async with batchrun.open(out="y.jsonl", **on(simulator)) as batch:
                await batch.submit("a")
                while batch.stats.halted is None:
                    await asyncio.sleep(0.01)
                with pytest.raises(batchrun.Halted):
                    await batch.submit("b")

    play(scene, "[times]\nduration = '30ms'\n[limits]\nquota = 1\n")


def test_it_tells_how_it_stands():
    async def scene(simulator):
        batch = batchrun.open(rows(3), out="x.jsonl", **on(simulator))
        assert repr(batch) == "<Batch: not open>"
        with pytest.raises(errors.InputError, match="use it within: async with"):
            await batch.submit("a")
        async with batch:
            assert batch.stats.done == 0
            assert "of 3 rows done" in repr(batch)
        assert repr(batch) == f"<Batch {batch.path}: 3 of 3 rows done, over>"

    play(scene)


def test_a_batch_without_rows_needs_a_name():
    with pytest.raises(errors.InputError, match=r'give out="out\.jsonl", or out=False'):
        play(lambda simulator: batchrun.open(**on(simulator)).__aenter__())
