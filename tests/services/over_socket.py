"""A service over a real socket: what its responses mean, without a runner."""

import asyncio

from batchrun.core.settings.settings import UsageError
from batchrun.edge.exchange import Caps
from batchrun.edge.redaction import Redactor
from batchrun.services.choice import choose
from tests.edge.hostile_server import HostileServer
from tests.edge.transports import own

WALL = 1_800_000_000.0
KEY = "sk-canary-51b0a7c2d94e"
BODY = b'{"model": "m", "input": "hi"}'


def openai(origin, **options):
    return choose({"OPENAI_API_KEY": KEY}, base_url=f"{origin}/v1", **options)


def verdicts_of(script, *calls, service_of=openai, open_transport=None, timeout=30.0, caps=None, limit=None):
    """What each call of `calls` comes to, one after the other; a call is ("submit", path), ("poll", id), …

    With `limit` no answer is expected to come in time: a longer one is tried where this machine was too slow for the
    server to see any of the request.
    """
    if limit is not None:
        for longer in (limit, 10 * limit, 100 * limit):
            seen = []

            async def noted(conversation, seen=seen):
                try:
                    await script(conversation)
                finally:
                    seen.append(conversation.server.bytes_seen)

            verdicts = verdicts_of(
                noted, *calls, service_of=service_of, open_transport=open_transport, timeout=longer, caps=caps
            )
            if any(seen):
                break
        return verdicts

    async def main():
        async with HostileServer(script) as server:
            service = service_of(server.origin)
            redactor = Redactor(service.secrets)
            async with (open_transport or own)(service.origin, redactor=redactor, caps=caps or Caps()) as transport:
                verdicts = []
                for kind, what in calls:
                    request = service.submit(what, BODY) if kind == "submit" else getattr(service, kind)(what)
                    answer = await transport.exchange(request, timeout)
                    verdicts.append(getattr(service, f"read_{kind}")(answer, WALL, what))
                return verdicts

    return asyncio.run(main())


def submitted(script, **options):
    (verdict,) = verdicts_of(script, ("submit", "/responses"), **options)
    return verdict


def polled(script, job_id="resp_1", **options):
    (verdict,) = verdicts_of(script, ("poll", job_id), **options)
    return verdict


def usage_error(function, *args, **options):
    """The complaint about a wrong set-up."""
    try:
        function(*args, **options)
    except UsageError as complaint:
        return str(complaint)
    raise AssertionError(f"accepted: {args} {options}")
