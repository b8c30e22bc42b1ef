"""Answers in memory: held back beyond the budget, never all of them, and never one that is paid for."""

import asyncio

import pytest

from batchrun.core.responses.http import Answer, Request
from batchrun.edge.exchange import Budget
from tests.edge.transports import OURS

PIECE, PIECES, JOBS = 64 * 1024, 16, 20  # a megabyte an answer


async def slow_pieces(reader, writer):
    """An answer of PIECES pieces, one whenever the other side has taken the last."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (PIECE * PIECES))
    for _ in range(PIECES):
        writer.write(bytes(PIECE))
        await writer.drain()
        await asyncio.sleep(0)
    writer.close()


async def read_all(open_transport, budget, method, highest):
    server = await asyncio.start_server(slow_pieces, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    add = budget.add

    def watched(reading, size):
        more = add(reading, size)
        highest.append(budget.taken)
        return more

    budget.add = watched
    async with open_transport(f"http://127.0.0.1:{port}", connections=JOBS, budget=budget) as transport:
        answers = await asyncio.gather(*(transport.exchange(Request(method, "/", {}), 50.0) for _ in range(JOBS)))
    server.close()
    await server.wait_closed()
    return answers


@pytest.mark.parametrize("open_transport", OURS.values(), ids=OURS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_answers_beyond_the_budget_wait_their_turn_and_all_arrive(method, open_transport):
    budget, highest = Budget(2 << 20), []
    answers = asyncio.run(read_all(open_transport, budget, method, highest))
    assert [len(answer.body) for answer in answers if isinstance(answer, Answer)] == [PIECE * PIECES] * JOBS
    assert budget.taken == 0
    if method == "GET":
        assert max(highest) <= (2 << 20) + (1 << 20) + JOBS * PIECE, "the budget, the oldest answer, a piece of each"
    else:
        assert max(highest) > 4 << 20, "nobody waits with a result that is paid for"


def test_a_reader_that_is_cancelled_gives_its_bytes_back():
    async def main():
        budget = Budget(10)
        oldest, waiting = budget.begin(can_wait=True), budget.begin(can_wait=True)
        await oldest.add_chunk(bytes(8))
        task = asyncio.ensure_future(waiting.add_chunk(bytes(8)))
        await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        waiting.end()
        waiting.end()
        assert budget.taken == 8
        oldest.end()
        assert budget.taken == 0

    asyncio.run(main())


def test_readers_wait_for_answers_that_are_not_on_the_disk_yet_and_a_post_does_not():
    async def main():
        budget = Budget(10)
        reader, paid = budget.begin(can_wait=True), budget.begin(can_wait=False)
        budget.set_handed_over(11)
        waiting = asyncio.ensure_future(reader.add_chunk(b"x"))
        await paid.add_chunk(bytes(8))
        await asyncio.sleep(0)
        assert not waiting.done(), "though it has been reading longest"
        budget.set_handed_over(12)
        await asyncio.sleep(0)
        assert not waiting.done()
        budget.set_handed_over(5)
        await asyncio.wait_for(waiting, 30)
        other = budget.begin(can_wait=True)
        waiting = asyncio.ensure_future(other.add_chunk(b"x"))
        await asyncio.sleep(0)
        assert not waiting.done(), "8 and 2 of answers being read, 5 elsewhere"
        paid.end()
        await asyncio.wait_for(waiting, 30)

    asyncio.run(main())
