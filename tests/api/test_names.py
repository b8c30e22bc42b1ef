"""Names that have an earlier spelling: both work, with the same meaning."""

import pickle

import pytest

import batchrun
from batchrun import errors
from batchrun.core.settings.parsing import from_arguments
from tests.api.stage import on, play


@pytest.mark.parametrize("name", ["close", "end"])
def test_after_close_a_batch_takes_no_more_rows_and_ends(name):
    async def scene(simulator):
        async with batchrun.open(out="x.jsonl", **on(simulator)) as batch:
            await batch.submit("a")
            getattr(batch, name)()
            with pytest.raises(errors.InputError, match="takes no more rows"):
                await batch.submit("b")
            return [record.state async for record in batch]

    assert play(scene) == ["succeeded"]


def test_what_is_left_of_a_run_has_both_names():
    for error in (
        errors.Interrupted(remaining=3, running_jobs=2),
        errors.Halted("quota", "used up", "top up", remaining=3, running_jobs=2),
    ):
        assert (error.remaining, error.running_jobs) == (error.open, error.going_on) == (3, 2)
        assert "3 left; 2 jobs are still running on the service and will be billed" in str(error)
    records = batchrun.Records(running_jobs=2)
    assert records.running_jobs == records.going_on == 2


def test_an_exception_that_an_earlier_version_pickled_is_read():
    again, (kind, values) = errors.Interrupted(remaining=3, running_jobs=2).__reduce__()
    earlier = {
        {"remaining": "open", "running_jobs": "going_on"}.get(name, name): value for name, value in values.items()
    }
    assert again(kind, earlier).remaining == 3
    assert pickle.loads(pickle.dumps(again(kind, earlier))).running_jobs == 2


@pytest.mark.parametrize("name", ["transport", "wire"])
def test_the_transport_has_both_names(name):
    assert from_arguments({name: "httpx"}, {"BATCHRUN_WIRE": "own"})[0] == {"transport": "httpx"}
    with pytest.raises(errors.SettingsError, match="transport: expected own or httpx, got 'pigeon'"):
        batchrun.run_sync(["a"], **{name: "pigeon"})


def test_both_at_once_are_refused():
    with pytest.raises(TypeError, match="'wire' is the earlier name of 'transport'; give 'transport' alone"):
        batchrun.run_sync(["a"], transport="own", wire="own")
