"""A service that is never reached: the run halts, names host, port and reason, and the same command resumes."""

import asyncio
import contextlib
import json
import socket
import ssl
import threading
import time

import pytest
import trustme

import batchrun
from batchrun.cli import main
from batchrun.core.limits import reach
from tests.e2e.stage import CANARY, PATIENT, Batch, rows, serving

pytestmark = PATIENT

FLAGS = ("--poll-min", "50ms", "--poll-max", "200ms", "--submits", "1")
QUICK = "[times]\npost = '5ms'\nduration = '100ms'\n"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@contextlib.contextmanager
def behind_tls(port, authority, to=None):
    """A server on `port` that speaks TLS and passes what it is sent on to the port `to`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def pump(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def pass_on(reader, writer):
        theirs, ours = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(pump(reader, ours), pump(theirs, writer))

    async def serve():
        async with await asyncio.start_server(pass_on, "127.0.0.1", port, ssl=context):
            ready.set()
            await asyncio.to_thread(over.wait)

    ready, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        ready.wait()
        yield
    finally:
        over.set()
        thread.join()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def run(batch, url, capsys, monkeypatch, *flags):
    """The command in this process."""
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    log = batch.folder / "log.json"
    log.unlink(missing_ok=True)
    more = ("--log-json", str(log), "--summary", str(batch.folder / "summary.json"))
    code = main([str(batch.input), "-o", str(batch.output), "--base-url", url, *FLAGS, *flags, *more])
    events = [json.loads(line) for line in log.read_text().splitlines()]
    return code, " ".join(capsys.readouterr().err.split()), events


def halted(batch, url, capsys, monkeypatch, why, *flags):
    """It halts, says `why`, and leaves every row open."""
    code, said, events = run(batch, url, capsys, monkeypatch, *flags)
    assert code == 3, said
    assert f"{why}; trying again for" in said
    assert f"unreachable: {why}, tried " in said
    assert "check the address (--base-url), the network and the proxy, then run the same command again" in said
    assert "resumes this batch" in said
    assert batch.records() == {}
    summary = json.loads((batch.folder / "summary.json").read_text())
    assert (summary["halted"]["reason"], summary["exit_code"]) == ("unreachable", 3)
    assert summary["halted"]["message"].startswith(why)
    names = [event["event"] for event in events]
    assert [name for name in names if name in ("outage", "halt")] == ["outage", "halt"]
    status = batch.tell("status", "--json")
    assert json.loads(status.out)["halted"]["reason"] == "unreachable"


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(reach, "HALT_AFTER", 1.2)


@pytest.mark.usefixtures("soon")
def test_s33_a_refused_port(tmp_path, capsys, monkeypatch):
    port = free_port()
    batch = Batch(tmp_path, rows(5))
    url = f"http://127.0.0.1:{port}/v1"
    halted(batch, url, capsys, monkeypatch, f"no connection to 127.0.0.1:{port}: connection refused")
    with serving(tmp_path, QUICK, port=port) as service:
        assert run(batch, url, capsys, monkeypatch)[0] == 0
        assert service.posts() == dict.fromkeys(batch.whole(), 1)


@pytest.mark.usefixtures("soon")
def test_s33_a_host_that_does_not_exist(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", not_found := _no_such_name(socket.getaddrinfo))
    monkeypatch.setitem(__import__("sys").modules, "uvloop", None)  # which asks by itself
    batch = Batch(tmp_path, rows(5))
    with serving(tmp_path, QUICK) as service:
        url = f"http://localhost:{service.port}/v1"
        why = f"no connection to localhost:{service.port}: the name does not exist"
        halted(batch, url, capsys, monkeypatch, why)
        not_found.names = {"localhost": "127.0.0.1"}
        code, said, _ = run(batch, url, capsys, monkeypatch)
        assert code == 0, said
        assert service.posts() == dict.fromkeys(batch.whole(), 1)


class _no_such_name:  # noqa: N801 - in place of a function
    def __init__(self, real):
        self.real, self.names = real, {}

    def __call__(self, host, *more, **named):
        if host == "localhost" and host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.real(self.names.get(host, host), *more, **named)


@pytest.mark.usefixtures("soon")
def test_s33_a_certificate_that_is_not_trusted(tmp_path, capsys, monkeypatch, authority):
    port, batch = free_port(), Batch(tmp_path, rows(5))
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    why = f"no connection to 127.0.0.1:{port}: the certificate is refused: unable to get local issuer certificate"
    with serving(tmp_path, QUICK) as service, behind_tls(port, authority, service.port):
        url = f"https://127.0.0.1:{port}/v1"
        halted(batch, url, capsys, monkeypatch, f"{why}; SSL_CERT_FILE names a private authority")
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        assert run(batch, url, capsys, monkeypatch)[0] == 0
        assert service.posts() == dict.fromkeys(batch.whole(), 1)


@pytest.mark.usefixtures("soon")
def test_a_proxy_that_is_not_there_is_named(tmp_path, capsys, monkeypatch):
    port = free_port()
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret-word-17@127.0.0.1:{port}")
    why = f"no connection to the proxy 127.0.0.1:{port}: connection refused"
    halted(Batch(tmp_path, rows(2)), "https://api.example.com/v1", capsys, monkeypatch, why)


@pytest.mark.usefixtures("soon")
def test_jobs_of_an_earlier_run_stay_where_they_are(tmp_path, capsys, monkeypatch):
    batch = Batch(tmp_path, rows(4))
    with serving(tmp_path, "[times]\nduration = '1h'\n") as service:
        url, port = service.url, service.port
        code, said, _ = run(batch, url, capsys, monkeypatch, "--detach")
        assert code == 0, said
    halted(batch, url, capsys, monkeypatch, f"no connection to 127.0.0.1:{port}: connection refused")
    assert json.loads(batch.tell("status", "--json").out)["jobs"] == 4
    assert json.loads((tmp_path / "summary.json").read_text())["jobs_going_on"] == 4


@pytest.mark.usefixtures("soon")
def test_in_python_it_is_raised(tmp_path):
    port = free_port()
    arguments = {"model": "gpt-5", "service": "compatible", "out": str(tmp_path / "out.jsonl"), "progress": False}
    with pytest.raises(batchrun.Halted) as caught:
        asyncio.run(batchrun.run(["a", "b"], base_url=f"http://127.0.0.1:{port}/v1", **arguments))
    assert caught.value.reason == "unreachable"
    assert f"no connection to 127.0.0.1:{port}: connection refused, tried" in str(caught.value)
    assert (caught.value.remaining, len(caught.value.records)) == (2, 0)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}/v1", "https://service.invalid/v1", "tls"])
def test_s33_in_earnest_it_takes_less_than_two_minutes(address, long, tmp_path, authority):
    if not long:
        pytest.skip("--long")
    port = free_port()
    with contextlib.ExitStack() as stack:
        if address == "tls":
            stack.enter_context(behind_tls(port, authority, free_port()))
            address = "https://127.0.0.1:{port}/v1"
        batch = Batch(tmp_path, rows(5), "--base-url", address.format(port=port))
        begun = time.monotonic()
        ended = batch.run()
        assert ended.code == 3
        assert 85 <= time.monotonic() - begun <= 120
        ended.says("unreachable: no connection to ", "resumes this batch")
        assert batch.records() == {}
