"""Exchanges through a proxy that mistreats them: each ends, no answer is another's, and `sent` is true to the bytes."""

import asyncio
import json
import random
from collections import Counter

import pytest
import uvloop

from batchrun.core.responses.http import Answer, Cause, Failure, Request
from tests.edge.fault_proxy import FAULTS, FaultProxy
from tests.edge.hostile_server import HostileServer, answer
from tests.edge.wires import OURS

WORKERS = 16
TIMEOUT = 0.1  # longer than any pause of a proxy


async def echo(talk):
    while received := await talk.request():
        said = {"method": received.method, "path": received.path, "size": len(received.body)}
        await talk.send(answer(200, json.dumps(said).encode() + b" " * random.Random(received.path).randrange(3_000)))


async def work(open_wire, upstream, worker, count, seen):
    rng = random.Random(f"worker {worker}")
    async with (
        FaultProxy(upstream, rng) as proxy,
        open_wire(f"http://127.0.0.1:{proxy.port}", connections=1, connect_timeout=20.0) as wire,
    ):
        for turn in range(count):
            fault = rng.choices(list(FAULTS), list(FAULTS.values()))[0]
            await proxy.set_fault(fault)
            await asyncio.sleep(rng.choice((0, 0, 0.0005, 0.003)))  # a farewell may be read in time, or not
            before = proxy.arrived
            body = b"x" * rng.choice((0, 10, 5_000))
            request = Request(rng.choice(("GET", "POST")), f"/{worker}/{turn}", {}, body)
            got = await wire.exchange(request, TIMEOUT if "silence" in fault else 50.0)
            if isinstance(got, Answer):
                assert json.loads(got.body) == {"method": request.method, "path": request.path, "size": len(body)}
                seen["answer", fault] += 1
            else:
                assert isinstance(got, Failure)
                assert got.cause in (Cause.CONNECT, Cause.DROPPED, Cause.TIMEOUT), got
                assert got.cause is not Cause.TIMEOUT or "silence" in fault, (fault, got)
                await proxy.settle()
                arrived = proxy.arrived > before
                assert got.sent or not arrived, f"{fault}: {got} of which {proxy.arrived - before} bytes arrived"
                seen["sent" if got.sent else "unsent", "arrived" if arrived else "nothing arrived", fault] += 1
            if rng.random() < 0.05:
                await wire.drop_idle()


@pytest.mark.timeout(300)  # by --long; 2 s are usual
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("open_wire", OURS.values(), ids=OURS)
def test_every_exchange_ends_as_what_it_was(open_wire, loop, long):
    count = 10_000 if long else 500
    seen = Counter()

    async def main():
        async with HostileServer(echo) as server:
            shares = [count // WORKERS + (worker < count % WORKERS) for worker in range(WORKERS)]
            async with asyncio.TaskGroup() as workers:
                for worker, share in enumerate(shares):
                    workers.create_task(work(open_wire, server.port, worker, share, seen))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        runner.run(main())
    assert seen.total() == count
    kinds = Counter(kind for (kind, *_), number in seen.items() for _ in range(number))
    assert kinds["answer"] > count / 3
    assert kinds["sent"] > count / 10
    assert kinds["unsent"] > count / 50
    # What a connection of the pool hides is known, too: nothing is called sent where nobody listened.
    assert not [key for key in seen if key[0] == "sent" and key[2] == "nobody listens"]
    print(*(f"{number:6} {', '.join(key)}" for key, number in sorted(seen.items())), sep="\n")
