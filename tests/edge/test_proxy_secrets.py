"""A proxy that echoes the user info of its URL: the password is in no message and no log."""

import asyncio
import base64
import logging
from urllib.parse import quote

import pytest

from batchrun.core.responses.http import Failure
from tests.edge.hostile_server import HostileServer
from tests.edge.transports import POST, by_httpx

PASSWORDS = ["pw-canary-51b0a7c2", "p@ss/+word", "hunt3r"]


@pytest.mark.parametrize("echo", ["Basic {both64}", "{user}:{password}", "{url}", "no {password} here", "{escaped}"])
@pytest.mark.parametrize("password", PASSWORDS)
def test_h12_a_proxy_that_refuses_may_say_what_it_was_given(password, echo, caplog):
    caplog.set_level(logging.DEBUG)
    forms = {
        "user": "me",
        "password": password,
        "url": f"me:{quote(password, safe='')}",
        "both64": base64.b64encode(f"me:{password}".encode()).decode(),
        "escaped": "".join(f"\\u{ord(char):04x}" for char in password),
    }

    async def main():
        said = f"HTTP/1.1 407 denied {echo.format(**forms)}\r\ncontent-length: 0\r\n\r\n"
        async with HostileServer(said.encode()) as proxy:
            url = f"http://me:{quote(password, safe='')}@127.0.0.1:{proxy.port}"
            async with by_httpx("https://api.example.com", environment={"HTTPS_PROXY": url}) as transport:
                return await transport.exchange(POST, 30.0)

    failure = asyncio.run(main())
    assert isinstance(failure, Failure)
    assert not failure.sent
    assert "407 denied" in failure.message
    assert "[redacted]" in failure.message
    for text in (failure.message, repr(failure), caplog.text if len(password) >= 12 else ""):
        assert not any(form in text for name, form in forms.items() if name != "user")
