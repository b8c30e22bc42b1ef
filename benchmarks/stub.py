"""A lean service for the benchmarks: it submits and answers polls, and keeps nothing of any job.

    python benchmarks/stub.py [--delay SECONDS]

A job's id carries the time at which it ends, so a million jobs in flight cost this process no memory, and
none of its time beyond the answers. A row says how long its job takes by `seconds=1.25` within its body;
without that the job never ends. Every answer comes `--delay` seconds after its request. An answer of a job
that goes on has 720 bytes. `GET /_stats` tells what was asked. The first line on stdout is the base URL.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import resource
import signal
import sys
import time
from collections.abc import Callable

NEVER = 0xFFFF_FFFF_FFFF  # ms since 1970
SIZE = 720


def in_progress(job_id: str) -> bytes:
    """An answer of 720 bytes for a job that goes on; nginx gives the same."""
    known = {
        "id": job_id, "object": "response", "created_at": 1_800_000_000, "status": "in_progress", "background": True,
        "error": None, "incomplete_details": None, "model": "gpt-5-2025-08-07", "output": [], "usage": None,
        "tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "store": True, "temperature": 1.0, "metadata": {},
    }  # fmt: skip
    pad = SIZE - len(json.dumps(known | {"instructions": ""}))
    return json.dumps(known | {"instructions": "x" * pad}).encode()


def completed(job_id: str) -> bytes:
    content = [{"type": "output_text", "text": "y" * 200, "annotations": []}]
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    usage = {"input_tokens": 12, "output_tokens": 50, "total_tokens": 62}
    answer = json.loads(in_progress(job_id)) | {"status": "completed", "output": [message], "usage": usage}
    return json.dumps(answer | {"instructions": None}).encode()


def id_of(number: int, ends_at: float | None) -> str:
    """The id of job `number`, which ends at `ends_at` (seconds since 1970; None: never)."""
    return f"resp_{NEVER if ends_at is None else int(ends_at * 1e3):012x}{number:036x}"


_ID = id_of(0, None)


def _split(answer: bytes) -> tuple[bytes, bytes]:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_0123456789abcdef\r\n"
    before, after = answer.split(_ID.encode())
    return head + b"content-length: %d\r\n\r\n" % len(answer) + before, after


_GOES_ON, _GOES_ON_END = _split(in_progress(_ID))
_COMPLETED, _COMPLETED_END = _split(completed(_ID))


class Stats:
    """What was asked; `late` is how long after a job's end the look came that saw it, in seconds, in all."""

    def __init__(self) -> None:
        self.posts = self.polls = self.ends = 0
        self.late = 0.0


class Connection(asyncio.Protocol):
    """Answers one request at a time. Of HTTP it knows what clients of a benchmark send."""

    def __init__(self, stats: Stats, delay: float, numbers: Callable[[], int]) -> None:
        self._stats = stats
        self._delay = delay
        self._number = numbers
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        if data.startswith(b"GET ") and data.endswith(b"\r\n\r\n"):
            self._rest = b""
            self._answer(self._look(data))
            return
        self._rest = data
        head, found, body = data.partition(b"\r\n\r\n")
        if found and len(body) >= _length(head):
            self._rest = b""
            self._answer(self._submit(body))

    def _answer(self, answer: bytes) -> None:
        assert self._transport is not None
        if self._delay:
            asyncio.get_running_loop().call_later(self._delay, self._write, answer)
        else:
            self._transport.write(answer)

    def _write(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():  # the client may have left
            self._transport.write(answer)

    def _look(self, request: bytes) -> bytes:
        path = request[4 : request.index(b" ", 4)]
        job_id = path[path.rfind(b"/") + 1 :]
        if job_id == b"_stats":
            told = json.dumps(vars(self._stats)).encode()
            return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(told), told)
        self._stats.polls += 1
        ends = job_id[5:17]
        if ends == b"ffffffffffff":
            return b"%b%b%b" % (_GOES_ON, job_id, _GOES_ON_END)
        late = time.time() - int(ends, 16) / 1e3
        if late < 0:
            return b"%b%b%b" % (_GOES_ON, job_id, _GOES_ON_END)
        self._stats.ends += 1
        self._stats.late += late
        return b"%b%b%b" % (_COMPLETED, job_id, _COMPLETED_END)

    def _submit(self, body: bytes) -> bytes:
        self._stats.posts += 1
        at = body.find(b"seconds=")
        ends_at = None
        if at >= 0:
            ends_at = time.time() + self._delay + float(body[at + 8 : at + 24].split(b'"', 1)[0])
        return b"%b%b%b" % (_GOES_ON, id_of(self._number(), ends_at).encode(), _GOES_ON_END)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


async def serve(delay: float) -> None:
    loop = asyncio.get_running_loop()
    stats, numbers, stopped = Stats(), itertools.count(1), asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopped.set)
    server = await loop.create_server(lambda: Connection(stats, delay, numbers.__next__), "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await stopped.wait()
    server.close()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--delay", type=float, default=0.0)
    options = parser.parse_args(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    factory = None
    with contextlib.suppress(ImportError):
        from uvloop import new_event_loop as factory
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(options.delay))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
