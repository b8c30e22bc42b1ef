"""Plain httpx on batchrun's HTTP transport, against the simulated service: no API key and no network needed."""

import asyncio

import httpx

from batchrun.simulator import Scenario, Simulator
from batchrun.transport import Transport


async def main() -> None:
    async with Simulator(Scenario(seed=1)) as service, httpx.AsyncClient(transport=Transport()) as client:
        job = {"model": "gpt-5", "input": "[[sleep 0.1]] name a colour", "background": True}
        found = (await client.post(f"{service.base_url}/responses", json=job)).json()
        while found["status"] in ("queued", "in_progress"):
            await asyncio.sleep(0.05)
            found = (await client.get(f"{service.base_url}/responses/{found['id']}")).json()
        print(found["id"], found["status"])


asyncio.run(main())
