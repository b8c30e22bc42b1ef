"""A service that echoes the API key wherever it can, in every encoding: it is in no file, log, screen or exception (h12, h18)."""

import asyncio
import base64
import html
import json
import re
import threading
import traceback
from contextlib import contextmanager
from urllib.parse import quote

import pytest

import batchrun
from batchrun.cli import main
from tests.e2e.stage import PATIENT
from tests.edge.hostile_server import HostileServer, answer

pytestmark = PATIENT

KEY = "sk-canary/+&4f9c0e7ab1d2"


def unicode_escaped(text):
    return "".join(f"\\u{ord(char):04x}" for char in text)


# What stands for the key within a JSON string, and the charset of the whole response.
ENCODINGS = {
    "exact": (KEY, "utf-8"),
    "one-JSON-escape": (KEY.replace("+", "\\u002B").replace("&", "\\u0026"), "utf-8"),
    "JSON-slash": (KEY.replace("/", "\\/"), "utf-8"),
    "JSON-escapes": (unicode_escaped(KEY), "utf-8"),
    "JSON-in-JSON": (unicode_escaped(KEY).replace("\\", "\\\\"), "utf-8"),
    "URL": (quote(KEY), "utf-8"),
    "URL-twice": (quote("".join(f"%{ord(char):02X}" for char in KEY)), "utf-8"),
    "HTML": ("".join(f"&#x{ord(char):x};" for char in KEY), "utf-8"),
    "HTML-names": (html.escape(KEY), "utf-8"),
    "base64": (base64.b64encode(f"u:{KEY}".encode()).decode().replace("/", "\\/"), "utf-8"),
    "UTF-16": (KEY, "utf-16"),
    "UTF-16-escapes": (unicode_escaped(KEY), "utf-16"),
    "UTF-16-without-BOM": (KEY, "utf-16-be"),
    "UTF-32": (KEY, "utf-32"),
}
DOORS = (
    "submit_refused", "submit_refused_page", "submit_lost", "submit_unknown", "submit_unreadable", "submit_id",
    "submit_redirected", "submit_accepted", "poll_done", "poll_failed", "poll_running", "poll_refused", "poll_unreadable",
    "poll_id",
)  # fmt: skip
ERROR = {"error": {"message": "bad key ECHO", "code": "ECHO", "type": "ECHO", "param": "ECHO"}}


def responses_to(method, path, door):
    """Status and body of a response; ECHO stands for the key."""
    job = {"id": f"resp_{door}", "status": "queued"}
    if method == "POST" and path.endswith("/cancel"):
        return 200, {**job, "status": "in_progress ECHO", "error": {"message": "ECHO"}}
    if method == "POST":
        match door:
            case "submit_refused":
                return 400, ERROR
            case "submit_refused_page":
                return 400, "<html><title>ECHO</title>ECHO"
            case "submit_lost":
                return 500, ERROR
            case "submit_unknown":
                return 200, {"said": "ECHO", "request": {"header": "Bearer ECHO"}}
            case "submit_unreadable":
                return 200, '{"id": "ECHO'
            case "submit_id":
                return 200, {"id": "ECHO", "status": "queued"}
            case "submit_redirected":
                return 302, {}
            case "submit_accepted":
                return 200, {
                    **job,
                    "status": "completed",
                    "model": "ECHO",
                    "output_text": "ECHO",
                    "output": [],
                    "ECHO": 1,
                }
            case _:
                return 200, job
    match door:
        case "poll_failed":
            return 200, {**job, "status": "failed", **ERROR}
        case "poll_running":
            return 200, {**job, "status": "baking ECHO", "model": "ECHO"}
        case "poll_refused":
            return 500, ERROR
        case "poll_unreadable":
            return 200, '{"id": "resp", "status": "completed", "output": "ECHO" broken'
        case "poll_id":
            return 200, {**job, "id": "ECHO", "status": "completed", "output_text": "x", "output": []}
        case _:
            content = [{"type": "output_text", "text": "a ECHO b"}]
            output = [{"type": "message", "content": content}, {"type": "mcp_call", "error": {"message": "ECHO"}}]
            return 200, {**job, "status": "completed", "model": "ECHO", "output": output}


def echoing(encoding):
    """A service whose responses echo the key in this encoding, in several reads; but for submits that are not its doors."""
    echo, charset = ENCODINGS[encoding]
    refused = 0

    async def script(talk):
        nonlocal refused
        while (request := await talk.request()) is not None:
            door = re.search(
                "|".join(map(re.escape, sorted(DOORS, key=len, reverse=True))), request.path + request.body.decode()
            )[0]
            status, body = responses_to(request.method, request.path, door)
            raw = body if isinstance(body, str) else json.dumps(body, indent=1)
            refused += door == "poll_refused" and request.method == "GET"
            if refused > 3 and door == "poll_refused":  # a service that shows no job at all is waited for
                status, body = 200, {"id": f"resp_{door}", "status": "failed", "error": {"message": "gone"}}
            plain = request.method == "POST" and not door.startswith("submit") and not request.path.endswith("/cancel")
            plain = plain or (refused > 3 and door == "poll_refused")
            data = raw.encode() if plain else raw.replace("ECHO", echo).encode(charset)
            response = answer(status, data, x_request_id=echo, location=f"https://127.0.0.1:1/?key={echo}")
            third = (len(response) - len(data)) + len(data) // 3
            for piece in (response[:third], response[third : third + 20], response[third + 20 :]):
                await talk.send(piece)
                await asyncio.sleep(0.001)

    return script


@contextmanager
def serving(script):
    """The service in a thread of its own; its address."""
    ready, over = threading.Event(), threading.Event()
    address = []

    async def serve():
        async with HostileServer(script) as server:
            address.append(f"{server.origin}/v1")
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(60)
        yield address[0]
    finally:
        over.set()
        thread.join()


def readings(data):
    """What a person or a program may read in `data`, without null bytes, as it is and with escapes undone."""
    text = data.replace(b"\0", b"").decode("utf-8", "replace")
    for _ in range(4):
        yield text
        text = re.sub(r"\\+u00([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), html.unescape(text))
        text = re.sub(r"%([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), text.replace("\\/", "/"))


def holds_the_key(data):
    encoded = base64.b64encode(f"u:{KEY}".encode()).decode()[4:-4]
    return any(KEY in text or encoded in text for text in readings(data))


@pytest.mark.parametrize("wire", ["own", "httpx"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_h12_h18_an_echo_of_the_key_gets_nowhere(encoding, wire, tmp_path, monkeypatch, capfd):
    assert holds_the_key(ENCODINGS[encoding][0].encode(ENCODINGS[encoding][1])), "the test would find it"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    rows = [{"custom_id": door, "body": {"model": "m", "input": door}} for door in DOORS]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out.jsonl"
    flags = f"--wire {wire} --keep-going --retries 0 --poll-min 50ms --poll-max 100ms --deadline 300ms --cancel-settle 50ms "
    flags += "--cancel-patience 300ms"
    with serving(echoing(encoding)) as url:
        files = ["--log-json", str(tmp_path / "log"), "--summary", str(tmp_path / "summary")]
        code = main([str(tmp_path / "in.jsonl"), "-o", str(out), "--base-url", url, *flags.split(), *files])
    assert code in (1, 3)
    main(["status", str(out)])
    main(["status", str(out), "--json"])
    shown = "".join(capfd.readouterr())
    records = batchrun.read(out)
    shown += repr(records) + records._repr_html_()
    assert {record.key for record in records} == set(DOORS)
    for record in records:
        shown += repr(record)
        try:
            record.raise_for_state()
        except batchrun.errors.JobError as error:
            shown += repr(error) + str(error.to_openai()) + "".join(traceback.format_exception(error))
    assert "[redacted]" in shown
    assert not holds_the_key(shown.encode("utf-8", "surrogatepass"))
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "in.jsonl"]
    assert {"out.jsonl", "out.jsonl.journal", "log", "summary"} <= {path.name for path in kept}
    assert any(path.parent.name == "out.jsonl.unreadable" for path in kept)
    for path in kept:
        assert not holds_the_key(path.read_bytes()), f"{path.name}: {path.read_bytes()}"
