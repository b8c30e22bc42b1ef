"""What the tests of the API share: a service in the same loop, and rows that its books know by name."""

import asyncio
import contextlib
import json

from batchrun.simulator import Scenario, Simulator, parse

QUICK = {"service": "compatible", "model": "gpt-5", "poll_min": 0.02, "poll_max": 0.1, "progress": False}
SHORT = "[times]\nduration = '30ms'\n"


def rows(count, prompt="hello", **more):
    return [
        {"custom_id": f"row-{n}", "body": {"model": "gpt-5", "input": prompt, "metadata": {"custom_id": f"row-{n}"}, **more}}
        for n in range(count)
    ]  # fmt: skip


@contextlib.asynccontextmanager
async def service(scenario=SHORT):
    async with Simulator(parse(scenario) if isinstance(scenario, str) else scenario or Scenario()) as simulator:
        yield simulator


def on(simulator, **more):
    """The arguments of a call that goes to `simulator`."""
    return {**QUICK, "base_url": simulator.base_url, **more}


def play(scene, scenario=SHORT):
    """Run `scene(simulator)` in a loop of its own; nothing may be left of it."""

    async def main():
        async with service(scenario) as simulator:
            found = await scene(simulator)
            left = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
            assert not left, f"tasks that nobody ended: {left}"
            return found

    return asyncio.run(main())


def lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]
