"""Arbitrary bytes in arbitrary cuts, straight into a connection: it always ends, the same however they were cut."""

import asyncio
import gzip
import socket

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchrun.core.responses.http import Cause
from batchrun.edge.exchange import Budget, Caps, ExchangeError
from batchrun.edge.transport.connection import Connection, ExchangeStage, Slots
from batchrun.edge.transport.own_transport import BufferedExchange
from batchrun.edge.transport.pool import ConnectionPool, parse_origin, shared_buffer
from tests.edge.hostile_server import answer

GOOD = [
    answer(200, {"id": "resp_1"}, x_request_id="req_1"),
    answer(200, gzip.compress(b'{"id": "resp_1"}'), content_encoding="gzip"),
    answer(404, b"no", connection="close"),
    b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n1\r\nd\r\n0\r\nt: 1\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nto the end",
    b"HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nxyz",
]
WORDS = [b"\r\n", b"\r\n\r\n", b"\n", b":", b"0", b"\x00", b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"HTTP/1.1 ", b"99999999999999999999", b"-1", b"; ", b"\xff" * 3, *GOOD]  # fmt: skip

edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 6), st.sampled_from(WORDS) | st.binary(max_size=5)), max_size=6
)
streams = st.binary(max_size=300) | st.builds(
    lambda good, made: edited(b"".join(good), made), st.lists(st.sampled_from(GOOD), min_size=1, max_size=3), edits
)
cuts = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def edited(data, made):
    """`data` with pieces cut out and others put in."""
    for where, gone, put in made:
        at = int(where * len(data))
        data = data[:at] + put + data[at + gone :]
    return data


class FakeTransport:
    """The transport of a connection that nothing is connected to."""

    def __init__(self):
        self.pair = socket.socketpair()
        self.aborted = False
        self.reading = True
        self.unwritten = 0

    def get_write_buffer_size(self):
        return self.unwritten

    def get_extra_info(self, name):
        return self.pair[0]

    def is_closing(self):
        return self.aborted

    def write(self, data):
        assert not self.aborted

    def abort(self):
        self.aborted = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


@pytest.fixture(scope="module")
def loop():
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def fake():
    made = FakeTransport()
    yield made
    for end in made.pair:
        end.close()


def outcome(loop, fake, data, sizes, method="GET", *, caps=Caps(body=9_999, error_body=9_999)):
    """What becomes of one exchange over `data`, cut by `sizes` over and over; and whether the connection is kept."""
    fake.aborted, fake.reading = False, True
    pool = ConnectionPool(parse_origin("http://x"), None, caps, max_open=2, view=shared_buffer())
    slots = Slots(1)
    slots.busy = 1
    exchange = BufferedExchange(slots, b"head", b"", method, loop.create_future(), caps, Budget(1000))
    connection = Connection(pool)
    connection.connection_made(fake)
    connection.send(exchange)
    at = turn = 0
    while at < len(data) and not fake.aborted:
        size = min(sizes[turn % len(sizes)], len(data) - at)
        pool.view[:size] = data[at : at + size]
        connection.buffer_updated(size)
        at, turn = at + size, turn + 1
    kept = not fake.aborted
    connection.eof_received()
    connection.connection_lost(None)
    assert exchange.stage is ExchangeStage.ENDED
    assert slots.busy == 0
    assert fake.reading
    assert not pool._open
    result = exchange.done.result()
    if isinstance(result, ExchangeError):
        assert result.cause in (Cause.PROTOCOL, Cause.DROPPED, Cause.TOO_LARGE)
        assert exchange.sent
        return result.cause, kept
    assert 200 <= result[0] <= 999
    assert len(result[2]) <= caps.body
    return result, kept


@settings(settings(), max_examples=5 * settings().max_examples)  # a millisecond or two each
@given(streams, cuts, st.sampled_from(["GET", "POST", "HEAD"]))
@example(GOOD[4] + b"x", [1], "GET")
@example(GOOD[0] + GOOD[0], [len(GOOD[0])], "GET")
@example(b"HTTP/1.1 200 OK\r\nx:" + b"y" * 200_000, [40], "GET")
@example(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;" + b"y" * 200_000, [40], "GET")
@example(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx:" + b"y" * 200_000, [40], "GET")
@example(b"HTTP/1.1 200 " + b"y" * 200_000, [40], "GET")
def test_it_always_ends_and_the_same_however_it_is_cut(loop, fake, data, sizes, method):
    expected, kept = outcome(loop, fake, data, [65_536], method)
    result, stays = outcome(loop, fake, data, sizes, method)
    assert result == expected
    assert kept or not stays, "what comes after an answer may come later, but it never keeps a connection"


def not_begun(loop, fake, body=b"body", method="POST"):
    """An exchange, a connection that may carry it, and their pool."""
    fake.aborted, fake.reading, fake.unwritten = False, True, 0
    caps = Caps()
    pool = ConnectionPool(parse_origin("http://x"), None, caps, max_open=2, view=shared_buffer())
    slots = Slots(1)
    slots.busy = 1
    exchange = BufferedExchange(slots, b"head", body, method, loop.create_future(), caps, Budget(1000))
    connection = Connection(pool)
    connection.connection_made(fake)
    return exchange, connection, pool


def on_its_way(loop, fake, body=b"body", method="POST"):
    exchange, connection, pool = not_begun(loop, fake, body, method)
    connection.send(exchange)
    return exchange, connection, pool


def test_what_is_good_is_read_in_any_cuts(loop, fake):
    for good, (status, body, kept) in zip(
        GOOD[:6],
        [(200, b'{"id": "resp_1"}', True), (200, b'{"id": "resp_1"}', True), (404, b"no", False), (204, b"", True), (200, b"abcd", True), (200, b"to the end", True)],
        strict=True,
    ):  # fmt: skip
        for size in range(1, len(good) + 1):
            result, stays = outcome(loop, fake, good, [size])
            assert (result[0], result[2], stays) == (status, body, kept)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_connection_that_the_other_side_closes_after_its_answer_is_not_kept(loop, fake, method):
    body = b"" if method == "HEAD" else b"x"
    for more, expected in (({}, True), ({"connection": "close"}, False)):
        raw = answer(200, b"x", **more).removesuffix(b"x") + body
        result, kept = outcome(loop, fake, raw, [65_536], method)
        assert (result[2], kept) == (body, expected)


@pytest.mark.parametrize(("left", "kept"), [(1, True), (0, False)])
def test_h16_a_connection_whose_response_filled_the_buffer_is_not_kept(loop, fake, left, kept):
    """TLS may hold more of what came, and nothing shows it."""
    caps = Caps()
    size = len(shared_buffer()) - left
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %06d\r\n\r\n"
    length = size - len(head % 0)
    result, stays = outcome(loop, fake, head % length + b"x" * length, [size], caps=caps)
    assert (len(result[2]), stays) == (length, kept)


def test_a_body_without_a_head_is_an_error_and_no_response(loop, fake):
    exchange, connection, _ = on_its_way(loop, fake)
    with pytest.raises(ExchangeError, match="before its body"):
        exchange.body_received(b"x")
    exchange.completed()
    assert exchange.done.result().cause is Cause.PROTOCOL
    connection.connection_lost(None)


def test_what_is_no_http_is_quoted_only_by_its_whole_first_line(loop, fake):
    """Of a line that was cut anywhere the API key in it could not be told, and would be shown."""
    for parts, quoted in (
        ([b"key sk-canary-4f9c\r\n"], ": key sk-canary-4f9c"),
        ([b"key sk-can", b"ary-4f9c\r\n"], ""),
        ([b"HTTP/1.1 200 OK\r\nx-echo: sk-can", b"ary\0-4f9c\r\n"], ""),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"sk-canary-4f9c\r\n"], ""),
    ):
        exchange, connection, pool = on_its_way(loop, fake)
        for part in parts:
            if not fake.aborted:
                pool.view[: len(part)] = part
                connection.buffer_updated(len(part))
        message = str(exchange.done.result())
        assert message.startswith("the response is not HTTP/1.1, ")
        assert message.endswith(quoted)
        assert bool(quoted) is ("ary" in message or "sk-" in message)
        connection.connection_lost(None)


def test_bytes_that_was_not_asked_for_end_the_connection(loop, fake):
    fake.aborted = False
    caps = Caps()
    pool = ConnectionPool(parse_origin("http://x"), None, caps, max_open=2, view=shared_buffer())
    connection = Connection(pool)
    connection.connection_made(fake)
    assert connection.is_usable()
    fake.pair[1].send(b"H")
    assert not connection.is_usable(), "even before the loop has read them"
    fake.pair[0].recv(1)
    connection.buffer_updated(1)
    assert fake.aborted


@pytest.mark.parametrize(
    ("error", "whole"), [(None, True), (ConnectionResetError(104, "reset"), False), (OSError("torn"), False)], ids=repr
)
def test_a_body_without_a_length_is_whole_only_where_its_connection_was_closed_in_good_order(loop, fake, error, whole):
    exchange, connection, pool = on_its_way(loop, fake)
    data = b"HTTP/1.1 200 OK\r\n\r\nall there is"
    pool.view[: len(data)] = data
    connection.buffer_updated(len(data))
    connection.connection_lost(error)
    result = exchange.done.result()
    assert (not isinstance(result, ExchangeError)) is whole
    assert exchange.sent


def test_a_connection_that_was_not_read_for_want_of_memory_is_read_again_for_the_next_exchange(loop, fake):
    exchange, connection, pool = on_its_way(loop, fake, b"", "GET")
    exchange._budget.set_handed_over(2_000)
    data = answer(200, b"x" * 30)
    for part, reading in ((data[:-10], False), (data[-10:], True)):
        pool.view[: len(part)] = part
        connection.buffer_updated(len(part))
        assert fake.reading is reading
    assert exchange.done.result()[2] == b"x" * 30
    assert not fake.aborted
    connection.connection_lost(None)


@pytest.mark.parametrize("how", ["closing", "closed"])
def test_what_comes_upon_a_connection_that_ends_at_that_moment_was_not_sent(loop, fake, how):
    exchange, connection, _ = not_begun(loop, fake)
    fake.aborted = True
    if how == "closed":
        connection.connection_lost(None)
    connection.send(exchange)
    if how == "closing":
        connection.connection_lost(None)
    error = exchange.done.result()
    assert (error.cause, exchange.sent, exchange.slots.busy) == (Cause.DROPPED, False, 0)


@pytest.mark.parametrize(
    ("size", "blocked", "buffered", "kept"),
    [(10, False, 0, True), (10, False, 1, False), (200_000, False, 0, True), (200_000, True, 0, False)],
    ids=["sent", "in the buffer of the transport", "sent in pieces", "in our own hands"],
)
def test_a_connection_whose_request_is_not_sent_in_full_is_not_kept(loop, fake, size, blocked, buffered, kept):
    exchange, connection, pool = not_begun(loop, fake, bytes(size))
    fake.unwritten = buffered
    if blocked:
        connection.pause_writing()
    connection.send(exchange)
    data = answer(413, b"too large")
    pool.view[: len(data)] = data
    connection.buffer_updated(len(data))
    fake.unwritten = 0
    assert exchange.done.result()[0] == 413
    assert fake.aborted is not kept
    connection.connection_lost(None)


def test_trailers_and_extensions_without_end_are_capped(loop, fake):
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    for endless in (b"1;" + b"y" * 400_000, b"0\r\nx: " + b"y" * 400_000, b"0\r\n" + b"x: y\r\n" * 80_000):
        result, kept = outcome(loop, fake, head + endless, [4_096])
        assert (result, kept) == (Cause.PROTOCOL, False)
