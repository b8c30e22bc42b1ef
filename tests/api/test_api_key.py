"""`api_key=`: taken as a string or from a function, sent to the service, and shown nowhere."""

import asyncio
import http.server
import json
import threading
import traceback
from contextlib import contextmanager

import pytest

import batchrun
from batchrun import errors
from batchrun.api.api_key import key_of
from batchrun.core.settings.settings import UsageError
from batchrun.edge.credentials import KeyFunction

KEY, OTHER = "sk-of-the-program-0123456789", "sk-of-the-environment-0123456789"
BODY = {
    "id": "chatcmpl-1", "object": "chat.completion", "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
}  # fmt: skip
ROWS = [{"custom_id": str(n), "messages": [{"role": "user", "content": "x"}], "model": "m"} for n in range(3)]


@contextmanager
def service(accepts=lambda key: True, seen=None):
    """A server that answers whoever comes with a key that it accepts; gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            key = self.headers["authorization"] or self.headers["api-key"]
            if seen is not None:
                seen.append(key)
            good = accepts(key)
            body = json.dumps(BODY if good else {"error": {"message": f"Incorrect API key provided: {key}"}}).encode()
            self.send_response(200 if good else 401)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", OTHER)
    return tmp_path


async def given_later():
    await asyncio.sleep(0)
    return KEY


@pytest.mark.parametrize("api_key", [KEY, lambda: KEY, given_later], ids=["text", "function", "async function"])
@pytest.mark.parametrize("call", ["run", "run_sync", "open"])
def test_it_is_what_the_service_sees_and_nobody_else(api_key, call, somewhere, monkeypatch):
    monkeypatch.setenv("BATCHRUN_KEY_FILE", "no-such-file")  # an argument outranks a variable
    seen = []

    async def opened(address):
        async with batchrun.open(ROWS, out="out.jsonl", base_url=address, api_key=api_key, progress=False) as batch:
            assert KEY not in repr(vars(batch)) + repr(vars(batch._run))
            return [record async for record in batch]

    with service(seen=seen) as address:
        if call == "open":
            records = asyncio.run(opened(address))
        elif call == "run_sync":
            records = batchrun.run_sync(ROWS, out="out.jsonl", base_url=address, api_key=api_key, progress=False)
        else:
            records = asyncio.run(
                batchrun.run(ROWS, out="out.jsonl", base_url=address, api_key=api_key, progress=False)
            )
    assert [record.ok for record in records] == [True] * 3
    assert seen == [f"Bearer {KEY}"] * 3
    for path in somewhere.iterdir():
        assert KEY.encode() not in path.read_bytes(), path


def test_a_function_is_asked_again_when_its_key_is_refused():
    keys, seen = iter(["sk-old-0123456789", KEY]), []
    with service(lambda key: key == f"Bearer {KEY}", seen) as address:
        records = batchrun.run_sync(ROWS, base_url=address, api_key=lambda: next(keys), concurrency=1, progress=False)
    assert [record.ok for record in records] == [True] * 3
    assert seen == ["Bearer sk-old-0123456789", *[f"Bearer {KEY}"] * 3]


def test_a_refused_key_is_in_no_message_and_no_traceback(somewhere):
    with service(lambda key: False) as address, pytest.raises(errors.Halted) as caught:
        batchrun.run_sync(ROWS, out="out.jsonl", base_url=address, api_key="".join(KEY), progress=False)
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame for frame in told.stack if "/batchrun/" in frame.filename]
    assert KEY not in str(caught.value)
    assert ours
    assert KEY not in repr([frame.locals for frame in ours])
    for path in somewhere.iterdir():
        assert KEY.encode() not in path.read_bytes(), path


def fails():
    raise RuntimeError(KEY)


@pytest.mark.parametrize(("api_key", "says"), [
    ("", "api_key: expected an API key of printable ASCII characters, it is empty; set it again"),
    (f"{KEY}\n", "api_key: expected an API key of printable ASCII characters, but character 29 of 29 is a line break"),
    (5, "api_key: expected a string or a function that returns one, got int"),
    (b"sk-1", "api_key: expected a string or a function that returns one, got bytes"),
    (lambda: None, "api_key: expected a function that returns a string, got NoneType"),
    (fails, "api_key: the function raised RuntimeError and gave no API key"),
])  # fmt: skip
def test_what_is_no_key_is_refused_before_anything_is_sent(api_key, says):
    seen = []
    with service(seen=seen) as address, pytest.raises(errors.SettingsError) as caught:
        batchrun.run_sync(ROWS, base_url=address, api_key=api_key, progress=False)
    assert str(caught.value).startswith(says)
    assert KEY not in str(caught.value)
    assert not seen


def test_two_keys_in_one_call_are_refused():
    with pytest.raises(errors.SettingsError, match="expected one source of the API key, got key_file too"):
        batchrun.run_sync(ROWS, api_key=KEY, key_file="key.txt", progress=False)


def test_a_function_that_never_returns_is_not_waited_for():
    async def never():
        await asyncio.Event().wait()

    with pytest.raises(UsageError, match="gave no API key within"):
        asyncio.run(KeyFunction(never, limit=0.05).current())


def test_it_is_wrapped_at_once():
    assert repr(key_of(KEY)) == "<secret from api_key>"
    assert key_of(None) is None
    assert KEY not in repr(key_of(lambda: KEY))
