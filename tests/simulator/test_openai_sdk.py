"""The simulator is held to the real thing: the openai SDK drives it over HTTP, on a clock turned by hand."""

import asyncio

import openai
import pytest
from openai.types.responses import Response

from batchrun.simulator import Simulator, parse

START = 1_700_000_000.0


def drive(conversation, scenario="", api_key="any"):
    """Run `conversation(client, simulator, turn)`; `turn(delay)` turns the service's clock."""

    async def run():
        now = [START]

        def turn(delay):
            now[0] += delay

        async with (
            Simulator(parse(scenario), clock=lambda: now[0]) as simulator,
            openai.AsyncOpenAI(base_url=simulator.base_url, api_key=api_key, max_retries=0) as client,
        ):
            await conversation(client, simulator, turn)

    asyncio.run(run())


def test_create_in_background_retrieve_cancel_delete():
    async def conversation(client, simulator, turn):
        job = await client.responses.create(model="gpt-5", input="name a colour", background=True, metadata={"a": "b"})
        assert isinstance(job, Response)
        assert (job.status, job.model, job.background, job.metadata) == ("queued", "gpt-5", True, {"a": "b"})
        turn(1)
        assert (await client.responses.retrieve(job.id)).status == "in_progress"
        turn(2)
        done = await client.responses.retrieve(job.id)
        assert (done.status, done.error) == ("completed", None)
        assert len(done.output_text) > 20
        assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens > 0
        await client.responses.delete(job.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(job.id)

        second = await client.responses.create(model="gpt-5", input="name a river", background=True)
        assert (await client.responses.cancel(second.id)).status == "cancelled"
        assert (await client.responses.retrieve(second.id)).status == "cancelled"
        assert (simulator.statistics.posts, simulator.statistics.polls, simulator.statistics.cancels) == (2, 4, 1)

    drive(conversation, "[times]\nqueued = '1s'\nduration = '2s'")


def test_a_failed_job_answers_200_and_raises_nothing():
    async def conversation(client, simulator, turn):
        job = await client.responses.create(model="gpt-5", input="[[fail server_error]] x", background=True)
        turn(2)
        done = await client.responses.retrieve(job.id)
        assert (done.status, done.error.code, done.output, done.usage) == ("failed", "server_error", [], None)

    drive(conversation)


def test_endpoints_that_end_at_the_submit():
    async def conversation(client, simulator, turn):
        told = await client.responses.create(model="gpt-5", input="x")
        assert (told.status, told.background) == ("completed", False)
        chat = await client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "x"}], n=2)
        assert [choice.finish_reason for choice in chat.choices] == ["stop", "stop"]
        assert chat.choices[0].message.content
        assert chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens
        messages = [{"role": "user", "content": "[[incomplete]]"}]
        cut = await client.chat.completions.create(model="gpt-5", messages=messages, max_completion_tokens=7)
        assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 7)
        refused = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "[[refusal]]"}])
        assert refused.choices[0].message.refusal

        vectors = await client.embeddings.create(model="text-embedding-3-small", input=["a", "b", "a"])
        first, second, third = (item.embedding for item in vectors.data)
        assert (len(first), first == third, first == second) == (1536, True, False)
        assert sum(x * x for x in first) == pytest.approx(1, abs=1e-5)
        plain = await client.embeddings.create(model="text-embedding-3-small", input="a", encoding_format="float")
        assert plain.data[0].embedding == pytest.approx(first)
        short = await client.embeddings.create(model="text-embedding-3-small", input="a", dimensions=3)
        assert len(short.data[0].embedding) == 3

        images = await client.images.generate(model="gpt-image-1", prompt="x", n=2)
        assert [item.b64_json[:8] for item in images.data] == ["iVBORw0K"] * 2
        linked = await client.images.generate(model="dall-e-3", prompt="x", response_format="url")
        assert linked.data[0].url.startswith("https://")
        assert [model.id async for model in client.models.list()][:1] == ["gpt-5"]

    drive(conversation, "[times]\nduration = '0s'")


@pytest.mark.parametrize(
    ("prompt", "kind", "code"),
    [
        ("[[refuse invalid_prompt]]", openai.BadRequestError, "invalid_prompt"),
        ("[[refuse invalid_api_key]]", openai.AuthenticationError, "invalid_api_key"),
        ("[[refuse permission_denied]]", openai.PermissionDeniedError, "permission_denied"),
        ("[[refuse model_not_found]]", openai.NotFoundError, "model_not_found"),
        ("[[refuse http_409]]", openai.ConflictError, None),
        ("[[refuse http_422]]", openai.UnprocessableEntityError, None),
        ("[[refuse rate_limit_exceeded]]", openai.RateLimitError, "rate_limit_exceeded"),
        ("[[refuse insufficient_quota]]", openai.RateLimitError, "insufficient_quota"),
        ("[[refuse server_error]]", openai.InternalServerError, "server_error"),
        ("[[refuse dropped]]", openai.APIConnectionError, None),
    ],
)
def test_refusals_are_the_sdks_exceptions(prompt, kind, code):
    async def conversation(client, simulator, turn):
        with pytest.raises(kind) as refused:
            await client.responses.create(model="gpt-5", input=prompt, background=True)
        assert getattr(refused.value, "code", None) == code
        if isinstance(refused.value, openai.APIStatusError):
            assert refused.value.request_id.startswith("req_")

    drive(conversation)


def test_a_wrong_key_an_unknown_job_and_a_rate():
    async def conversation(client, simulator, turn):
        with pytest.raises(openai.AuthenticationError) as wrong:
            await client.models.list()
        assert wrong.value.code == "invalid_api_key"
        client.api_key = "sk-right"
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve("resp_123")
        await client.responses.create(model="gpt-5", input="x", background=True)
        with pytest.raises(openai.RateLimitError) as limited:
            await client.responses.create(model="gpt-5", input="x", background=True)
        assert limited.value.response.headers["retry-after-ms"] == "1000"
        assert limited.value.response.headers["x-ratelimit-limit-requests"] == "60"

    drive(conversation, "api_key = 'sk-right'\n[limits]\nrpm = 60", api_key="sk-wrong")


def test_the_sdks_own_retry_honours_retry_after():
    async def conversation(client, simulator, turn):
        told = await client.with_options(max_retries=1).responses.create(model="gpt-5", input="[[refuse http_429 1]] x")
        assert told.status == "completed"
        assert simulator.statistics.posts_of({"model": "gpt-5", "input": "[[refuse http_429 1]] x"}) == 2

    drive(conversation, "[times]\nretry_after = '10ms'\nduration = '0s'")


def test_streams_are_refused_clearly():
    async def conversation(client, simulator, turn):
        with pytest.raises(openai.BadRequestError, match="does not stream"):
            await client.responses.create(model="gpt-5", input="x", stream=True)
        with pytest.raises(openai.BadRequestError, match="does not stream"):
            await client.chat.completions.create(model="gpt-5", messages=[], stream=True)
        job = await client.responses.create(model="gpt-5", input="x", background=True)
        with pytest.raises(openai.BadRequestError, match="does not stream"):
            await client.responses.retrieve(job.id, stream=True)

    drive(conversation)
