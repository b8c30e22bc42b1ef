"""The simulator on the wire: raw sockets against a real port."""

import asyncio
import json

import pytest

from batchrun.simulator import Scenario, Simulator, parse
from batchrun.simulator.scenario import ScenarioLimits

ROW = b'{"model":"gpt-5","input":"%b","background":true}'


def post(prompt=b"x", path=b"/v1/responses", extra=b""):
    body = ROW % prompt
    return b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n%b\r\n%b" % (path, len(body), extra, body)


def get(path, extra=b""):
    return b"GET %b HTTP/1.1\r\nhost: localhost\r\n%b\r\n" % (path, extra)


async def read_answer(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:-2])
    body = await reader.readexactly(int(headers["content-length"]))
    return int(lines[0].split()[1]), headers, body


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


def talk(conversation, scenario=""):
    """Run `conversation(simulator, reader, writer)` on a connection of its own."""

    async def run():
        given = parse(scenario) if isinstance(scenario, str) else scenario
        async with Simulator(given) as simulator:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(simulator.origin.rsplit(":", 1)[1]))
            try:
                return await conversation(simulator, reader, writer)
            finally:
                writer.close()

    return asyncio.run(run())


def test_a_connection_is_kept_and_every_answer_is_dated_and_numbered():
    async def conversation(simulator, reader, writer):
        numbers = set()
        for _ in range(3):
            writer.write(get(b"/v1/models"))
            status, headers, body = await read_answer(reader)
            assert (status, headers["content-type"], json.loads(body)["object"]) == (200, "application/json", "list")
            assert headers["date"].endswith(" GMT")
            numbers.add(headers["x-request-id"])
        assert len(numbers) == 3
        assert len(simulator.connections) == 1

    talk(conversation)


def test_pipelined_requests_are_answered_in_order_although_one_takes_time():
    async def conversation(simulator, reader, writer):
        writer.write(post(b"[[refuse http_500]]") + b"".join(get(b"/v1/nothing/%d" % i) for i in range(300)))
        assert (await read_answer(reader))[0] == 500
        for i in range(300):
            status, _, body = await read_answer(reader)
            assert (status, f"'nothing/{i}'" in body.decode()) == (404, True)

    talk(conversation, "[times]\npost = '30ms'")


def test_a_request_may_come_byte_by_byte():
    async def conversation(simulator, reader, writer):
        for byte in post(b"slow"):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await read_answer(reader))[0] == 200
        assert simulator.statistics.posts_of({"model": "gpt-5", "input": "slow"}) == 1

    talk(conversation)


@pytest.mark.parametrize(
    ("sent", "status", "says"),
    [
        (b"nonsense\r\n\r\n", 400, "expected an HTTP/1.1 request"),
        (
            b"GET /v1/models HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            400,
            "expected an HTTP/1.1",
        ),
        (b"POST /v1/responses HTTP/1.1\r\ncontent-length: 1001\r\n\r\n" + b"x" * 500, 413, "at most 1000 bytes"),
        (
            b"POST /v1/responses HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n400\r\n"
            + b"x" * 1024
            + b"\r\n0\r\n\r\n",
            413,
            "1000",
        ),
        (b"GET /v1/models HTTP/1.1\r\nx: " + b"x" * 70_000 + b"\r\n\r\n", 431, "headers of at most"),
        (b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nGET", 404, "nothing is at"),
    ],
)
def test_what_cannot_be_read_is_answered_and_the_connection_closed(sent, status, says):
    async def conversation(simulator, reader, writer):
        writer.write(sent)
        got, headers, body = await read_answer(reader)
        assert (got, headers["connection"]) == (status, "close")
        assert says in json.loads(body)["error"]["message"]
        assert await reader.read() == b""

    talk(conversation, Scenario(limits=ScenarioLimits(body=1000)))


def test_100_continue_head_and_connection_close():
    async def conversation(simulator, reader, writer):
        head, body = post(extra=b"expect: 100-continue\r\n").split(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await read_answer(reader))[0] == 200
        writer.write(b"HEAD /v1/models HTTP/1.1\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 405 ")
        writer.write(get(b"/v1/models", b"connection: close\r\n"))
        assert (await read_answer(reader))[1]["connection"] == "close"
        assert await reader.read() == b""

    talk(conversation)


@pytest.mark.parametrize(
    "line", [b"authorization: Bearer sk-1\r\n", b"Authorization: bearer sk-1\r\n", b"api-key: sk-1\r\n"]
)
def test_the_key_may_come_either_way(line):
    async def conversation(simulator, reader, writer):
        writer.write(get(b"/v1/models") + get(b"/v1/models", line))
        assert [(await read_answer(reader))[0] for _ in range(2)] == [401, 200]

    talk(conversation, "api_key = 'sk-1'")


def test_posts_in_flight_are_counted_also_of_a_client_that_went_away():
    async def conversation(simulator, reader, writer):
        port = int(simulator.origin.rsplit(":", 1)[1])
        others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        for i, (_, other) in enumerate(others):
            other.write(post(b"row %d" % i))
        await until(lambda: not (simulator.statistics.posts_in_flight < 4))
        for _, other in others:
            other.transport.abort()
        await until(lambda: not (simulator.statistics.posts_in_flight))
        assert simulator.statistics.peak_posts_in_flight == simulator.statistics.jobs == 4

    talk(conversation, "[times]\npost = '1h'")


def test_a_lost_answer_closes_the_connection():
    async def conversation(simulator, reader, writer):
        writer.write(post(b"[[refuse lost]]"))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await read_answer(reader)
        assert simulator.statistics.jobs == 1

    talk(conversation)
    talk(conversation, "[times]\npost = '20ms'")


def test_a_job_that_never_ends_keeps_its_synchronous_client_waiting_and_the_simulator_still_closes():
    async def conversation(simulator, reader, writer):
        body = b'{"model":"gpt-5","input":"[[stuck_running]]"}'
        writer.write(b"POST /v1/responses HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        await until(lambda: simulator.statistics.posts_in_flight)
        (connection,) = simulator.connections
        assert connection._busy
        assert connection._timer is None, "no answer will ever come"

    talk(conversation)


def test_a_client_that_does_not_read_is_not_written_to_without_bound():
    async def conversation(simulator, reader, writer):
        writer.transport.pause_reading()
        for _ in range(20):
            writer.write(get(b"/v1/models") * 2000)
        (connection,) = simulator.connections
        await until(lambda: connection._blocked and connection._reading_paused)
        assert 0 < simulator.statistics.answers[200] < 39_000
        writer.transport.resume_reading()
        for _ in range(40_000):
            assert (await read_answer(reader))[0] == 200

    talk(conversation)


# --- whom it listens to ---


def named(host, path=b"/v1/models"):
    return b"GET %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (path, host.encode())


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8377", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[2001:db8::1]:80", "127.0.0.1@evil.example", ""],
)  # fmt: skip
def test_a_page_whose_name_leads_here_learns_nothing(host):
    """A browser that was led to 127.0.0.1 by the name of a page sends that name (DNS rebinding)."""

    async def conversation(simulator, reader, writer):
        writer.write(named(host, b"/_books"))
        status, headers, body = await read_answer(reader)
        assert (status, headers["connection"]) == (421, "close")
        assert "Host" in json.loads(body)["error"]["message"]
        assert await reader.read() == b""
        assert simulator.statistics.polls == 0

    talk(conversation)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8377", "127.9.9.9", "localhost", "LOCALHOST:1", "sim.localhost:80", "[::1]:8377"]
)
def test_every_name_of_this_machine_is_served(host):
    async def conversation(simulator, reader, writer):
        for _ in range(2):
            writer.write(named(host))
            assert (await read_answer(reader))[0] == 200

    talk(conversation)


def test_one_that_listens_to_others_is_called_what_they_call_it():
    async def main():
        async with Simulator(parse(""), host="0.0.0.0") as simulator:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(simulator.origin.rsplit(":", 1)[1]))
            writer.write(named("build-7.example"))
            assert (await read_answer(reader))[0] == 200
            writer.close()

    asyncio.run(main())
