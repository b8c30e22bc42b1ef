"""Hostile services on every HTTP transport: sizes and time (h01, h02, h03, h10)."""

import asyncio
import gzip
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from batchrun.core.responses.http import Cause
from batchrun.core.responses.verdict import Ambiguous, read_submit
from batchrun.edge.exchange import Caps
from tests.edge.hostile_server import HostileServer, answer
from tests.edge.transports import GET, POST, TRANSPORTS, exchanged, late

ROOT = Path(__file__).parent.parent.parent
SMALL = Caps(body=100_000, error_body=1_000)


@pytest.fixture(params=TRANSPORTS)
def transport(request):
    return TRANSPORTS[request.param]


def one(open_transport, script, request=GET, **options):
    (result,) = exchanged(open_transport, HostileServer(script), request, **options)
    return result


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
def test_h01_an_endless_body_is_cut_at_the_cap(transport, head):
    block = b"10000\r\n" + b"x" * 65_536 + b"\r\n" if head == CHUNKED else b"x" * 65_536
    failure = one(transport, endless(head, block), caps=SMALL)
    assert (failure.sent, failure.cause) == (True, Cause.TOO_LARGE)
    assert "--max-body" in failure.message


def test_h01_an_endless_error_page_still_says_its_status(transport):
    got = one(
        transport, endless(CHUNKED.replace(b"200 OK", b"400 No"), b"10000\r\n" + b"x" * 65_536 + b"\r\n"), caps=SMALL
    )
    assert (got.status, got.body) == (400, b"x" * 1_000)


def test_h01_a_small_length_that_lies_is_not_believed_either(transport):
    got = one(transport, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}garbage")
    assert got.body == b"{}"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "x-gzip"])
def test_h02_a_bomb_is_cut_at_the_cap_of_the_decoded_size(transport, coding):
    bomb = zlib.compress(b"0" * 10_000_000) if coding == "deflate" else gzip.compress(b"0" * 10_000_000)
    failure = one(transport, answer(200, bomb, content_encoding=coding), caps=SMALL)
    assert failure.cause is Cause.TOO_LARGE


def test_h02_an_endless_coding_of_nothing_is_cut_too(transport):
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    start, nothing = squeeze.compress(b"") + squeeze.flush(zlib.Z_SYNC_FLUSH), b"\x00\x00\x00\xff\xff" * 10_000
    failure = one(transport, endless(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + start, nothing), caps=SMALL)
    assert failure.cause is Cause.TOO_LARGE


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "x-unheard-of"])
def test_h02_other_codings_are_refused(transport, coding):
    failure = one(transport, answer(200, gzip.compress(gzip.compress(b"{}")), content_encoding=coding))
    assert (failure.sent, failure.cause) == (True, Cause.PROTOCOL)
    assert coding in failure.message


@pytest.mark.parametrize("coding", ["gzip", "deflate", "identity"])
def test_h02_compression_that_was_not_asked_for_is_read(transport, coding):
    raw = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}[coding](b'{"id": "resp_1"}')
    assert one(transport, answer(200, raw, content_encoding=coding)).body == b'{"id": "resp_1"}'


@pytest.mark.parametrize("raw", [gzip.compress(b"{}" * 50)[:-9], b"not gzip at all"], ids=["cut off", "damaged"])
def test_h02_compression_that_is_broken_is_no_answer(transport, raw):
    assert one(transport, answer(200, raw, content_encoding="gzip")).cause is Cause.PROTOCOL


_MEMORY = """
import asyncio, resource, sys, zlib
from batchrun.edge.exchange import Caps
from tests.edge.hostile_server import HostileServer
from tests.edge.transports import GET, POST, TRANSPORTS, exchanged

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
transport = TRANSPORTS[sys.argv[1]]
exchanged(transport, HostileServer(b"HTTP/1.1 204 No\\r\\n\\r\\n"), GET, caps=Caps())
before = peak()
for name, talk in scripts.items():
    for request in (GET, POST, GET, POST):
        (result,) = exchanged(transport, HostileServer(talk), request, caps=Caps(body=BODY), timeout=50)
        assert result.cause == "too_large", result
print(peak() - before)
"""


@pytest.mark.parametrize("name", ["own", "httpx", "httpx2"])
def test_h01_h02_memory_stays_flat_under_endless_bodies_and_bombs(name):
    env = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", _MEMORY, name], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 32, f"the peak grew by {done.stdout} MiB for a cap of 8"


# --- h03, h10: time ---


@pytest.mark.parametrize("where", ["headers", "body"])
def test_h03_one_byte_at_a_time_ends_at_the_deadline(transport, where):
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n"

    async def script(talk):
        await talk.request()
        await talk.send(head + (b"x: " if where == "headers" else b"\r\n"))
        await talk.drip(b"x" * 10_000, 0.02)

    failure = late(transport, script, limit=0.12)
    assert (failure.sent, failure.cause) == (True, Cause.TIMEOUT)


async def _reset(talk):
    await talk.request()
    talk.reset()


async def _reset_in_the_body(talk):
    await talk.request()
    await talk.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
    await asyncio.sleep(0.01)
    talk.reset()


async def _reset_in_a_body_to_the_end(talk):
    await talk.request()
    await talk.send(b'HTTP/1.1 200 OK\r\n\r\n{"id": "resp_1", "outp')
    await asyncio.sleep(0.01)
    talk.reset()


@pytest.mark.parametrize(
    ("script", "causes"),
    [
        (_reset, {Cause.DROPPED}),
        (_reset_in_a_body_to_the_end, {Cause.DROPPED}),
        (_reset_in_the_body, {Cause.DROPPED}),
        (lambda talk: talk.request(), {Cause.DROPPED}),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", {Cause.DROPPED}),
        (b"HTTP/1.1 200 OK\r\ncontent-type: te", {Cause.DROPPED, Cause.PROTOCOL}),
        (lambda talk: talk.hold(), {Cause.TIMEOUT}),
    ],
    ids=[
        "reset",
        "reset in a body to the end",
        "reset in the body",
        "closed",
        "closed after headers",
        "closed in headers",
        "half-open",
    ],
)
def test_h10_a_connection_that_dies_ends_at_the_deadline_at_the_latest(transport, script, causes):
    failure = late(transport, script, limit=0.2) if Cause.TIMEOUT in causes else one(transport, script, POST)
    assert failure.sent
    assert failure.cause in causes
    assert isinstance(read_submit(failure, 0.0), Ambiguous)
