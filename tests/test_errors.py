import pickle

import openai
import pytest

from batchrun import errors
from batchrun.core.records.record import RecordLine, record_id
from batchrun.core.responses.error import our_problem
from batchrun.core.responses.http import Answer
from batchrun.core.responses.verdict import read_poll, read_submit
from batchrun.core.taxonomy.rules import KINDS, TAXONOMY, State, WordField
from batchrun.results.record import Record


def failed(code=None, status="failed", message="it broke", **more):
    """The exception of a background job that failed over there: its poll answered 200."""
    error = {"code": code, "message": message, **more}
    seen = read_poll(Answer(200, {}, __import__("orjson").dumps({"status": status, "error": error})), 0.0, "resp_1")
    return of_problem(seen.outcome.problem, seen.outcome.state, status, seen.outcome.billing_reason)


def of_problem(problem, state, status=None, billing_reason=None):
    return errors.error_of(record(state, job_id="resp_1", status=status, error=problem, billing_reason=billing_reason))


def record(state, **more):
    return Record(RecordLine(id=record_id("r", "row-1"), custom_id="row-1", state=state, **more).to_json())


def refused(status, body=b""):
    verdict = read_submit(Answer(status, {}, body), 0.0)
    return of_problem(verdict.problem, verdict.rule.state)


def test_the_hierarchy_is_the_one_of_the_table():
    for name, kind in KINDS.items():
        exception = getattr(errors, name)
        assert exception.__name__ == name
        assert exception.__bases__ == (getattr(errors, kind.parent),)
        assert exception.__doc__


def test_a_failed_background_job_is_caught_as_the_sdks_own_error():
    with pytest.raises(openai.InternalServerError) as caught:
        raise failed("server_error").to_openai()
    assert caught.value.code == "server_error"
    assert caught.value.status_code == 500
    assert caught.value.response.headers[errors.SYNTHETIC_HEADER] == "true"
    assert isinstance(caught.value.__cause__, errors.InternalServerError)


@pytest.mark.parametrize(
    ("error", "ours", "theirs", "status"),
    [
        (failed("rate_limit_exceeded"), "RateLimitError", openai.RateLimitError, 429),
        (failed("insufficient_quota"), "QuotaExceededError", openai.RateLimitError, 429),
        (failed("budget_exceeded"), "QuotaExceededError", openai.APIStatusError, 402),
        (refused(402), "QuotaExceededError", openai.APIStatusError, 402),
        (refused(429, b'{"error": {"code": "insufficient_quota"}}'), "QuotaExceededError", openai.RateLimitError, 429),
        (refused(401), "AuthenticationError", openai.AuthenticationError, 401),
        (refused(403), "PermissionDeniedError", openai.PermissionDeniedError, 403),
        (refused(404), "NotFoundError", openai.NotFoundError, 404),
        (refused(422), "UnprocessableEntityError", openai.UnprocessableEntityError, 422),
        (failed("409"), "ConflictError", openai.ConflictError, 409),
        (failed("invalid_prompt"), "BadRequestError", openai.BadRequestError, 400),
        (failed("moderation_blocked"), "ContentPolicyError", openai.BadRequestError, 400),
        (failed("bio_policy"), "PolicyViolationError", openai.BadRequestError, 400),
        (failed("vector_store_timeout"), "APITimeoutError", openai.APITimeoutError, None),
        (of_problem(our_problem("deadline_exceeded", "24 h"), State.TIMEOUT), "APITimeoutError", openai.APITimeoutError, None),
        (of_problem(our_problem("connection_failed", "refused"), State.SERVICE_UNAVAILABLE), "APIConnectionError", openai.APIConnectionError, None),
        (of_problem(our_problem("invalid_json", "line 3"), State.REJECTED), "BadRequestError", openai.BadRequestError, 400),
        (of_problem(our_problem("answer_lost", "?"), State.UNCONFIRMED), "JobUnconfirmed", openai.APIError, None),
        (failed("max_output_tokens", status="incomplete"), "JobIncomplete", openai.APIError, None),
        (failed(status="cancelled"), "JobCancelled", openai.APIError, None),
        (failed(), "JobFailed", openai.APIError, None),
    ],
)  # fmt: skip
def test_ours_and_theirs(error, ours, theirs, status):
    assert type(error) is getattr(errors, ours)
    made = error.to_openai()
    assert type(made) is theirs
    assert getattr(made, "status_code", None) == status
    assert made.__cause__ is error


def test_an_early_stop_is_an_apierror_for_length_and_the_sdks_own_for_the_filter():
    def stopped(reason):
        body = f'{{"status":"incomplete","incomplete_details":{{"reason":"{reason}"}}}}'.encode()
        outcome = read_poll(Answer(200, {}, body), 0.0, "resp_1").outcome
        return of_problem(outcome.problem, outcome.state, "incomplete")

    assert type(stopped("max_output_tokens")) is errors.LengthFinishReasonError
    assert type(stopped("max_output_tokens").to_openai()) is openai.APIError
    assert type(stopped("content_filter")) is errors.ContentFilterFinishReasonError
    assert type(stopped("content_filter").to_openai()) is openai.ContentFilterFinishReasonError


@pytest.mark.parametrize(
    "rule", [rule for rule in TAXONOMY if rule.field is WordField.TOOL], ids=lambda rule: rule.word
)
def test_what_batchrun_says_itself_converts_too(rule):
    error = of_problem(our_problem(rule.word, "because"), rule.state)
    assert isinstance(error.to_openai(), openai.OpenAIError)


def test_an_exception_carries_what_a_program_needs():
    error = failed("insufficient_quota", type="insufficient_quota", param="model", message="no money")
    assert (error.code, error.type, error.param, error.message) == (
        "insufficient_quota",
        "insufficient_quota",
        "model",
        "no money",
    )
    assert (error.retryable, error.billing_reason, error.record.key) == (False, "quota", "row-1")
    assert str(error) == "row-1: no money"
    assert failed("server_error").type == "internal_server_error", (
        "the taxonomy names a type where the service names none"
    )


def test_an_exception_survives_a_process_boundary():
    error = pickle.loads(pickle.dumps(failed("server_error")))
    assert (type(error), error.code) == (errors.InternalServerError, "server_error")


def test_success_is_no_error():
    assert errors.error_of(record(State.SUCCEEDED)) is None


def test_without_openai_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(ImportError, match=r"pip install 'batchrun-jobs\[openai\]'"):
        failed("server_error").to_openai()
