"""The fields that a body may have, held against the installed openai package, and what is said of others."""

from importlib import import_module

import pytest

from batchrun.core.rows.body_fields import (
    BODY_FIELDS,
    has_usual_fields,
    odd_prompt,
    unknown_field_message,
    unknown_fields,
)
from batchrun.core.rows.parse import ENDPOINTS, RESPONSES, Admitted, BodyFlags, Endpoint, Form, RowParser

PARAMETERS = {
    "/responses": ("responses.response_create_params", "ResponseCreateParamsNonStreaming"),
    "/chat/completions": ("chat.completion_create_params", "CompletionCreateParamsNonStreaming"),
    "/embeddings": ("embedding_create_params", "EmbeddingCreateParams"),
    "/images/generations": ("image_generate_params", "ImageGenerateParamsNonStreaming"),
}
INTAKE = RowParser(BodyFlags(model="m"))


def found(line):
    row = INTAKE.admit(line.encode())
    assert isinstance(row, Admitted), row
    return row.endpoint, row.form, row.body


def test_the_fields_are_those_of_the_openai_package():
    """Fails when the SDK grows a field or drops one; what it prints is what belongs into the list."""
    of_sdk = {
        path: frozenset(getattr(import_module(f"openai.types.{module}"), name).__annotations__)
        for path, (module, name) in PARAMETERS.items()
    }
    assert of_sdk.keys() == {one.path for one in ENDPOINTS} == BODY_FIELDS.keys()
    wrong = {path: sorted(fields ^ BODY_FIELDS[path]) for path, fields in of_sdk.items()}
    assert wrong == {path: [] for path in of_sdk}, {path: " ".join(sorted(fields)) for path, fields in of_sdk.items()}
    assert min(map(len, of_sdk.values())) >= 5


@pytest.mark.parametrize(("line", "unknown"), [
    ('{"prompt": "x", "custom_id": "a", "metadata": {"label": 1}}', []),
    ('{"prompt": "x", "label": 1, "top_k": 2}', ["label", "top_k"]),
    ('{"input": "x", "metadata": {}, "url": "/v1/responses", "method": "POST"}', []),
    ('{"messages": [], "max_tokens": 5, "label": 1}', ["label"]),
    ('{"custom_id": "a", "body": {"input": "x", "label": 1}}', ["label"]),
    ('{"custom_id": "a", "body": {"input": "x", "custom_id": "b"}}', ["custom_id"]),  # the body's own is sent
    ('{"custom_id": "a", "url": "/v1/embeddings", "body": {"input": "x", "metadata": {}}}', ["metadata"]),
    ('{"url": "/v1/images/generations", "body": {"prompt": "x", "size": "y", "background": "z"}}', []),
    ('{"url": "/openai/v1/chat/completions", "body": {"messages": [], "input": 1}}', ["input"]),
])  # fmt: skip
def test_a_field_that_the_endpoint_is_not_known_to_have(line, unknown):
    endpoint, form, body = found(line)
    assert unknown_fields(endpoint, form, body) == unknown
    if unknown:
        assert not has_usual_fields(endpoint, form, body)
    elif "prompt" not in body:
        assert has_usual_fields(endpoint, form, body)


def test_of_an_endpoint_of_another_service_nothing_is_known():
    of_service = Endpoint("/queue/run", background=True)
    assert has_usual_fields(of_service, Form.BARE, {"anything": 1})
    assert odd_prompt(of_service, Form.BARE, {"prompt": 5}) is None


@pytest.mark.parametrize(("line", "says"), [
    ('{"prompt": "x"}', None),
    ('{"prompt": {"id": "pmpt_1"}}', None),  # a prompt that the service keeps
    ('{"prompt": 5}', "expected a string as prompt, got a number"),
    ('{"prompt": ["x"]}', "expected a string as prompt, got a list"),
    ('{"prompt": "x", "input": "y"}', "got a string: write the text as input"),
    ('{"body": {"prompt": "x"}}', "got a string: write the text as input"),
    ('{"body": {"input": "x", "prompt": null}}', None),
    ('{"url": "/v1/images/generations", "prompt": "x"}', None),
    ('{"url": "/v1/images/generations", "prompt": 5}', "expected a string as prompt, got a number"),
])  # fmt: skip
def test_a_prompt_that_is_no_text(line, says):
    endpoint, form, body = found(line)
    said = odd_prompt(endpoint, form, body)
    assert said == says or says in said
    assert says is None or not has_usual_fields(endpoint, form, body)


@pytest.mark.parametrize(("form", "name", "says"), [
    (Form.BARE, "label", "unknown field 'label' of /responses, sent as it is: leave it out"),
    (Form.SHORTHAND, "label", "unknown field 'label' of /responses, sent as it is: leave it out, or put it into metadata"),
    (Form.BARE, "max_tokens", "did you mean max_output_tokens?"),
    (Form.BARE, "temprature", "did you mean temperature?"),
    (Form.BARE, "top_k", "leave it out"),  # vLLM's; not a wrong top_p
    (Form.BARE, "\x1b[2J", "x1b[2J' of /responses"),
])  # fmt: skip
def test_what_is_said_of_it(form, name, says):
    said = unknown_field_message(RESPONSES, form, name)
    assert says in said
    assert "\x1b" not in said
    assert len(said) < 120
