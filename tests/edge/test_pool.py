"""The pool of single connections: bounded, the one used last first, what lies unused is closed."""

import asyncio

import pytest

from batchrun.core.responses.http import Failure
from batchrun.edge.httpx_transport import ClientPool
from tests.edge.hostile_server import HostileServer
from tests.edge.wires import POST, own


class Item:
    made = 0

    def __init__(self):
        Item.made += 1
        self.number = Item.made
        self.closed = False

    async def aclose(self):
        self.closed = True


@pytest.fixture
def pool():
    Item.made = 0
    return lambda most=3, keepalive=60.0: ClientPool(Item, most, keepalive)


async def taken(pool, count):
    """Take `count` at once, give all back in order, and return them."""
    together = asyncio.Barrier(count)

    async def use():
        async with pool.one() as item:
            await together.wait()
            return item

    return sorted(await asyncio.gather(*(use() for _ in range(count))), key=lambda item: item.number)


def test_never_more_than_the_bound_and_whoever_waits_gets_one(pool):
    async def main():
        busy, most = 0, 0

        async def use(pool):
            nonlocal busy, most
            async with pool.one():
                busy += 1
                most = max(most, busy)
                await asyncio.sleep(0)
                busy -= 1

        three = pool(3)
        await asyncio.gather(*(use(three) for _ in range(50)))
        assert (most, Item.made) == (3, 3)

    asyncio.run(main())


def test_one_who_gives_up_waiting_takes_nothing_along(pool):
    async def main():
        single = pool(1)
        async with single.one() as item:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01), single.one():
                    pytest.fail("there is but one")
        async with single.one() as again:
            assert again is item

    asyncio.run(main())


def test_the_one_used_last_is_used_first(pool):
    async def main():
        three = pool(3)
        await taken(three, 3)
        async with three.one() as item:
            last = item
        async with three.one() as item:
            assert item is last

    asyncio.run(main())


def test_what_lies_unused_is_closed(pool):
    async def main():
        three = pool(3, keepalive=0.02)
        items = await taken(three, 3)
        for _ in range(4):
            async with three.one() as used:
                await asyncio.sleep(0.01)
        assert [item.closed for item in items if item is not used] == [True, True]
        assert not used.closed

    asyncio.run(main())


def test_dropped_while_in_use_is_closed_when_it_comes_back(pool):
    async def main():
        two = pool(2)
        async with two.one() as item:
            await two.drop_idle()
            assert not item.closed
        assert item.closed
        async with two.one() as fresh:
            assert fresh is not item
        await two.aclose()
        assert fresh.closed

    asyncio.run(main())


def test_closing_a_wire_ends_what_is_on_its_way():
    async def main():
        async def script(talk):
            await talk.request()
            await talk.hold()

        async with HostileServer(script) as server, own(server.origin) as wire:
            exchange = asyncio.create_task(wire.exchange(POST, 30.0))
            await server.wait_received(1)
            await wire.aclose()
            return await asyncio.wait_for(exchange, 30)

    failure = asyncio.run(main())
    assert isinstance(failure, Failure)
    assert failure.sent
