"""A program with a loop of its own: three batches that share one limit, one of which gets its rows while it runs.

python samples/service.py        (on the simulated service: no key, no cost)
"""

import asyncio

import batchrun

SETTINGS = {"model": "gpt-5", "demo": True, "progress": False, "poll_min": 0.2}


class Progress(batchrun.Observer):
    """Prints each record once it is safe on the disk."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.done = 0

    def recorded(self, record: batchrun.Record) -> None:
        self.done += 1
        print(f"{self.name}: {record.key} {record.state}")


async def orders(limits: batchrun.Limits) -> int:
    """Rows come in while the batch runs; each is on the disk before it is sent."""
    done = 0
    async with batchrun.open(out="orders.jsonl", limits=limits, **SETTINGS) as batch:

        async def take_orders() -> None:
            for number in range(6):
                await batch.submit(
                    {"custom_id": f"order-{number}", "prompt": f"[[sleep 200ms]] Thank for order {number}"}
                )
                await asyncio.sleep(0.05)
            await batch.submit({"custom_id": "order-6", "prompt": "[[sleep 60]] One that is no longer wanted"})
            await batch.cancel("order-6")
            batch.close()

        taking = asyncio.create_task(take_orders())
        async for record in batch:
            done += record.ok
        await taking
    return done


async def main() -> None:
    limits = batchrun.Limits(rpm=1_200, concurrency=10)
    letters = [{"custom_id": f"letter-{n}", "prompt": f"[[sleep 300ms]] Write letter {n}"} for n in range(12)]
    summaries = [{"custom_id": f"summary-{n}", "prompt": f"[[sleep 300ms]] Sum up text {n}"} for n in range(12)]
    done, *both = await asyncio.gather(
        orders(limits),
        batchrun.run(letters, out="letters.jsonl", limits=limits, observers=Progress("letters"), **SETTINGS),
        batchrun.run(summaries, out="summaries.jsonl", limits=limits, observers=Progress("summaries"), **SETTINGS),
    )
    print(f"{done} orders, {len(both[0].ok)} letters, {len(both[1].ok)} summaries")


if __name__ == "__main__":
    asyncio.run(main())
