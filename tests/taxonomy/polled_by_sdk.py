"""A program that polls by hand with the installed openai SDK: run by test_sdk.py, also with other versions of the SDK.

python polled_by_sdk.py URL
"""

import sys
import time

import openai

import batchrun.errors
from batchrun import taxonomy

client = openai.OpenAI(base_url=sys.argv[1], api_key="sk-none", max_retries=0)


def polled(prompt):
    """A background job, polled to its end."""
    response = client.responses.create(model="gpt-5", input=prompt, background=True)
    deadline = time.monotonic() + 60
    while taxonomy.classify(response).running:
        taxonomy.raise_for_response(response)  # nothing, while it is running
        assert time.monotonic() < deadline
        time.sleep(0.05)
        response = client.responses.retrieve(response.id)
    return response


def caught(kind, response, **more):
    """The exception of that very class which `raise_for_response` raises."""
    try:
        taxonomy.raise_for_response(response, **more)
    except kind as error:
        assert type(error) is kind, error
        return error
    raise AssertionError(f"no {kind.__name__} for {response}")


def of_sdk(call, *arguments, **more):
    """What the SDK raises for a call."""
    try:
        call(*arguments, **more)
    except openai.APIError as error:
        return error
    raise AssertionError("the SDK raised nothing")


# A job that failed: the SDK raised nothing for it.
failed = polled("[[fail rate_limit_exceeded]] Name a colour")
assert failed.status == "failed"
verdict = taxonomy.classify(failed)
assert (verdict.state, verdict.running, verdict.retryable, verdict.retries) == ("rate_limited", False, True, 4), verdict
assert (verdict.job_id, verdict.error.code) == (failed.id, "rate_limit_exceeded"), verdict
assert taxonomy.classify(failed.to_dict()).error == verdict.error
assert taxonomy.classify(failed.to_json()).error == verdict.error
caught(batchrun.errors.RateLimitError, failed)
as_openai = caught(openai.RateLimitError, failed, as_openai=True)
assert (as_openai.status_code, as_openai.code) == (429, "rate_limit_exceeded"), vars(as_openai)
assert as_openai.response.json()["error"]["code"] == "rate_limit_exceeded"

quota = polled("[[fail insufficient_quota]] Name a colour")
verdict = taxonomy.classify(quota)
assert (verdict.halts, verdict.billing_reason, verdict.retries) == (True, "quota", 0), verdict
caught(openai.RateLimitError, quota, as_openai=True)
caught(openai.InternalServerError, polled("[[fail server_error]] Name a colour"), as_openai=True)

# One that succeeded, and a chat, which has no status.
taxonomy.raise_for_response(polled("Name a colour"), as_openai=True)
chat = client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Name a colour"}])
assert taxonomy.classify(chat).state == "succeeded"

# What the SDK raises itself: a submit that was refused, a poll that failed, and one whose connection failed.
refused = of_sdk(
    client.responses.create, model="gpt-5", input="[[refuse rate_limit_exceeded]] Name a colour", background=True
)
verdict = taxonomy.classify(refused)
assert (verdict.state, verdict.running, verdict.retryable) == ("rate_limited", False, True), verdict
assert caught(openai.RateLimitError, refused, as_openai=True) is refused
unknown = of_sdk(client.responses.retrieve, "resp_unknown")
verdict = taxonomy.classify(unknown)
assert (verdict.state, verdict.running, verdict.error.kind) == (None, None, "NotFoundError"), verdict
assert (verdict.job_id, verdict.retryable) == ("resp_unknown", False), verdict
client.base_url = "http://127.0.0.1:9/v1"
verdict = taxonomy.classify(of_sdk(client.responses.retrieve, "resp_1"))
assert (verdict.running, verdict.error.kind, verdict.retryable) == (None, "APIConnectionError", False), verdict
lost = of_sdk(client.responses.create, model="gpt-5", input="Name a colour", background=True)
verdict = taxonomy.classify(lost)
assert (verdict.running, verdict.retryable, verdict.billing) == (False, True, "not_billed"), verdict

# Every exception of the table can be raised as the SDK's own, whatever its version expects to make one.
for rule in taxonomy.rules():
    for body in (
        {"id": "resp_1", "status": "failed", "error": {"code": rule.word, "message": "m"}},
        {"id": "resp_1", "status": rule.word},
        {"id": "resp_1", "status": "incomplete", "incomplete_details": {"reason": rule.word}},
    ):
        exception = taxonomy.classify(body).exception
        if exception is not None:
            caught(type(exception.to_openai()), body, as_openai=True)
            assert isinstance(exception.to_openai(), openai.OpenAIError), body

print(openai.__version__)
