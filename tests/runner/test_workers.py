"""Workers of a lane: as many as there are exchanges at once, and none that stays idle for long."""

import asyncio

from batchrun.runner.loop.exchanges import IDLE_FOR, Workers, task_group


class Loop(asyncio.SelectorEventLoop):
    """Its clock can be moved on."""

    ahead = 0.0

    def time(self):
        return super().time() + self.ahead


def in_a_lane(limit, script):
    """Run `script(lane, gates, begun, loop)`; an instruction is an index into `gates`, and ends when that gate opens.

    `begun` lists the instructions that a worker has taken, in order.
    """

    async def main():
        loop = asyncio.get_running_loop()
        gates = [loop.create_future() for _ in range(8)]
        begun = []

        async def work(number):
            begun.append(number)
            await asyncio.shield(gates[number])

        async with task_group() as group:
            lane = Workers(group, work, limit)
            group.start_soon(lane.serve)
            await script(lane, gates, begun, loop)
            group.cancel_scope.cancel()
        assert lane.workers == 0

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_worker_that_is_idle_takes_the_next_one_and_others_wait_where_there_are_enough():
    async def script(lane, gates, begun, _):
        for number in range(4):
            lane.put(number)
        await turns()
        assert (lane.workers, begun) == (2, [0, 1])
        gates[0].set_result(None)
        await turns()
        assert begun == [0, 1, 2]
        gates[2].set_result(None)
        await turns()
        assert begun == [0, 1, 2, 3]
        gates[3].set_result(None)
        await turns()
        lane.put(4)
        await turns()
        assert (lane.workers, begun) == (2, [0, 1, 2, 3, 4])
        gates[4].set_result(None)

    in_a_lane(2, script)


def test_idle_workers_end_each_in_its_time_and_the_one_used_last_is_used_again():
    async def script(lane, gates, _, loop):
        for number in range(3):
            lane.put(number)
        await turns()
        gates[0].set_result(None)
        await turns()
        loop.ahead += IDLE_FOR / 2
        for gate in gates[1:3]:
            gate.set_result(None)
        await turns()
        lane.put(3)  # goes to one of the last two; the first one's time runs on
        await turns()
        loop.ahead += IDLE_FOR / 2 + 0.01
        await turns()
        assert lane.workers == 2
        loop.ahead += IDLE_FOR / 2
        await turns()
        assert lane.workers == 1  # it is at work
        lane.put(4)
        assert lane.workers == 2
        for gate in gates[3:5]:
            gate.set_result(None)
        await turns()
        loop.ahead += IDLE_FOR + 0.01
        await turns()
        assert lane.workers == 0

    in_a_lane(8, script)
