"""The ceiling right before a submit: what a late loop lets through at once."""

import asyncio

import pytest

from batchrun.runner.exchanges import submit_ceiling


@pytest.mark.parametrize(("rpm", "at_once"), [(60, 1), (600, 1), (6_000, 5), (60_000, 50)])
def test_after_a_late_loop_only_a_twentieth_of_a_second_goes_at_once(rpm, at_once):
    async def main():
        ceiling = submit_ceiling(rpm)
        gone = 0
        while ceiling.has_capacity():
            await ceiling.acquire()
            gone += 1
        return gone

    assert asyncio.run(main()) in (at_once, at_once + 1)


def test_the_ceiling_does_not_lower_the_rate():
    async def main():
        ceiling, loop = submit_ceiling(30_000), asyncio.get_running_loop()
        begun = loop.time()
        for _ in range(200):
            await ceiling.acquire()
        return 200 / (loop.time() - begun)

    assert asyncio.run(main()) >= 0.9 * 500
