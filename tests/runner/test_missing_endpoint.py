"""A service without the endpoint that a row goes to: said once, with how to go on."""

import http.server
import json
import threading
from contextlib import contextmanager

import pytest

import batchrun
from batchrun.cli import main
from batchrun.core.responses.error import ErrorParts, Source, judge
from batchrun.core.text.readable import worded
from batchrun.runner.loop.missing_endpoint import missing_endpoint

CHAT = {
    "id": "chatcmpl-1", "object": "chat.completion", "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
}  # fmt: skip


def said(status, message, path="/responses", *, code=None, has_chat=True):
    judged = judge(ErrorParts(code, None, message), Source.HTTP, http_status=status)
    text = missing_endpoint(judged.problem, judged.rule, path, "/v1", has_chat=has_chat)
    return None if text is None else worded(text)


@pytest.mark.parametrize(("status", "message"), [
    (404, "Not Found"),
    (404, "404 page not found"),
    (404, "Cannot POST /v1/responses"),
    (405, "Method Not Allowed"),
    (501, "not implemented"),
    (404, ""),
])  # fmt: skip
def test_a_service_without_responses_is_told_with_path_and_message(status, message):
    text = said(status, message)
    assert text.startswith(f"the service has no POST /v1/responses (HTTP {status}{message and ': '}{message}); write")
    assert 'chat completions, {"messages": [{"role": "user", "content": "…"}]}, or correct --base-url' in text
    assert "chat completions" not in said(status, message, has_chat=False)
    assert '"url": "/v1/responses"' in said(status, message, "/embeddings")


@pytest.mark.parametrize(("status", "message", "code"), [
    (404, "The model `x` does not exist.", None),
    (404, "no such thing", "model_not_found"),
    (404, "The API deployment for this resource does not exist", "DeploymentNotFound"),
    (400, "Not Found", None),
    (429, "slow down", None),
])  # fmt: skip
def test_what_is_about_the_row_is_no_sign_of_it(status, message, code):
    assert said(status, message, code=code) is None


@contextmanager
def chat_alone():
    """A server that has chat completions and nothing else; gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            known = self.path == "/v1/chat/completions"
            body = json.dumps(CHAT if known else {"detail": "Not Found"}).encode()
            self.send_response(200 if known else 404)
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


def test_the_command_says_it_once_and_what_it_says_works(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text("".join(f'{{"prompt": "{n}", "model": "m"}}\n' for n in range(5)))
    (tmp_path / "chat.jsonl").write_text('{"messages": [{"role": "user", "content": "…"}], "model": "m"}\n')
    with chat_alone() as address:
        assert main(["in.jsonl", "-o", "out.jsonl", "--base-url", address]) == 1
        err = capsys.readouterr().err
        assert err.count("the service has no POST /v1/responses (HTTP 404: Not Found); write the rows for") == 1
        assert main(["chat.jsonl", "-o", "chat-out.jsonl", "--base-url", address]) == 0
        assert "has no POST" not in capsys.readouterr().err


def test_python_says_it_in_its_own_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Notes(batchrun.Observer):
        def noted(self, text):
            notes.append(text)

    notes = []
    with chat_alone() as address:
        records = batchrun.run_sync(["a", "b"], model="m", base_url=address, observers=Notes(), progress=False)
    assert [record.http_status or record.error.http_status for record in records] == [404, 404]
    assert len(notes) == 1
    assert notes[0].endswith("or correct base_url=…")
