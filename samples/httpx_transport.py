"""Plain httpx on batchrun's wire, against the service to rehearse on: no key and no network needed."""

import asyncio

import httpx

from batchrun.simulator import Scenario, Simulator
from batchrun.transport import Transport


async def main() -> None:
    async with Simulator(Scenario(seed=1)) as service, httpx.AsyncClient(transport=Transport()) as client:
        job = {"model": "gpt-5", "input": "[[sleep 0.1]] name a colour", "background": True}
        answer = (await client.post(f"{service.base_url}/responses", json=job)).json()
        while answer["status"] in ("queued", "in_progress"):
            await asyncio.sleep(0.05)
            answer = (await client.get(f"{service.base_url}/responses/{answer['id']}")).json()
        print(answer["id"], answer["status"])


asyncio.run(main())
