"""``batchrun serve`` as a process of its own: where it listens, what it says, how it ends."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from batchrun.cli import main
from batchrun.simulator.outcomes import CODES, OUTCOMES, REFUSALS

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}


@contextlib.contextmanager
def served(*arguments):
    command = [sys.executable, "-m", "batchrun", "serve", "--port", "0", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(url, body=None):
    with urllib.request.urlopen(
        url, data=json.dumps(body).encode() if body is not None else None, timeout=50
    ) as answer:
        return json.load(answer)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_url_serves_and_ends_quietly(end):
    with served("--print-url", "--duration", "1h", "--seed", "3", "--fail", "server_error=100%") as process:
        url = process.stdout.readline().strip()
        job = ask(f"{url}/responses", {"model": "m", "input": "x", "background": True})
        assert ask(f"{url}/responses/{job['id']}")["status"] == "in_progress"
        process.send_signal(end)
        out, err = process.communicate(timeout=50)
    assert (process.returncode, out) == (0, "")
    assert err == (
        "\nbatchrun serve: 1 submits of 1 rows, 1 jobs (1 open, at most 1 at once), 1 polls (at most 1 per second), 0 cancels\n"
    )


def test_it_tells_a_person_how_to_use_it():
    with served("samples/scenario.toml") as process:
        lines = [process.stdout.readline() for _ in range(7)]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=50)
    url = lines[0].split()[-1]
    assert url.startswith("http://127.0.0.1:")
    shown = "".join(lines)
    assert f"--base-url {url}" in shown
    assert f"OPENAI_BASE_URL={url}" in shown
    assert "Ctrl-C stops it" in shown


def test_demo_jobs_outlive_the_process():
    jobs = []
    with served("--print-url", "--demo", "--duration", "1h") as process:
        url = process.stdout.readline().strip()
        jobs = [
            ask(f"{url}/responses", {"model": "m", "input": f"row {i}", "background": True})["id"] for i in range(3)
        ]
        process.kill()
    with served("--print-url", "--demo") as process:
        url = process.stdout.readline().strip()
        assert [ask(f"{url}/responses/{job}")["id"] for job in jobs] == jobs


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.toml"], "expected a scenario at none.toml"),
        (["--fail", "server_error"], "write --fail server_error=5%"),
        (["--fail", "server_eror=5%"], "flags: jobs: 'server_eror' is unknown; did you mean 'server_error'?"),
        (["--duration", "soon"], "flags: times.duration: expected '2s'"),
        (["--rpm", "0"], "flags: limits.rpm: expected a number above 0"),
        (["--demo", "samples/scenario.toml"], "expected a scenario or --demo, got both"),
    ],
)
def test_what_is_wrong_ends_with_2_and_its_remedy(arguments, says, capsys):
    assert main(["serve", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    assert f"cannot listen on 127.0.0.1:{port}: " in capsys.readouterr().err


def test_its_words_are_listed(capsys):
    assert main(["serve", "--words"]) == 0
    shown = set(capsys.readouterr().out.split())
    assert {*OUTCOMES, *REFUSALS, *CODES, "sleep", "hidden", "id_changes"} <= shown


def test_its_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    out = capsys.readouterr().out
    assert "examples:" in out
    assert "--fail server_error=5%" in out


@pytest.mark.parametrize("host", ["ünïcode.example", "127.0.0.1\n", "", "a b", "a" * 64, "127。0。0。1", "-\x1b[2J"])
def test_a_host_that_cannot_be_is_an_error(host, capsys):
    with pytest.raises(SystemExit) as end:
        main(["serve", f"--host={host}"])
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert "expected a name or an address in ASCII" in err
    assert "write 127.0.0.1" in err
    assert err.removesuffix("\n").isprintable()
