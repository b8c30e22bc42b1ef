"""A proxy that mistreats its connections: cuts, delays, FIN and RST at every moment; it counts what arrived.

One client asks one thing at a time. `fault` is what happens to the next exchange; `arrived` counts the bytes of
requests that came, whatever became of them.
"""

import asyncio
import contextlib
import re
import socket
import struct

# What happens, and how often; "how far" is a random share of the request or of the answer.
FAULTS = {
    "none": 40,  # only cuts and pauses
    "closed after the answer": 10,  # at a random moment, maybe when the next request is on its way
    "reset after the answer": 6,
    "nobody listens": 5,
    "reset at once": 5,
    "closed at once": 5,
    "reset within the request": 8,
    "closed within the request": 5,
    "reset within the response": 6,
    "closed within the response": 6,
    "silence": 2,
    "silence within the response": 2,
}


class FaultProxy:
    def __init__(self, upstream, rng):
        self.upstream = upstream
        self.rng = rng
        self.fault = "none"
        self.arrived = 0
        self._talks = set()
        self._server = None
        self._listens = False
        # Bound all the time, so that the port stays ours while nobody listens: connections take free ports.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._place.bind(("127.0.0.1", 0))
        self.port = self._place.getsockname()[1]

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        await self.close()
        self._place.close()

    async def set_fault(self, fault):
        """From the next exchange on."""
        self.fault = fault
        if fault == "nobody listens":
            await self.close()
        elif self._server is None:
            self._listens = True
            self._server = await asyncio.start_server(self._talk, "127.0.0.1", self.port, reuse_port=True)

    async def close(self):
        """No longer listen, and end all connections; once it returns, `arrived` is final."""
        server, self._server = self._server, None
        self._listens = False
        if server is not None:
            server.close()
        await self.settle()
        if server is not None:
            await server.wait_closed()

    async def settle(self):
        for task in self._talks:
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        for _ in range(3):  # their sockets are closed then, not only asked to be
            await asyncio.sleep(0)

    async def _talk(self, reader, writer):
        if not self._listens:  # accepted before, begun only now; nobody would end it any more
            writer.transport.abort()
            return
        self._talks.add(asyncio.current_task())
        up = None
        try:
            if self.fault.endswith("at once"):
                return
            up = await asyncio.open_connection("127.0.0.1", self.upstream)
            while await self._one(reader, writer, *up):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._talks.discard(asyncio.current_task())
            if self.fault.startswith("reset"):
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                writer.transport.abort()
            writer.close()
            if up is not None:
                up[1].transport.abort()

    async def _one(self, reader, writer, up_reader, up_writer):
        """One exchange; whether another may follow."""
        request = b""
        least = None  # bytes of the request after which the fault comes
        while (size := _size(request)) is None or len(request) < size:
            piece = await reader.read(self.rng.randint(1, 400))
            if not piece:
                return False
            self.arrived += len(piece)
            request += piece
            if self.fault.endswith("at once"):
                return False
            if self.fault.endswith("within the request"):
                least = least or self.rng.randint(1, 200)
                if len(request) >= least:
                    return False
        if self.fault == "silence":
            await asyncio.Event().wait()
        up_writer.write(request)
        answer = b""
        while (size := _size(answer)) is None or len(answer) < size:
            piece = await up_reader.read(65_536)
            if not piece:
                return False  # the test is over
            answer += piece
        within = self.fault.endswith("within the response")
        left = answer[: self.rng.randrange(len(answer))] if within else answer
        while left:
            size = self.rng.choice((1, 7, 80, 4_000))
            writer.write(left[:size])
            left = left[size:]
            await asyncio.sleep(self.rng.choice((0, 0, 0, 0, 0.0005)))
        if self.fault == "silence within the response":
            await asyncio.Event().wait()
        if self.fault.endswith("after the answer"):
            await asyncio.sleep(self.rng.choice((0, 0, 0.0003, 0.002)))
            return False
        return not within


def _size(message):
    """The length of a whole message that begins with `message`; None while its head is not complete."""
    head, end, _ = message.partition(b"\r\n\r\n")
    if not end:
        return None
    length = re.search(rb"(?i)content-length: *([0-9]+)", head)
    return len(head) + 4 + (int(length[1]) if length else 0)
