"""Our own transport in what only it does: dialing, deadlines, TLS sessions, its pool under load, both event loops."""

import asyncio
import socket
import ssl
import time

import pytest
import trustme
import uvloop

from batchrun.core.responses.http import Answer, Cause, Request
from batchrun.core.settings.settings import UsageError
from batchrun.edge.exchange import POLL_KEEPALIVE, POST_KEEPALIVE
from batchrun.edge.transport import OwnTransport
from batchrun.edge.transport import pool as dialing
from batchrun.edge.transport.own_transport import Deadlines
from batchrun.edge.transport.pool import parse_origin
from tests.edge.hostile_server import HostileServer, always, answer
from tests.edge.transports import GET, POST, exchanged, own


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine on one of both loops."""

    def runs(work):
        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(work)

    return runs


# --- dialing ---


def addresses_of(monkeypatch, *hosts):
    """`getaddrinfo` of either loop finds these addresses, of any family, for any name."""
    found = [
        (socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", host)
        for host in hosts
    ]

    async def getaddrinfo(_host, port, **_options):
        return [(family, kind, proto, name, (host, port)) for family, kind, proto, name, host in found]

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(type(loop), "getaddrinfo", lambda _self, host, port, **options: getaddrinfo(host, port, **options), raising=False)  # fmt: skip


def slow_to(monkeypatch, *hosts):
    """Connecting to these takes for ever."""
    joined = dialing._connect

    async def hangs(address):
        if address[3][0] in hosts:
            await asyncio.Event().wait()
        return await joined(address)

    monkeypatch.setattr(dialing, "_connect", hangs)


@pytest.mark.parametrize("slow", [(), ("::1",), ("::1", "127.0.0.3")])
def test_the_first_address_that_answers_is_taken(slow, monkeypatch):
    monkeypatch.setattr(dialing, "ATTEMPT_DELAY", 0.01)

    async def main():
        async with HostileServer(always(answer(200, b"x"))) as server:
            addresses_of(monkeypatch, "::1", "127.0.0.3", "127.0.0.1")
            slow_to(monkeypatch, *slow)
            async with own(f"http://service.example:{server.port}") as transport:
                return await transport.exchange(GET, 30.0), server.received[0].header("host")

    got, host = asyncio.run(main())
    assert isinstance(got, Answer)
    assert host.startswith("service.example:")


def test_where_no_address_answers_the_first_one_s_error_is_reported(monkeypatch):
    async def main():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        addresses_of(monkeypatch, "127.0.0.1", "127.0.0.2")
        async with own(f"http://service.example:{port}") as transport:
            return await transport.exchange(POST, 30.0)

    failure = asyncio.run(main())
    assert (failure.sent, failure.cause) == (False, Cause.CONNECT)
    assert "refused" in failure.message


def test_families_take_turns():
    four, six = (socket.AF_INET, 1, 6, "4"), (socket.AF_INET6, 1, 6, "6")
    assert dialing.interleaved([six, six, six, four, four]) == [six, four, six, four, six]
    assert dialing.interleaved([]) == []


@pytest.mark.parametrize(
    ("origin", "host", "port", "named"),
    [
        ("https://a.example", "a.example", 443, b"a.example"),
        ("https://a.example:443", "a.example", 443, b"a.example"),
        ("http://a.example:8080", "a.example", 8080, b"a.example:8080"),
        ("http://[::1]", "::1", 80, b"[::1]"),
        ("https://[fe80::1]:8443", "fe80::1", 8443, b"[fe80::1]:8443"),
        ("https://bücher.example", "xn--bcher-kva.example", 443, b"xn--bcher-kva.example"),
    ],
)
def test_a_place_is_named_as_http_wants_it(origin, host, port, named):
    place = parse_origin(origin)
    assert (place.host, place.port, place.host_header) == (host, port, named)


@pytest.mark.parametrize(
    "origin", ["ftp://a", "https://", "https://a/path", "https://u:p@a", "a.example", "https://a:x"]
)
def test_what_is_no_origin_is_refused(origin):
    with pytest.raises(UsageError, match="expected an origin such as"):
        OwnTransport(origin)


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "/x\r\nx: y", {}),
        Request("GET", "/x y", {}),
        Request("GET", "/ü", {}),
        Request("GET\r\n", "/", {}),
        Request("CONNECT", "/", {}),
        Request("GET", "/", {"x": "1\r\ny: 2"}),
        Request("GET", "/", {"x": "1\n"}),
        Request("GET", "/", {"x": "\x00"}),
        Request("GET", "/", {"x\r\ny": "1"}),
        Request("GET", "/", {"x": "\u20ac"}),
        Request("GET", "/", {"": "1"}),
    ],
    ids=repr,
)
def test_nothing_that_could_be_read_as_another_line_is_sent(request_):
    server = HostileServer(b"")
    (failure,) = exchanged(own, server, request_)
    assert (failure.sent, failure.cause, server.connections) == (False, Cause.PROTOCOL, 0)
    assert failure.message.isprintable()


# --- deadlines ---


class Timers:
    """The timers of a loop, on a clock that is turned by hand."""

    def __init__(self):
        self.now = 0.0
        self._set = []

    def time(self):
        return self.now

    def call_at(self, when, act, *arguments):
        timer = asyncio.TimerHandle(when, act, arguments, self)
        self._set.append(timer)
        return timer

    def call_later(self, delay, act, *arguments):
        return self.call_at(self.now + delay, act, *arguments)

    def _timer_handle_cancelled(self, timer):
        self._set.remove(timer)

    def get_debug(self):
        return False

    def call_exception_handler(self, context):
        raise context["exception"]

    def turn(self, until):
        while self._set and (timer := min(self._set)).when() <= until:
            self._set.remove(timer)
            self.now = max(self.now, timer.when())
            timer._run()
        self.now = until


def test_each_timeout_is_kept_by_one_timer():
    loop, late = Timers(), []
    deadlines = Deadlines(lambda one, timeout: late.append((one, timeout, loop.now)))
    deadlines.add("never", 60.0, loop)
    for name in ("a", "removed", "b"):
        deadlines.add(name, 2.0, loop)
    deadlines.add("c", 1.0, loop)
    loop.turn(0.5)
    deadlines.add("d", 2.0, loop)
    deadlines.remove("removed", 2.0)
    deadlines.remove("unknown", 7.0)
    loop.turn(5.0)
    assert late == [("c", 1.0, 1.0), ("b", 2.0, 2.0), ("a", 2.0, 2.0), ("d", 2.0, 2.5)]
    assert list(deadlines._timers) == [60.0], "no timer is left where nothing waits"
    deadlines.add("again", 1.0, loop)
    loop.turn(6.0)
    assert late[-1] == ("again", 1.0, 6.0)
    deadlines.clear()
    loop.turn(100.0)
    assert late[-1][0] == "again"


def test_a_flood_of_1xx_ends_at_the_deadline(run):
    async def flood(talk):
        await talk.request()
        while True:  # only a deadline ends it
            await talk.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    async def main():
        for limit in (0.2, 2.0, 20.0):  # the next one where this machine was too slow to send the request in time
            async with HostileServer(flood) as server, own(server.origin) as transport:
                begun = time.monotonic()
                failure = await transport.exchange(POST, limit)
                assert time.monotonic() - begun > 0.9 * limit
                if server.received:
                    return failure
        return None

    failure = run(main())
    assert (failure.sent, failure.cause) == (True, Cause.TIMEOUT)


# --- the pool ---


def test_a_large_request_is_sent_as_the_other_side_takes_it(run):
    body = bytes(range(256)) * 65_536  # 16 MiB

    async def main():
        go = asyncio.Event()

        async def script(talk):
            talk.writer.transport.pause_reading()
            await go.wait()
            talk.writer.transport.resume_reading()
            received = await talk.request()
            await talk.send(answer(200, {"same": received.body == body}))

        async with HostileServer(script) as server, own(server.origin) as transport:
            task = asyncio.create_task(transport.exchange(Request("POST", "/", {}, body), 50.0))
            await server.wait_connected(1)
            while not transport._pool._open:
                await asyncio.sleep(0.001)
            (connection,) = transport._pool._open
            while not connection._transport.get_write_buffer_size():
                await asyncio.sleep(0.001)
            assert connection._transport.get_write_buffer_size() < 1 << 20, "the rest waits where it is"
            go.set()
            return await task

    assert run(main()).body == b'{"same": true}'


class Clock:
    """What the pool takes for the time since the machine was started; the loop's clock runs on beside it."""

    now = 1_000.0

    def gettime(self, which):
        assert which == getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC), "others stand still while the machine is suspended"  # fmt: skip
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(time, "clock_gettime", made.gettime)
    return made


def test_idle_connections_give_way_and_old_ones_are_closed(clock):
    async def main():
        async with HostileServer(always(answer(200, b"x"))) as server, own(server.origin, connections=4) as transport:
            await asyncio.gather(*(transport.exchange(GET, 20.0) for _ in range(4)))
            assert len(transport._pool._open) == 4
            for _ in range(6):
                clock.now += POLL_KEEPALIVE / 3
                await transport.exchange(GET, 20.0)
                await asyncio.sleep(0.01)
            assert (len(transport._pool._open), server.connections) == (1, 4)
            clock.now += POLL_KEEPALIVE + 0.1
            await transport.exchange(GET, 20.0)
            assert server.connections == 5

    asyncio.run(main())


@pytest.mark.parametrize(
    ("request_", "keepalive"), [(GET, POLL_KEEPALIVE), (POST, POST_KEEPALIVE)], ids=["GET", "POST"]
)
def test_a_connection_is_used_until_it_was_idle_for_too_long_and_each_answer_counts_again(clock, request_, keepalive):
    async def main():
        async with HostileServer(always(answer(200, b"x"))) as server, own(server.origin) as transport:
            for _ in range(3):
                await transport.exchange(request_, 20.0)
                clock.now += keepalive - 0.1
            assert server.connections == 1
            await transport.exchange(request_, 20.0)
            clock.now += keepalive + 0.1
            await transport.exchange(request_, 20.0)
            assert server.connections == 2

    asyncio.run(main())


def test_polls_that_hang_do_not_keep_submits_from_going():
    async def script(talk):
        while received := await talk.request():
            if received.method == "GET":
                await talk.hold()
            await talk.send(answer(200, b"x"))

    async def main():
        async with HostileServer(script) as server, own(server.origin, connections=2) as transport:
            looks = [asyncio.create_task(transport.exchange(GET, 600.0)) for _ in range(5)]
            await server.wait_received(2)
            assert isinstance(await transport.exchange(POST, 30.0), Answer)
            await transport.aclose()
            ended = await asyncio.gather(*looks)
            return [one.sent for one in ended], server.connections

    assert asyncio.run(main()) == ([True, True, False, False, False], 3)


def test_a_connection_that_was_closed_meanwhile_is_not_used(run):
    async def once(talk):
        await talk.request()
        await talk.send(answer(200, b"x"))

    async def main():
        async with HostileServer(once) as server, own(server.origin) as transport:
            for _ in range(50):
                got = await transport.exchange(POST, 30.0)
                assert isinstance(got, Answer)
                (talk,) = server._talks or (None,)
                if talk is not None:
                    await asyncio.wait([talk])
                await asyncio.sleep(0)  # the farewell is on its way, whether the loop has read it or not

    run(main())


def test_closing_ends_what_is_under_way_and_later_exchanges_fail(run):
    async def main():
        async def silent(talk):
            await talk.request()
            await talk.hold()

        async with HostileServer(silent) as server:
            transport = OwnTransport(server.origin, connections=1)
            under_way = [asyncio.create_task(transport.exchange(request, 50.0)) for request in (POST, GET, GET)]
            await server.wait_received(2)
            await transport.aclose()
            ended = [await one for one in under_way]
            later = await transport.exchange(GET, 1.0)
            return [(one.sent, one.cause) for one in (*ended, later)]

    assert run(main()) == [(True, Cause.DROPPED)] * 2 + [(False, Cause.DROPPED)] * 2


def test_closing_while_connecting(run):
    async def main():
        async with HostileServer(lambda talk: talk.hold()) as server:
            transport = OwnTransport(server.origin.replace("http:", "https:"))
            task = asyncio.create_task(transport.exchange(POST, 30.0))
            await server.wait_connected(1)
            await transport.aclose()
            return await task

    failure = run(main())
    assert (failure.sent, failure.cause) == (False, Cause.DROPPED)


def test_what_was_given_up_while_it_connected_is_never_sent(run, monkeypatch):
    """Whoever gave it up was told that nothing was sent, and may send it again."""
    joined = dialing._connect

    async def main():
        go = asyncio.Event()

        async def later(address):
            await go.wait()
            return await joined(address)

        monkeypatch.setattr(dialing, "_connect", later)
        async with HostileServer(always(answer(200, b"x"))) as server, own(server.origin) as transport:
            task = asyncio.create_task(transport.exchange(POST, 20.0))
            while not transport._pool._dials:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            go.set()
            for _ in range(3):  # that which was given up would have come before these
                assert isinstance(await transport.exchange(GET, 20.0), Answer)
            return [one.method for one in server.received]

    assert run(main()) == ["GET"] * 3


def test_cancelled_while_it_connects_or_waits(run):
    async def main():
        async with HostileServer(lambda talk: talk.hold()) as server:  # noqa: SIM117
            async with own(server.origin.replace("http:", "https:"), connections=1) as transport:
                task = [asyncio.create_task(transport.exchange(GET, 30.0)) for _ in range(3)]
                await server.wait_connected(1)
                for one in task:
                    one.cancel()
                assert all(isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*task, return_exceptions=True))  # fmt: skip
                assert transport._poll_slots.busy == 0

    run(main())


def test_given_up_in_any_round_of_a_connection_s_making_it_can_be_closed(run):
    """uvloop closes what was connected in the very round of the cancel, and tells its protocol nothing."""

    async def main():
        async with HostileServer(lambda talk: talk.hold()) as server:
            for rounds in range(40):
                transport = OwnTransport(server.origin)
                task = [asyncio.create_task(transport.exchange(GET, 30.0)) for _ in range(4)]
                for _ in range(rounds):
                    await asyncio.sleep(0)
                for one in task:
                    one.cancel()
                await asyncio.gather(*task, return_exceptions=True)
                await asyncio.wait_for(transport.aclose(), 30)

    run(main())


# --- TLS ---


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_sessions_are_resumed(run, authority, tmp_path, version):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = context.maximum_version = version
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    resumed = []

    async def script(talk):
        await talk.request()
        resumed.append(talk.writer.get_extra_info("ssl_object").session_reused)
        await talk.send(answer(200, b"x"))
        await talk.request()

    async def main():
        async with HostileServer(script, tls=context) as server:  # noqa: SIM117
            async with own(server.origin, environment={"SSL_CERT_FILE": str(tmp_path / "ca.pem")}) as transport:
                for _ in range(3):
                    assert isinstance(await transport.exchange(POST, 30.0), Answer)
                    await transport.drop_idle()

    run(main())
    assert resumed == [False, True, True]


def test_a_server_that_hangs_up_in_the_handshake_is_named(run):
    async def main():
        async with HostileServer(lambda talk: talk.reader.read(10)) as server:  # noqa: SIM117
            async with own(server.origin.replace("http:", "https:")) as transport:
                return await transport.exchange(POST, 30.0)

    failure = run(main())
    assert not failure.sent
    assert failure.message.endswith(("closed the connection; nothing was sent", "reset by peer; nothing was sent"))
