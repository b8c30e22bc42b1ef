"""Hostile services (h01 to h15 of the cases), on every wire: an answer or a failure in time, never more."""

import asyncio
import base64
import gzip
import json
import logging
import subprocess
import sys
import time
import zlib
from pathlib import Path
from urllib.parse import quote

import pytest

from batchrun.core.answer import Answer, Cause, Failure, Request
from batchrun.core.outcome import Ended
from batchrun.core.secret import Secret
from batchrun.core.verdict import Ambiguous, Seen, Unclear, read_poll, read_submit
from batchrun.edge.exchange import Caps
from batchrun.edge.exchange.redaction import Redactor
from tests.edge.hostile_server import HostileServer, always, answer
from tests.edge.wires import GET, POST, WIRES, exchanged, own

ROOT = Path(__file__).parent.parent.parent
SMALL = Caps(body=100_000, error_body=1_000)
CANARY = "sk-canary/+&4f9c0e7ab1"
DONE = {"id": "resp_1", "status": "completed", "output": []}


@pytest.fixture(params=WIRES)
def wire(request):
    return WIRES[request.param]


def one(open_wire, script, request=GET, **options):
    (result,) = exchanged(open_wire, HostileServer(script), request, **options)
    return result


def chunked(*chunks, status=200, coding=None):
    head = f"HTTP/1.1 {status} Word\r\ntransfer-encoding: chunked\r\n"
    head += f"content-encoding: {coding}\r\n" if coding else ""
    return head.encode() + b"\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def endless(head, block):
    async def script(talk):
        await talk.request()
        await talk.send(head)
        while True:
            await talk.send(block)

    return script


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


# --- h01, h02: sizes ---


@pytest.mark.parametrize(
    "head",
    [CHUNKED, b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n"],
    ids=["chunked", "to the end", "10 GB"],
)
def test_h01_an_endless_body_is_cut_at_the_cap(wire, head):
    block = b"10000\r\n" + b"x" * 65_536 + b"\r\n" if head == CHUNKED else b"x" * 65_536
    failure = one(wire, endless(head, block), caps=SMALL)
    assert (failure.sent, failure.cause) == (True, Cause.TOO_LARGE)
    assert "--max-body" in failure.message


def test_h01_an_endless_error_page_still_says_its_status(wire):
    got = one(wire, endless(CHUNKED.replace(b"200 OK", b"400 No"), b"10000\r\n" + b"x" * 65_536 + b"\r\n"), caps=SMALL)
    assert (got.status, got.body) == (400, b"x" * 1_000)


def test_h01_a_small_length_that_lies_is_not_believed_either(wire):
    got = one(wire, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}garbage")
    assert got.body == b"{}"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "x-gzip"])
def test_h02_a_bomb_is_cut_at_the_cap_of_the_decoded_size(wire, coding):
    bomb = zlib.compress(b"0" * 10_000_000) if coding == "deflate" else gzip.compress(b"0" * 10_000_000)
    failure = one(wire, answer(200, bomb, content_encoding=coding), caps=SMALL)
    assert failure.cause is Cause.TOO_LARGE


def test_h02_an_endless_coding_of_nothing_is_cut_too(wire):
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    start, nothing = squeeze.compress(b"") + squeeze.flush(zlib.Z_SYNC_FLUSH), b"\x00\x00\x00\xff\xff" * 10_000
    failure = one(
        wire, endless(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + start, nothing), caps=SMALL, timeout=1.0
    )
    assert failure.cause is Cause.TOO_LARGE


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "x-unheard-of"])
def test_h02_other_codings_are_refused(wire, coding):
    failure = one(wire, answer(200, gzip.compress(gzip.compress(b"{}")), content_encoding=coding))
    assert (failure.sent, failure.cause) == (True, Cause.PROTOCOL)
    assert coding in failure.message


@pytest.mark.parametrize("coding", ["gzip", "deflate", "identity"])
def test_h02_compression_that_was_not_asked_for_is_read(wire, coding):
    raw = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}[coding](b'{"id": "resp_1"}')
    assert one(wire, answer(200, raw, content_encoding=coding)).body == b'{"id": "resp_1"}'


@pytest.mark.parametrize("raw", [gzip.compress(b"{}" * 50)[:-9], b"not gzip at all"], ids=["cut off", "damaged"])
def test_h02_compression_that_is_broken_is_no_answer(wire, raw):
    assert one(wire, answer(200, raw, content_encoding="gzip")).cause is Cause.PROTOCOL


_MEMORY = """
import asyncio, resource, sys, zlib
from batchrun.edge.exchange import Caps
from tests.edge.hostile_server import HostileServer
from tests.edge.wires import GET, POST, WIRES, exchanged

def peak():
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20
    status = open("/proc/self/status").read()  # ru_maxrss counts the parent's memory too: it survives the exec
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024

squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
start = squeeze.compress(b"") + squeeze.flush(zlib.Z_FULL_FLUSH)
bomb = squeeze.compress(b"0" * 2**24) + squeeze.flush(zlib.Z_FULL_FLUSH)  # repeats for ever: 16 MiB in 16 KiB

def script(coding, block, first=b""):
    async def talk(conversation):
        await conversation.request()
        await conversation.send(b"HTTP/1.1 200 OK\\r\\n" + coding + b"\\r\\n" + first)
        while True:
            await conversation.send(block)
    return talk

BODY = 8 * 2**20
scripts = {"endless": script(b"", b"x" * 65536), "bomb": script(b"content-encoding: gzip\\r\\n", bomb * 8, start)}
wire = WIRES[sys.argv[1]]
exchanged(wire, HostileServer(b"HTTP/1.1 204 No\\r\\n\\r\\n"), GET, caps=Caps())
before = peak()
for name, talk in scripts.items():
    for request in (GET, POST, GET, POST):
        (result,) = exchanged(wire, HostileServer(talk), request, caps=Caps(body=BODY), timeout=20)
        assert result.cause == "too_large", result
print(peak() - before)
"""


@pytest.mark.parametrize("name", ["own", "httpx2"])
def test_h01_h02_memory_stays_flat_under_endless_bodies_and_bombs(name):
    env = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", _MEMORY, name], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 32, f"the peak grew by {done.stdout} MiB for a cap of 8"


# --- h03, h10: time ---


@pytest.mark.parametrize("where", ["headers", "body"])
def test_h03_one_byte_at_a_time_ends_at_the_deadline(wire, where):
    whole = answer(200, {"id": "resp_1"})
    at = 0 if where == "headers" else whole.index(b"\r\n\r\n") + 4

    async def script(talk):
        await talk.request()
        await talk.send(whole[:at])
        await talk.drip(whole[at:], 0.02)

    begun = time.monotonic()
    failure = one(wire, script, POST, timeout=0.12)
    assert (failure.sent, failure.cause) == (True, Cause.TIMEOUT)
    assert 0.1 < time.monotonic() - begun < 1.0


async def _reset(talk):
    await talk.request()
    talk.reset()


async def _reset_in_the_body(talk):
    await talk.request()
    await talk.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
    await asyncio.sleep(0.01)
    talk.reset()


@pytest.mark.parametrize(
    ("script", "causes"),
    [
        (_reset, {Cause.DROPPED}),
        (_reset_in_the_body, {Cause.DROPPED}),
        (lambda talk: talk.request(), {Cause.DROPPED}),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", {Cause.DROPPED}),
        (b"HTTP/1.1 200 OK\r\ncontent-type: te", {Cause.DROPPED, Cause.PROTOCOL}),
        (lambda talk: talk.hold(), {Cause.TIMEOUT}),
    ],
    ids=["reset", "reset in the body", "closed", "closed after headers", "closed in headers", "half-open"],
)
def test_h10_a_connection_that_dies_ends_at_the_deadline_at_the_latest(wire, script, causes):
    failure = one(wire, script, POST, timeout=0.2)
    assert failure.sent
    assert failure.cause in causes
    assert isinstance(read_submit(failure, 0.0), Ambiguous)


# --- h04, h05, h15: HTTP that is not quite HTTP ---


@pytest.mark.parametrize(
    "head",
    ["content-length: 50", "content-length: 2\r\ncontent-length: 3", "content-length: -2", "content-length: two", "content-length: 2, 3", "content-length: 2\r\ntransfer-encoding: chunked", "transfer-encoding: gzip, chunked", "content-length: +2"],
)  # fmt: skip
def test_h04_a_length_that_cannot_be_is_no_answer(wire, head):
    body = b"2\r\n{}\r\n0\r\n\r\n" if "chunked" in head else b"{}"
    failure = one(wire, f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body)
    assert failure.sent
    assert failure.cause in (Cause.PROTOCOL, Cause.DROPPED)


def test_h04_an_answer_that_was_there_before_its_request_is_never_taken_for_its_answer(wire):
    smuggled = answer(200, {"id": "resp_other", "status": "completed"})

    async def script(talk):
        while await talk.request():
            await talk.send(answer(200, {"id": "resp_1"}) + smuggled)

    first, second, third = exchanged(wire, HostileServer(script), GET, GET, GET)
    assert b"resp_1" in first.body
    assert isinstance(second, Failure)
    assert second.sent
    assert "before its request" in second.message
    assert b"resp_1" in third.body  # on a new connection


@pytest.mark.parametrize(
    "head",
    ["\r\n".join(f"x-{n}: y" for n in range(10_000)), "x-long: " + "y" * 1_000_000, "x-long: " + "y" * 80_000],
    ids=["10,000", "1 MB", "80 KB"],
)
def test_h05_headers_are_capped_and_no_result_is_written_off_for_them(wire, head):
    failure = one(wire, f"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{head}\r\n\r\n{{}}".encode())
    assert failure.cause is Cause.PROTOCOL
    assert isinstance(read_poll(failure, 0.0, "resp_1"), Unclear)


def test_h05_one_byte_chunks_take_linear_time():
    def cost(count):
        raw = chunked(*[b"x"] * count)
        begun = time.process_time()
        assert one(own, raw).body == b"x" * count
        return time.process_time() - begun

    cost(100)
    small, large = min(cost(8_000), cost(8_000)), min(cost(32_000), cost(32_000))
    assert large / small < 9, "4 times the chunks: 4 if linear, 16 if quadratic"


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
def test_h15_odd_first_lines_are_read_or_are_a_protocol_error(wire, head, readable):
    got = one(wire, f"{head}\r\ncontent-length: 2\r\n\r\n{{}}".encode())
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
def test_h06_json_is_known_by_its_content(wire, kind, raw, read):
    verdict = read_poll(one(wire, answer(200, raw, content_type=kind)), 0.0, "resp_1")
    assert isinstance(verdict, Seen if read else Unclear)


@pytest.mark.parametrize(
    "body",
    [
        b'{"id": "resp_1", "status": "completed", ' + b", ".join(b'"k%d": 1' % n for n in range(1_000_000)) + b"}",
        b'{"id": "resp_1", "status": "completed", "output": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 100_000,
    ],
    ids=["a million keys", "deep", "deep and open"],
)
def test_h07_a_body_made_to_be_slow_is_read_within_a_second_or_refused(body):
    got = one(own, answer(200, body))
    begun = time.process_time()
    verdict = read_poll(got, 0.0, "resp_1")
    assert time.process_time() - begun < 1.0
    assert isinstance(verdict, Unclear) or isinstance(verdict.look, Ended)


# --- h08, h11: nothing is kept, nothing is followed ---


def test_h08_cookies_are_never_sent_back(wire):
    server = HostileServer(always(answer(200, b"{}", set_cookie="session=1; Path=/")))
    for got in exchanged(wire, server, GET, POST, GET):
        assert "set-cookie" not in got.headers
    assert [received.header("cookie") for received in server.received] == [None, None, None]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_h11_no_redirect_is_followed_and_no_key_leaves_the_origin(wire, status):
    request = Request("POST", "/v1/responses", {"authorization": f"Bearer {CANARY}", "api-key": CANARY}, b"{}")

    async def main():
        elsewhere = HostileServer(always(answer(200, DONE)), host="127.0.0.2")
        async with elsewhere:
            places = [elsewhere.origin, elsewhere.origin.replace("http:", "https:"), "//127.0.0.2:1/x"]
            scripts = iter([answer(status, b"", location=f"{place}/v1/responses") for place in places])

            async def script(talk):
                while await talk.request():
                    await talk.send(next(scripts))

            async with HostileServer(script) as here, wire(here.origin) as opened:
                answers = [await opened.exchange(request, 2.0) for _ in places]
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
def test_h12_an_echo_of_the_key_does_not_pass(wire, form, caplog):
    caplog.set_level(logging.DEBUG)
    echo = ECHOES[form]
    redactor = Redactor([Secret(CANARY, "OPENAI_API_KEY")])
    request = Request("POST", "/v1/responses", {"authorization": f"Bearer {CANARY}"}, b"{}")
    scripts = [
        answer(401, f"<{echo}>".encode(), x_request_id=echo),
        b"HTTP/1.1 " + echo.encode() + b"\r\n\r\n",
        answer(200, b"{}", content_encoding=echo),
    ]
    texts = [repr(one(wire, script, request, redactor=redactor)) for script in scripts]
    assert all("[redacted]" in text for text in texts)
    for text in (*texts, caplog.text):
        for canary in (CANARY, quote(CANARY, safe=""), base64.b64encode(CANARY.encode()).decode()[:20]):
            assert canary not in text
        assert echo.strip("=")[8:-4] not in text


def test_h12_a_placeholder_key_does_not_change_results():
    redactor = Redactor([Secret("anything", "OPENAI_API_KEY"), Secret("EMPTY", "x")])
    body = b'{"output_text": "anything goes; EMPTY"}'
    assert redactor.raw(body) is body


def test_h13_nothing_in_a_failure_moves_a_terminal(wire):
    failure = one(wire, b"HTTP/1.1 \x1b]52;c;aGk=\x07\x1b[2J \xe2\x80\xae x\r\r\n\r\n")
    assert failure.message.isprintable()
    assert "52;c" in failure.message


def test_h13_nothing_in_a_failure_of_reading_moves_a_terminal():
    failure = one(own, answer(200, b"{}", content_encoding="\x85\x9b2J\xad"))
    assert failure.message.isprintable()
