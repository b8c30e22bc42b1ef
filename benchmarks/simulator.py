"""How many answers per second the simulator gives on one core, asked by wrk; and what a job costs it in memory.

python benchmarks/simulator.py [SECONDS [JOBS]]

wrk is C and takes a core of its own. On a machine that others use, the figure is what was left for us;
`per_cpu_second`, answers per second of the server's own processor time, is what one core gives (Linux).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results import record

SOURCE = Path(__file__).parent.parent / "src"
BODY = b'{"model":"gpt-5","input":"[[sleep 3600]] name a colour","background":true}'
MEMORY = """
import os, sys
from batchrun.simulator import Scenario, SimulatedService
service, count = SimulatedService(Scenario(), 0.0), int(sys.argv[1])
def resident():  # the peak of getrusage is inherited from the parent
    with open("/proc/self/statm") as told:
        return int(told.read().split()[1]) * os.sysconf("SC_PAGESIZE")
before = resident()
for i in range(count):
    body = b'{"model":"gpt-5","input":"[[sleep 3600]] row %d","background":true}' % i
    service.answer(b"POST", b"/v1/responses", b"", body, 1.0)
print((resident() - before) / count)
"""


def main(arguments: list[str]) -> int:
    seconds = int(arguments[0]) if arguments else 5
    jobs = int(arguments[1]) if len(arguments) > 1 else 200_000
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    result = subprocess.check_output([sys.executable, "-c", MEMORY, str(jobs)], text=True, env=environment)
    record("simulator: memory of an open job", float(result), "bytes", jobs=jobs)
    if shutil.which("wrk") is None:
        print("skipped: wrk is not installed (Debian: apt-get install wrk)", file=sys.stderr)
        return 0
    command = [sys.executable, "-m", "batchrun", "serve", "--port", "0", "--print-url"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            with urllib.request.urlopen(f"{url}/responses", data=BODY) as answer:
                job = json.load(answer)["id"]
            for what, address, connections in (
                ("polls", f"{url}/responses/{job}", 100),
                ("polls", f"{url}/responses/{job}", 1000),
                ("submits", f"{url}/responses", 100),
            ):
                before = processor_time(server.pid)
                rate = asked(address, connections, seconds, post=what == "submits")
                used = processor_time(server.pid) - before
                per_cpu = round(rate * seconds / used) if used else None
                name = f"simulator: {what} at {connections} connections"
                record(name, rate, "answers/s", seconds=seconds, per_cpu_second=per_cpu)
        finally:
            server.terminate()
    return 0


def asked(url: str, connections: int, seconds: int, *, post: bool = False) -> float:
    """Answers a second by wrk, with one thread; every answer that is not 2xx fails the measurement."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        if post:
            script.write(f"wrk.method = 'POST'\nwrk.body = [==[{BODY.decode()}]==]\n")
            script.flush()
            command[1:1] = ["-s", script.name]
        shown = subprocess.check_output(command, text=True)
    if "Non-2xx" in shown:
        raise SystemExit(f"expected 2xx answers only, got:\n{shown}")
    return float(re.search(r"Requests/sec:\s+([0-9.]+)", shown)[1])


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has used; 0 where /proc does not tell."""
    result = Path(f"/proc/{pid}/stat")
    if not result.exists():
        return 0.0
    fields = result.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
