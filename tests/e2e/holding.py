"""A service whose requests can be held back until a test lets them go: nothing depends on how fast a machine is."""

import contextlib
import http.client
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.e2e.stage import LONGEST


class Holding(ThreadingHTTPServer):
    """Hands requests on to a service, but for those it `holds`, by the end of their path, until it lets go.

    The first `passed` of these are handed on all the same. While jobs are to be `unfinished` each look says that its
    job is in progress. Cancels that were held never arrive: whoever sent them is dead by then. Submits do.
    """

    daemon_threads = True

    def __init__(self, service):
        super().__init__(("127.0.0.1", 0), Handing)
        self.to = service.port
        self.holds = None
        self.passed = 0
        self.unfinished = False
        self.held = Counter()
        self.released = threading.Event()
        self._one_at_a_time = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def is_held(self, request):
        """Whether a request is to be held back."""
        if self.holds is None or request.command != "POST" or not request.path.endswith(self.holds):
            return False
        with self._one_at_a_time:
            self.passed -= 1
            if self.passed >= 0:
                return False
            self.held[request.path] += 1
            return True

    def let_go(self):
        self.holds, self.unfinished = None, False
        self.released.set()

    def handle_error(self, request, client_address):
        """Whom it was serving was killed, or the service hung up."""


class Handing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def hand_on(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.server.is_held(self):
            self.server.released.wait(LONGEST)
            if self.path.endswith("/cancel"):
                self.close_connection = True
                return
        onward = http.client.HTTPConnection("127.0.0.1", self.server.to, timeout=LONGEST)
        onward.request(self.command, self.path, body, {"content-type": "application/json"})
        answer = onward.getresponse()
        data = answer.read()
        onward.close()
        if self.server.unfinished and self.command == "GET" and answer.status == 200:
            data = json.dumps({**json.loads(data), "status": "in_progress", "output": []}).encode()
        self.send_response(answer.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = hand_on  # noqa: N815 - the names are the base class's

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def holding(service, holds=None, passed=0):
    with Holding(service) as proxy:
        proxy.holds, proxy.passed = holds, passed
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.released.set()
            proxy.shutdown()
            thread.join()
