"""Hostile services on every HTTP transport: HTTP that is not quite HTTP, echoes, cookies, redirects (h04 to h08, h11 to h15)."""

import asyncio
import base64
import json
import logging
from urllib.parse import quote

import pytest

from batchrun.core.responses.http import Answer, Cause, Failure, Request
from batchrun.core.responses.outcome import Ended
from batchrun.core.responses.verdict import JobReport, Unclear, read_poll
from batchrun.core.settings.settings import Secret
from batchrun.edge import httpx_transport as httpx_module
from batchrun.edge.redaction import Redactor
from tests.cost import costs_at_most
from tests.edge.hostile_server import HostileServer, always, answer
from tests.edge.transports import GET, OURS, POST, TRANSPORTS, exchanged

CANARY = "sk-canary/+&4f9c0e7ab1"
DONE = {"id": "resp_1", "status": "completed", "output": []}


@pytest.fixture(params=TRANSPORTS)
def transport(request):
    return TRANSPORTS[request.param]


@pytest.fixture(params=OURS)
def ours(request):
    return OURS[request.param]


def one(open_transport, script, request=GET, **options):
    (result,) = exchanged(open_transport, HostileServer(script), request, **options)
    return result


def chunked(*chunks):
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


# --- h04, h05, h15: HTTP that is not quite HTTP ---


@pytest.mark.parametrize(
    "head",
    ["content-length: 50", "content-length: 2\r\ncontent-length: 3", "content-length: -2", "content-length: two", "content-length: 2, 3", "content-length: 2\r\ntransfer-encoding: chunked", "transfer-encoding: gzip, chunked", "content-length: +2"],
)  # fmt: skip
def test_h04_a_length_that_cannot_be_is_no_answer(transport, head):
    body = b"2\r\n{}\r\n0\r\n\r\n" if "chunked" in head else b"{}"
    failure = one(transport, f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body)
    assert failure.sent
    assert failure.cause in (Cause.PROTOCOL, Cause.DROPPED)


def test_h04_an_answer_that_was_there_before_its_request_is_never_taken_for_its_answer(transport):
    smuggled = answer(200, {"id": "resp_other", "status": "completed"})

    async def script(talk):
        while await talk.request():
            await talk.send(answer(200, {"id": "resp_1"}) + smuggled)

    first, second, third = exchanged(transport, HostileServer(script), GET, GET, GET)
    assert b"resp_1" in first.body
    assert b"resp_1" in second.body, second  # on a new connection, as there was more on the first
    assert b"resp_1" in third.body


@pytest.mark.parametrize("name", ["httpx", "client", "transport", "httpx2"])
def test_h04_nor_is_it_where_nothing_shows_that_it_is_there(name, monkeypatch):
    monkeypatch.setattr(httpx_module, "may_hold_more", lambda response: False)
    right = answer(200, {"id": "resp_1"})

    async def script(talk):
        while await talk.request():
            await talk.send(right + answer(200, {"id": "resp_other", "status": "completed"}))

    _, second, third = exchanged(TRANSPORTS[name], HostileServer(script), GET, GET, GET)
    assert isinstance(second, Failure)
    assert second.sent
    assert "before its request" in second.message
    assert b"resp_1" in third.body


@pytest.mark.parametrize(
    "head",
    ["\r\n".join(f"x-{n}: y" for n in range(10_000)), "x-long: " + "y" * 1_000_000, "x-long: " + "y" * 80_000],
    ids=["10,000", "1 MB", "80 KB"],
)
def test_h05_headers_are_capped_and_no_result_is_written_off_for_them(transport, head):
    failure = one(transport, f"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{head}\r\n\r\n{{}}".encode())
    assert failure.cause is Cause.PROTOCOL
    assert isinstance(read_poll(failure, 0.0, "resp_1"), Unclear)


def test_h05_one_byte_chunks_take_linear_time(ours):
    def reading(count):
        raw = chunked(*[b"x"] * count)

        def read():
            assert one(ours, raw).body == b"x" * count

        return read

    reading(100)()
    assert costs_at_most(9, reading(32_000), reading(8_000)), "4 times the chunks: 4 if linear, 16 if quadratic"


@pytest.mark.parametrize(
    ("head", "readable"),
    [
        ("HTTP/1.0 200 OK", True),
        ("HTTP/1.1 200", True),
        ("HTTP/1.1 200 ", True),
        ("http/1.1 200 ok", False),
        ("HTTP/1.1  200 OK", False),
        ("HTTP/2 200 OK", False),
        ("HTTP/1.1 20 OK", False),
        ("HTTP/1.1 200 OK\r\nbad name: x", False),
    ],
)
def test_h15_odd_first_lines_are_read_or_are_a_protocol_error(transport, head, readable):
    got = one(transport, f"{head}\r\ncontent-length: 2\r\n\r\n{{}}".encode())
    assert isinstance(got, Answer) is readable
    assert readable or (got.sent and got.cause is Cause.PROTOCOL)


# --- h06, h07: what the body says ---


@pytest.mark.parametrize(
    ("kind", "raw", "read"),
    [
        ("text/html", json.dumps(DONE).encode(), True),
        ("image/png", json.dumps(DONE).encode(), True),
        ("application/json; charset=utf-16", json.dumps(DONE).encode("utf-16"), True),
        ("application/json", b"\x89PNG\r\n", False),
        ("application/json", b"", False),
    ],
)
def test_h06_json_is_known_by_its_content(transport, kind, raw, read):
    verdict = read_poll(one(transport, answer(200, raw, content_type=kind)), 0.0, "resp_1")
    assert isinstance(verdict, JobReport if read else Unclear)


A_MILLION_KEYS = (
    b'{"id": "resp_1", "status": "completed", ' + b", ".join(b'"k%d": 1' % n for n in range(1_000_000)) + b"}"
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "body",
    [
        A_MILLION_KEYS,
        b'{"id": "resp_1", "status": "completed", "output": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 100_000,
    ],
    ids=["a million keys", "deep", "deep and open"],
)
def test_h07_a_body_made_to_be_slow_is_read_in_no_time_or_refused(body):
    got = one(OURS["own"], answer(200, body))
    verdict = read_poll(got, 0.0, "resp_1")
    assert costs_at_most(2, lambda: read_poll(got, 0.0, "resp_1"), lambda: json.loads(A_MILLION_KEYS))
    assert isinstance(verdict, Unclear) or isinstance(verdict.outcome, Ended)


# --- h08, h11: nothing is kept, nothing is followed ---


def test_h08_cookies_are_never_sent_back(transport):
    server = HostileServer(always(answer(200, b"{}", set_cookie="session=1; Path=/")))
    for got in exchanged(transport, server, GET, POST, GET):
        assert "set-cookie" not in got.headers
    assert [received.header("cookie") for received in server.received] == [None, None, None]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_h11_no_redirect_is_followed_and_no_key_leaves_the_origin(transport, status):
    request = Request("POST", "/v1/responses", {"authorization": f"Bearer {CANARY}", "api-key": CANARY}, b"{}")

    async def main():
        elsewhere = HostileServer(always(answer(200, DONE)), host="127.0.0.2")
        async with elsewhere:
            places = [elsewhere.origin, elsewhere.origin.replace("http:", "https:"), "//127.0.0.2:1/x"]
            scripts = iter([answer(status, b"", location=f"{place}/v1/responses") for place in places])

            async def script(talk):
                while await talk.request():
                    await talk.send(next(scripts))

            async with HostileServer(script) as here, transport(here.origin) as opened:
                answers = [await opened.exchange(request, 30.0) for _ in places]
            assert (elsewhere.connections, len(here.received)) == (0, 3)
            return answers

    assert [got.status for got in asyncio.run(main())] == [status] * 3


# --- h12, h13: what is said of it ---


ECHOES = {
    "exact": CANARY,
    "JSON": json.dumps({"error": {"message": f"bad key {CANARY}"}}),
    "URL": quote(CANARY, safe=""),
    "url": quote(CANARY, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
    "base64": base64.b64encode(CANARY.encode()).decode(),
    "basic": base64.b64encode(f"user:{CANARY}".encode()).decode(),
    "basic1": base64.b64encode(f"u:{CANARY}:x".encode()).decode(),
    "url-safe": base64.urlsafe_b64encode(f"abc{CANARY}".encode()).decode(),
}


@pytest.mark.parametrize("form", ECHOES)
def test_h12_an_echo_of_the_key_does_not_pass(transport, form, caplog):
    caplog.set_level(logging.DEBUG)
    echo = ECHOES[form]
    redactor = Redactor([Secret(CANARY, "OPENAI_API_KEY")])
    request = Request("POST", "/v1/responses", {"authorization": f"Bearer {CANARY}"}, b"{}")
    scripts = [
        answer(401, f"<{echo}>".encode(), x_request_id=echo),
        b"HTTP/1.1 " + echo.encode() + b"\r\n\r\n",
        answer(200, b"{}", content_encoding=echo),
    ]
    texts = [repr(one(transport, script, request, redactor=redactor)) for script in scripts]
    assert all("[redacted]" in text for text in texts)
    for text in (*texts, caplog.text):
        for canary in (CANARY, quote(CANARY, safe=""), base64.b64encode(CANARY.encode()).decode()[:20]):
            assert canary not in text
        assert echo.strip("=")[8:-4] not in text


def test_h12_a_placeholder_key_does_not_change_results():
    redactor = Redactor([Secret("anything", "OPENAI_API_KEY"), Secret("EMPTY", "x")])
    body = b'{"output_text": "anything goes; EMPTY"}'
    assert redactor.raw(body) is body


def test_h13_nothing_in_a_failure_moves_a_terminal(transport):
    failure = one(transport, b"HTTP/1.1 \x1b]52;c;aGk=\x07\x1b[2J \xe2\x80\xae x\r\r\n\r\n")
    assert failure.message.isprintable()
    assert "52;c" in failure.message


def test_h13_nothing_in_a_failure_of_reading_moves_a_terminal(ours):
    failure = one(ours, answer(200, b"{}", content_encoding="\x85\x9b2J\xad"))
    assert failure.message.isprintable()
