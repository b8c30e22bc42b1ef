"""Which HTTP transport a run uses: our own, unless the user or a proxy wants httpx's."""

import asyncio

import pytest

from batchrun.core.settings.settings import Settings, UsageError
from batchrun.edge.exchange import Budget
from batchrun.edge.httpx_transport import HttpxTransport
from batchrun.edge.redaction import Redactor
from batchrun.edge.transport import OwnTransport
from batchrun.runner.opening.service import service_of, transport_to


def transport(origin, settings, environment):
    """One that is made within a loop and given back there."""

    async def made():
        it = transport_to(origin, settings, environment, Redactor(), Budget(1000))
        await it.aclose()
        return it

    return asyncio.run(made())


HTTPS, PROXY = "https://service.example", {"HTTPS_PROXY": "http://proxy.example:3128"}


@pytest.mark.parametrize(
    ("given", "origin", "environment", "chosen"),
    [
        ({}, HTTPS, {}, OwnTransport),
        ({"transport": "own"}, "http://127.0.0.1:8000", PROXY, OwnTransport),
        ({}, HTTPS, {**PROXY, "NO_PROXY": "service.example"}, OwnTransport),
        ({}, HTTPS, PROXY, HttpxTransport),
        ({"transport": "own"}, HTTPS, PROXY, HttpxTransport),
        ({"transport": "httpx"}, HTTPS, {}, HttpxTransport),
    ],
)
def test_our_own_is_taken_where_it_can_be(given, origin, environment, chosen):
    assert type(transport(origin, Settings.of(given), environment)) is chosen


def test_a_proxy_that_cannot_be_is_refused_before_anything_is_sent():
    with pytest.raises(UsageError, match="HTTPS_PROXY: expected"):
        transport(HTTPS, Settings(), {"HTTPS_PROXY": "socks5://x"})


def test_there_is_no_other_transport():
    with pytest.raises(UsageError, match="--transport: expected own or httpx, got 'pigeon'"):
        Settings(transport="pigeon")


@pytest.mark.parametrize("settings", [Settings(service="azure"), Settings(base_url="http://127.0.0.1:9/v1")])
def test_the_demo_is_not_taken_in_place_of_a_service_that_was_named(settings):
    with pytest.raises(UsageError, match="the demo runs on a service of its own"):
        asyncio.run(service_of(settings, {}, "http://127.0.0.1:1/v1"))
