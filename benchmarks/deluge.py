"""lm-deluge, the nearest peer that waits for background jobs, as a client of `polling.py`.

    python benchmarks/deluge.py URL CONNECTIONS SECONDS LOOP

It keeps a task a job and polls every 5 s, which is written into its loop. Here that wait is taken out, so that
what its loop costs can be measured; its own limits are set out of the way. Prints one line of JSON as `wire_peers.py`
does. Exit code 3: it is not installed here.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sys
import time
from typing import Any


class Clock:
    """asyncio as its loop sees it, without the wait; it counts the polls. `ready` is set after `enough` of them."""

    def __init__(self, enough: int) -> None:
        self.polls = 0
        self.ready = asyncio.Event()
        self._enough = enough

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, _: float) -> None:
        self.polls += 1
        if self.polls == self._enough:
            self.ready.set()
        await asyncio.sleep(0)


async def measure(url: str, connections: int, seconds: float) -> dict[str, float]:
    from lm_deluge import LLMClient
    from lm_deluge.api_requests import base
    from lm_deluge.models import register_model

    os.environ["BENCHMARK_KEY"] = "sk-benchmark-0123456789abcdef"
    register_model(id="benchmark", name="gpt-5", api_base=url, api_key_env_var="BENCHMARK_KEY", supports_responses=True)
    base.OPENAI_MODELS["benchmark"] = {}  # only what is listed there may run in the background
    client = LLMClient(
        "benchmark",
        max_requests_per_minute=10**9,
        max_tokens_per_minute=10**12,
        max_concurrent_requests=connections,
        request_timeout=3_600,
        background=True,
        use_responses_api=True,
        progress="manual",
    )
    clock = Clock(2 * connections)
    base.asyncio = clock
    work = asyncio.create_task(client.process_prompts_async(["x"] * connections, show_progress=False))
    await asyncio.wait_for(clock.ready.wait(), 60)
    await asyncio.sleep(0.5)
    polls, begun, cpu = clock.polls, time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    facts = {"polls": clock.polls - polls, "seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
    assert not work.done(), "the jobs go on for ever"
    return facts


def main(arguments: list[str]) -> int:
    url, connections, seconds, loop = arguments
    factory = None
    try:
        if loop == "uvloop":
            from uvloop import new_event_loop as factory
        import lm_deluge  # noqa: F401 - is it there?
    except ImportError as error:
        print(error, file=sys.stderr)
        return 3
    with contextlib.redirect_stdout(io.StringIO()), asyncio.Runner(loop_factory=factory) as runner:
        facts = runner.run(measure(url, int(connections), float(seconds)))
    print(json.dumps(facts), flush=True)
    os._exit(0)  # without the tales of a thousand cancelled requests
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
