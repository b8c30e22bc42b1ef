"""What follows a response is never taken for the next one, wherever the reads of TLS end."""

import asyncio
import contextlib
import random
import socket
import ssl
import threading

import pytest
import trustme
import uvloop

from batchrun.core.responses.http import Answer, Request
from batchrun.edge.transport import pool
from tests.edge.hostile_server import HostileServer, answer
from tests.edge.transports import OURS

BUFFER = 64 * 1024  # bytes that are read at a time without TLS
RECORD = 16 * 1024  # bytes of plaintext in a TLS record
OVERHEAD = 22  # bytes that TLS 1.3 adds to a record
TLS_READ = 256 * 1024  # bytes that asyncio and uvloop read from a socket at once
ENCRYPTED = TLS_READ - (TLS_READ // RECORD) * OVERHEAD  # bytes of plaintext that fill such a read
ENDS = [RECORD, BUFFER, 2 * BUFFER, ENCRYPTED, TLS_READ, TLS_READ + BUFFER]

POISON = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"
TAILS = {
    "nothing": b"",
    "an answer": POISON,
    "an empty line": b"\r\n",
    "an empty line and an answer": b"\r\n" + POISON,
    "one byte": b"H",
    "more than a record": POISON * 600,
}
ROOM = 4 * 1024 * 1024  # bytes of the sockets' buffers: a response and what follows it are there when they are read


def sized(size):
    """A response of `size` bytes in all."""
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %06d\r\n\r\n"
    length = size - len(head % 0)
    return head % length + b"x" * length


def chunked(size):
    """The same in chunks."""
    start, end = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"\r\n0\r\n\r\n"
    length = size - len(start) - len(end) - len("000000\r\n")
    return start + b"%06x\r\n" % length + b"x" * length + end


async def answers(name, environment, tls, cases):
    """The number of connections, and (case, what became of the three requests after it) for each of `cases`."""

    async def script(talk):
        talk.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
        while received := await talk.request():
            case = received.path[1:]
            await talk.send(cases[int(case)] if case.isdecimal() else answer(200, received.path.encode()))

    ended = []
    async with HostileServer(script, tls=tls) as server:  # noqa: SIM117
        async with OURS[name](server.origin, environment=environment, connections=1) as transport:
            for case in range(len(cases)):
                get = [Request("GET", path, {}) for path in (f"/{case}", "/waits", "/waits")]  # for the connection
                first, *waited = await asyncio.gather(*(transport.exchange(one, 60.0) for one in get))
                later = await transport.exchange(Request("GET", "/later", {}), 60.0)
                ended.append((first, *waited, later))
    return server.connections, ended


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return context, {"SSL_CERT_FILE": str(path)}


@pytest.fixture(autouse=True)
def room(monkeypatch):
    connect = pool._connect

    async def connected(address):
        made = await connect(address)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        return made

    monkeypatch.setattr(pool, "_connect", connected)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(("name", "buffer"), [("own", BUFFER), ("own", pool.BUFFER), ("httpx", 0)])
@pytest.mark.parametrize("tail", TAILS)
def test_h16_what_follows_a_response_is_never_taken_for_the_next_one(tls, loop, name, tail, buffer, monkeypatch):
    """At each end of a buffer, one byte before it and one after it, and anywhere."""
    monkeypatch.setattr(pool, "BUFFER", buffer)
    context, environment = tls
    anywhere = random.Random(16)
    sizes = [end + off for end in ENDS for off in (-1, 0, 1)] + [anywhere.randrange(200, TLS_READ) for _ in range(6)]
    cases = [make(size) + TAILS[tail] for make in (sized, chunked) for size in sizes]
    factory = uvloop.new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        connections, ended = runner.run(answers(name, environment, context, cases))
    for number, (first, *others) in enumerate(ended):
        case = f"{tail} after {sizes[number % len(sizes)]:,} bytes"
        assert isinstance(first, Answer), (case, first)
        assert set(first.body) == {ord("x")}, case
        assert all(isinstance(one, Answer) for one in others), (case, others)
        assert [one.body for one in others] == [b"/waits", b"/waits", b"/later"], case
    if tail == "nothing":
        assert connections < 10, "others are used again"


class Closing:
    """A server in a thread that closes its connection as soon as it has sent its answer."""

    def __init__(self, tls, *, notifies):
        self._tls, self._notifies = tls, notifies
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.origin = f"https://127.0.0.1:{self._socket.getsockname()[1]}"
        self.asked, self.closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self):
        with contextlib.suppress(OSError):  # it was closed
            while True:
                accepted, _ = self._socket.accept()
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
                with self._tls.wrap_socket(accepted, server_side=True) as connection:
                    size = int(connection.recv(65_536).split()[1][1:])
                    self.closed.clear()
                    self.asked.set()
                    connection.sendall(answer(200, b"x" * size, connection="close"))
                    if self._notifies:
                        connection.settimeout(0.0)
                        with contextlib.suppress(ssl.SSLError, OSError):  # it does not wait for the other side's
                            connection.unwrap()
                self.closed.set()


@pytest.mark.parametrize("notifies", [True, False], ids=["notifies", "ends"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("name", OURS)
def test_an_answer_is_whole_although_its_server_closes_at_once(tls, loop, name, notifies, caplog):
    """The end of the connection is seen while TLS holds what came before it."""
    context, environment = tls
    sizes, ended = [60_000, 250_000, 300_000, 400_000, 500_000, 700_000, 3_000_000], []

    async def main():
        async with OURS[name](server.origin, environment=environment) as transport:
            for size in sizes:
                asking = asyncio.create_task(transport.exchange(Request("GET", f"/{size}", {}), 60.0))
                while not server.asked.is_set():
                    await asyncio.sleep(0.001)
                server.asked.clear()
                server.closed.wait(0.2)  # the loop stands still: the answer and its end are there at once, if they fit
                ended.append(await asking)

    server = Closing(context, notifies=notifies)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
            runner.run(main())
    finally:
        server.close()
    assert [len(one.body) if isinstance(one, Answer) else one for one in ended] == sizes
    assert not caplog.records
