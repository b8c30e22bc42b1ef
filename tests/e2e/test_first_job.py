"""A service that nobody described: one row is spent, a profile is shown, and the batch is finished with it."""

import contextlib
import json
import re
import shlex
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import batchrun
from tests.e2e.stage import CANARY, PATIENT, Batch

pytestmark = PATIENT

BEGIN = re.compile(r"to be completed and saved as (\S+):\n\n")


class Scripted(ThreadingHTTPServer):
    """A service that answers as `post(body, n)` and `get(path)` say; keeps what was asked."""

    daemon_threads = True

    def __init__(self, post, get):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.post, self.get = post, get
        self.posts, self.gets = [], []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.posts.append((self.path, body))
        self._answer(self.server.post(body, len(self.server.posts)))

    def do_GET(self):
        self.server.gets.append(self.path)
        self._answer(self.server.get(self.path))

    def _answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def scripted(post, get):
    server = Scripted(post, get)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def unknown_post(body, n):
    return {"code": 200, "msg": f"key {CANARY}", "result": {"job_id": f"t{n}"}}


def unknown_get(path):
    job = path.rpartition("/")[2]
    return {"code": 200, "result": {"job_id": job, "phase": "baked", "files": [f"{job}.png"]}}


ROWS = [{"custom_id": f"row-{n}", "body": {"model": "m", "input": "hi"}} for n in range(5)]
FLAGS = ("--poll-min", "50ms", "--poll-max", "200ms")


def shown_profile(said):
    """The profile in what a run said, and the name under which it is to be saved."""
    found = BEGIN.search(said)
    assert found is not None, said
    return said[found.end() :].partition("\n\nanswer_lost: ")[0] + "\n", found[1]


def commands(said):
    """The commands to type next."""
    return [
        shlex.split(line)[1:] for line in said.partition("\nnext:\n")[2].splitlines() if line.startswith("  batchrun ")
    ]


def test_s27_one_row_is_spent_and_the_profile_that_is_shown_finishes_the_batch(tmp_path):
    with scripted(unknown_post, unknown_get) as server:
        batch = Batch(tmp_path, ROWS, "--base-url", server.url, *FLAGS)
        ended = batch.run()
        assert ended.code == 3
        ended.says(
            "unknown response: row 'row-0' ends as unconfirmed: HTTP 200 without an id and without a result:",
            '"result": {"job_id": "t1"}',
            "[redacted]",
            "--keep-going sends the other rows regardless",
        )
        assert (len(server.posts), batch.states()) == (1, {"unconfirmed": 1})
        again, keep_going, resubmit, _ = commands(ended.said)
        text, name = shown_profile(ended.said)
        assert (again[-2:], keep_going[-1]) == (["--service", name], "--keep-going")
        assert resubmit == [*again, "--resubmit-unconfirmed"]
        assert server.url not in again, "the address is in the profile"

        # As it is it loads, and names jobs; what it lacks a person completes.
        (tmp_path / name).write_text(text)
        assert batch.run("--service", name, "--limit", "1", "--detach").code == 1
        assert len(server.posts) == 2
        completed = text.replace("# status = ", "status = ").replace("result.status", "result.phase")
        completed = completed.replace("# result = ", "result = ").replace("result.result", "result.files")
        completed = completed.replace("# done = ", "baked = ")
        (tmp_path / name).write_text(completed)
        batch.flags = ()
        ended = batch.run(*again[again.index("-o") + 2 :])
        assert ended.code == 1, ended.said
        assert batch.states() == {"unconfirmed": 1, "succeeded": 4}
        assert batch.whole()["row-4"]["response"]["body"]["result"]["files"] == ["t5.png"]
        assert batch.run(*resubmit[resubmit.index("-o") + 2 :]).code == 0
        assert (batch.states(), len(server.posts)) == ({"succeeded": 5}, 6)
        assert {path for path, _ in server.posts} == {"/v1/responses"}
        assert all(body["background"] for _, body in server.posts)


def test_s27_keep_going_and_the_same_command_work_as_printed(tmp_path):
    with scripted(unknown_post, unknown_get) as server:
        batch = Batch(tmp_path, ROWS, "--base-url", server.url, *FLAGS)
        assert batch.run().code == 3
        assert batch.run().code == 3
        assert len(server.posts) == 2
        status = json.loads(batch.tell("status", "--json").out)
        assert status["halted"]["reason"] == "unknown response"
        assert "describe the service in a profile" in status["halted"]["advice"]
        assert batch.run("--keep-going").code == 1
        assert (len(server.posts), batch.states()) == (5, {"unconfirmed": 5})


def test_s27_in_python_it_is_halted_with_the_profile_as_a_note(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    with scripted(unknown_post, unknown_get) as server:
        options = {"base_url": server.url, "service": "compatible", "progress": False}
        with pytest.raises(batchrun.Halted) as caught:
            batchrun.run_sync(["a", "b", "c"], model="m", out=tmp_path / "out.jsonl", **options)
        halted = caught.value
        assert (halted.reason, len(halted.records), halted.open) == ("unknown response", 1, 2)
        assert "service='profile.toml'" in halted.advice
        assert "keep_going=True" in halted.advice
        (note,) = halted.__notes__
        assert 'id = "result.job_id"' in note
        assert CANARY not in note + str(halted)
        with pytest.raises(batchrun.Halted):
            batchrun.run_sync(["a", "b", "c"], model="m", out=tmp_path / "out.jsonl", **options)
        records = batchrun.run_sync(["a", "b", "c"], model="m", out=tmp_path / "out.jsonl", keep_going=True, **options)
        assert [record.state for record in records] == ["unconfirmed"] * 3


# --- s36: an image endpoint that answers with a job ---


PICTURES = [
    {"custom_id": f"row-{n}", "url": "/v1/images/generations", "body": {"model": "m", "prompt": "a fox"}}
    for n in range(4)
]
PROFILE = """
name = "compatible"
[endpoints]
at_once = ["/images/generations"]
queues = ["/images/generations"]
poll = "/images/tasks/{id}"
[auth]
env = "OPENAI_API_KEY"
[read]
result = "data"
"""


def queued(body, n):
    """Every other row at once."""
    return {"id": f"j{n}", "data": [{"b64_json": "aGk="}]} if n % 2 else {"id": f"j{n}", "status": "queued"}


def picture(path):
    return {"id": path.rpartition("/")[2], "status": "completed", "data": [{"b64_json": "aGk="}]}


def test_s36_a_picture_that_is_queued_is_polled_where_the_profile_says(tmp_path):
    (tmp_path / "images.toml").write_text(PROFILE)
    with scripted(queued, picture) as server:
        batch = Batch(tmp_path, PICTURES, "--base-url", server.url, "--service", "images.toml", *FLAGS)
        assert batch.run("--detach").code == 0
        assert not any("/responses" in path for path in server.gets)
        service = ("--service", "images.toml", "--base-url", server.url)
        collected = batch.tell("collect", *service)  # without the input: where a job is does not depend on its row
        assert collected.code == 0, collected.said
        assert batch.states() == {"succeeded": 4}
        assert len(server.posts) == 4
        polled = sorted(set(server.gets))
        assert polled == ["/v1/images/tasks/j2", "/v1/images/tasks/j4"]


def test_s36_without_such_a_place_it_is_unconfirmed_and_never_polled(tmp_path):
    with scripted(lambda body, n: {"id": f"j{n}", "status": "queued"}, picture) as server:
        batch = Batch(tmp_path, PICTURES[:2], "--base-url", server.url, *FLAGS)
        assert batch.run().code == 1
        codes = [record["error"]["code"] for record in batch.whole().values()]
        assert (codes, server.gets) == (["unusable_job_id"] * 2, [])
