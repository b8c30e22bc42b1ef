"""What the clients of a benchmark are measured against: a process of its own, on a processor of its own.

`stub` is the lean service of ``stub.py``; `nginx` answers every poll in C with the same 720 bytes, and every
submit with a new id. On two cores or more servers and clients are kept apart.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
SERVER_CORE, CLIENT_CORE = 0, 1

_NGINX = """
worker_processes 1; daemon off; error_log stderr error; pid nginx.pid;
{user}
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; default_type application/json;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location ~ ^/v1/responses/(?<job>[A-Za-z0-9_]+)$ {{ return 200 '{before}$job{after}'; }}
    location = /v1/responses {{ return 200 '{before}resp_ffffffffffff0000$request_id{after}'; }}
  }}
}}
"""


def pinned(core: int) -> list[str]:
    """What to put before a command so that it stays on `core`; nothing where that cannot be."""
    return ["taskset", "-c", str(core)] if shutil.which("taskset") and (os.cpu_count() or 1) > 1 else []


@contextlib.contextmanager
def stub(delay: float = 0.0) -> Iterator[tuple[str, int]]:
    """Base URL and process id of a lean service."""
    command = [*pinned(SERVER_CORE), sys.executable, str(HERE / "stub.py"), "--delay", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()


@contextlib.contextmanager
def nginx() -> Iterator[tuple[str, int] | None]:
    """Base URL and process id; None where nginx is not installed."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        yield None
        return
    from benchmarks.stub import id_of, in_progress

    before, after = in_progress(id_of(0, None)).decode().split(id_of(0, None))
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        Path(folder, "nginx.conf").write_text(
            _NGINX.format(port=port, before=before, after=after, user="user root;" if os.geteuid() == 0 else "")
        )
        command = [*pinned(SERVER_CORE), program, "-p", folder, "-e", "stderr", "-c", "nginx.conf"]
        with subprocess.Popen(command) as process:
            try:
                url = f"http://127.0.0.1:{port}/v1"
                _wait_for(f"{url}/responses/resp_1")
                yield url, process.pid
            finally:
                process.terminate()


def resident(pid: int | str = "self") -> int:
    """Bytes of memory that a process holds; 0 where /proc does not tell."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return 0


def _free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_for(url: str) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(url) as answer:
                answer.read()
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
