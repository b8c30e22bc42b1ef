"""The server of the benchmark `wire.py`: nginx on loopback with static answers, plain and by TLS.

`slow` answers come from behind nginx, from a small server here that takes 200 ms for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SIZES = {"small": 720, "large": 16_384}
DELAY = 0.2
CONFIGURATION = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/log error; worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  access_log off; default_type application/json; sendfile on; tcp_nodelay on; open_file_cache max=10;
  keepalive_timeout 600; keepalive_requests 1000000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream behind {{ server 127.0.0.1:{behind}; keepalive 2000; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{plain} backlog=4096; listen 127.0.0.1:{tls} ssl backlog=4096;
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.pem; ssl_protocols TLSv1.3;
    root {folder}/www;
    location /v1/responses/slow {{ proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


class Serving(NamedTuple):
    plain: str
    tls: str
    authority: str


def body(size: int) -> bytes:
    """A finished job as a service tells it, in exactly `size` bytes."""
    part = {"type": "output_text", "text": "", "annotations": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    job = {"id": "resp_1", "object": "response", "status": "completed", "created_at": 1, "model": "gpt-5", "output": [message], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": usage}  # fmt: skip
    part["text"] = "x" * (size - len(json.dumps(job)))
    return json.dumps(job).encode()


@contextlib.contextmanager
def serving() -> Iterator[Serving]:
    """nginx while the context is open. Raises FileNotFoundError where nginx or trustme is not installed."""
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if nginx is None:
        raise FileNotFoundError("nginx is not installed (Debian: apt-get install nginx-light)")
    try:
        import trustme
    except ImportError:
        raise FileNotFoundError("trustme is not installed (pip install 'batchrun-jobs[bench]')") from None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "authority.pem")
        certificate = authority.issue_cert("127.0.0.1")
        parts = [certificate.private_key_pem, *certificate.cert_chain_pems]
        (folder / "server.pem").write_bytes(b"".join(part.bytes() for part in parts))
        jobs = folder / "www/v1/responses"
        jobs.mkdir(parents=True)
        for one, size in SIZES.items():
            (jobs / one).write_bytes(body(size))
        behind, plain, tls = _free_ports(3)
        (folder / "nginx.conf").write_text(
            CONFIGURATION.format(folder=folder, behind=behind, plain=plain, tls=tls), encoding="ascii"
        )
        slow = subprocess.Popen([sys.executable, __file__, str(behind)])
        fast = subprocess.Popen([nginx, "-c", str(folder / "nginx.conf"), "-e", str(folder / "log")])
        try:
            for port in (behind, plain, tls):
                _wait_for(port)
            yield Serving(f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{tls}", str(folder / "authority.pem"))
        finally:
            for process in (fast, slow):
                process.terminate()
                process.wait()


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _wait_for(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.05)
    raise SystemExit(f"no server on port {port} within 5 s")


class _Slow(asyncio.Protocol):
    """Answers every request, which has no body, after the delay."""

    answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % SIZES["small"] + body(
        SIZES["small"]
    )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.asked = b""

    def data_received(self, data: bytes) -> None:
        self.asked += data
        while b"\r\n\r\n" in self.asked:
            self.asked = self.asked.partition(b"\r\n\r\n")[2]
            asyncio.get_running_loop().call_later(DELAY, self.transport.write, self.answer)  # type: ignore[attr-defined]


async def _main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Slow, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(int(sys.argv[1])))
