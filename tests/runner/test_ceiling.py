"""The ceiling right before a submit: what a late loop lets through at once."""

import asyncio

import pytest

from batchrun.runner.loop.exchanges import submit_ceiling


@pytest.mark.parametrize(("rpm", "at_once"), [(60, 1), (600, 1), (6_000, 5), (60_000, 50)])
def test_after_a_late_loop_only_a_twentieth_of_a_second_goes_at_once(rpm, at_once):
    async def main():
        asyncio.get_running_loop().time = lambda: 100.0  # a moment that does not pass
        ceiling = submit_ceiling(rpm)
        gone = 0
        while ceiling.has_capacity():
            await ceiling.acquire()
            gone += 1
        return gone

    assert asyncio.run(main()) == at_once


@pytest.mark.parametrize("rpm", [6, 60, 600, 30_000])
def test_the_ceiling_does_not_lower_the_rate(rpm):
    async def main():
        ceiling = submit_ceiling(rpm)
        return ceiling.max_rate / ceiling.time_period

    assert asyncio.run(main()) == pytest.approx(rpm / 60)
