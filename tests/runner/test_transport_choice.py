"""Which wire carries a run: our own, unless the user or a proxy wants httpx's."""

import asyncio

import pytest

from batchrun.core.settings.settings import Settings, UsageError
from batchrun.edge.exchange import Budget
from batchrun.edge.httpx_transport import HttpxTransport
from batchrun.edge.redaction import Redactor
from batchrun.edge.transport import OwnTransport
from batchrun.runner.opening.service import wire_to


def wire(origin, settings, environment):
    """One that is made within a loop and given back there."""

    async def made():
        it = wire_to(origin, settings, environment, Redactor(), Budget(1000))
        await it.aclose()
        return it

    return asyncio.run(made())


HTTPS, PROXY = "https://service.example", {"HTTPS_PROXY": "http://proxy.example:3128"}


@pytest.mark.parametrize(
    ("given", "origin", "environment", "chosen"),
    [
        ({}, HTTPS, {}, OwnTransport),
        ({"wire": "own"}, "http://127.0.0.1:8000", PROXY, OwnTransport),
        ({}, HTTPS, {**PROXY, "NO_PROXY": "service.example"}, OwnTransport),
        ({}, HTTPS, PROXY, HttpxTransport),
        ({"wire": "own"}, HTTPS, PROXY, HttpxTransport),
        ({"wire": "httpx"}, HTTPS, {}, HttpxTransport),
    ],
)
def test_our_own_wire_is_taken_where_it_can_be(given, origin, environment, chosen):
    assert type(wire(origin, Settings.of(given), environment)) is chosen


def test_a_proxy_that_cannot_be_is_refused_before_anything_is_sent():
    with pytest.raises(UsageError, match="HTTPS_PROXY: expected"):
        wire(HTTPS, Settings(), {"HTTPS_PROXY": "socks5://x"})


def test_another_wire_there_is_not():
    with pytest.raises(UsageError, match="--wire: expected own or httpx, got 'pigeon'"):
        Settings(wire="pigeon")
