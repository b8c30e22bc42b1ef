"""Checked by type checkers, never run: what the public names promise to them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, assert_type

import batchrun
from batchrun import Record, Records, Snapshot, State, errors
from batchrun.errors import JobError, RateLimitError, error_of


def an_exception_of_a_record(record: Record) -> None:
    error = error_of(record)
    assert_type(error, JobError | None)
    if isinstance(error, RateLimitError):
        assert_type(error.code, str | None)
        assert_type(error.type, str)
        assert_type(error.retryable, bool)
        assert_type(error.record, Record)
        assert_type(error.to_openai(), Exception)


def a_record(record: Record) -> None:
    assert_type(record.key, str)
    assert_type(record.state, State)
    assert_type(record.ok, bool)
    assert_type(record.text, str | None)
    assert_type(record.json(), Any)
    assert_type(record.images(), list[bytes])
    assert_type(record.usage.total_tokens, int | None)
    assert_type(record.to_dict(), dict[str, Any])
    assert_type(record.raise_for_state(), Record)
    assert_type(record.raise_for_state(as_openai=True).text, str | None)
    if record.error is not None:
        assert_type(record.error.code, str | None)
        assert_type(record.error.retryable, bool)


def records(found: Records) -> None:
    assert_type(found[0], Record)
    assert_type(found["row-1"], Record)
    assert_type(found[:10], Records)
    assert_type(found.ok, Records)
    assert_type(found.failed, Records)
    assert_type(found.by_state, dict[State, Records])
    assert_type(found.path, Path | None)
    assert_type([record.text for record in found], list[str | None])
    assert_type(len(found), int)


async def a_run() -> None:
    limits = batchrun.Limits(rpm=600, concurrency=100)
    assert_type(await batchrun.run(["a", "b"], model="gpt-5", concurrency=500), Records)
    assert_type(await batchrun.run("in.jsonl", out="out.jsonl", limits=limits, deadline="2h"), Records)
    assert_type(await batchrun.run(Path("in.jsonl"), out=False, set={"temperature": 0}), Records)
    assert_type(await batchrun.run([{"prompt": "a"}], retry_failed=[State.TIMEOUT], fresh=True), Records)
    assert_type(batchrun.run_sync(["a"], model="gpt-5", progress=False, demo=True), Records)
    assert_type(batchrun.read("out.jsonl"), Records)
    await batchrun.run(["a"], concurency=500)  # type: ignore[call-arg]
    await batchrun.run(["a"], concurrency="many")  # type: ignore[arg-type]


async def rows() -> AsyncIterator[dict[str, Any]]:
    yield {"prompt": "a"}


async def a_batch() -> None:
    async with batchrun.open(rows(), out="out.jsonl", model="gpt-5") as batch:
        assert_type(batch, batchrun.Batch)
        assert_type(await batch.submit({"custom_id": "row-1", "prompt": "a"}), str)
        assert_type(await batch.submit("a prompt"), str)
        async for record in batch:
            assert_type(record, Record)
        await batch.cancel("row-1", "row-2")
        await batch.cancel(all=True)
        assert_type(batch.stats, Snapshot)
        assert_type(batch.stats.in_flight, int)
        batch.close()
        await batch.stop()


async def what_ends_it() -> None:
    try:
        await batchrun.run(["a"])
    except batchrun.Interrupted as error:
        assert_type(error.records, Records)
        assert_type(error.running_jobs, int)
    except batchrun.Halted as error:
        assert_type(error.reason, str)
        assert_type(error.records, Records)
    except errors.BatchrunError as error:
        assert_type(error, errors.BatchrunError)


class Prints(batchrun.Observer):
    def recorded(self, record: Record) -> None:
        assert_type(record.key, str)


async def observers() -> None:
    await batchrun.run(["a"], observers=Prints())
    await batchrun.run(["a"], observers=[Prints(), Prints()])
